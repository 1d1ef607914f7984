"""Every table, once. Migrations are checked against this, and SQL elsewhere takes its column names from here.

Times are epoch seconds (UTC) in double precision, window starts are whole epoch seconds, tokens are 64-bit integers.
On PostgreSQL the tables live in the schema the settings name (`engine.make_engine` maps it); SQLite has none.
"""

from typing import Final

from sqlalchemy import (
    JSON,
    BigInteger,
    Boolean,
    CheckConstraint,
    Column,
    Double,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    func,
)

from owui_budget.domain.windows import Window

metadata: Final = MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_N_name)s",
        "uq": "uq_%(table_name)s_%(column_0_N_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_N_name)s",
        "pk": "pk_%(table_name)s",
    }
)


def _tokens(name: str) -> Column[int]:
    return Column(name, BigInteger, nullable=False, server_default="0")


meta = Table(
    "meta",
    metadata,
    # One row, read with every batch: what all processes must agree on.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("revision", BigInteger, nullable=False),
    Column("zone", String, nullable=False),
    Column("clock_offset", Double, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

WINDOW_COLUMNS: Final = tuple(f"{window}_{part}" for window in Window for part in ("start", "used", "held"))
"""The columns of `counters` after its key: start, used and held of each window, shortest window first."""

counters = Table(
    "counters",
    metadata,
    # One row per subject with its four current windows, so that a call touches one row per subject.
    Column("key", String, primary_key=True),
    *(_tokens(name) for name in WINDOW_COLUMNS),
    # Room on each page for new row versions: an update then touches no index (PostgreSQL's HOT updates).
    postgresql_with={"fillfactor": 50},
)

reservations = Table(
    "reservations",
    metadata,
    # Open calls, and for some hours those that were released (a tombstone, so that no replay can settle them).
    # A settled or expired call is gone from here: its event is the record.
    Column("id", String, primary_key=True),
    Column("state", String, nullable=False),
    Column("admitted_at", Double, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("process_id", String, nullable=False),
    Column("amount", BigInteger, nullable=False),
    Column("holds", JSON, nullable=False),
    Column("starts", JSON, nullable=False),
    Column("call", JSON, nullable=False),
    Index(None, "lease_until"),
)

usage_events = Table(
    "usage_events",
    metadata,
    # Append-only. `at` is the admission and decides the windows; `recorded_at` is when it was written.
    Column("reservation_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("recorded_at", Double, nullable=False),
    Column("user_id", String),
    Column("service_id", String),
    Column("caller", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("route", String, nullable=False),
    Column("model", String, nullable=False),
    Column("deciding_group_id", String),
    Column("counters", JSON, nullable=False),
    _tokens("prompt"),
    _tokens("completion"),
    _tokens("cached"),
    _tokens("reasoning"),
    Column("weight", String, nullable=False),
    _tokens("charge"),
    Column("ending", String, nullable=False),
    Column("estimated", Boolean, nullable=False),
    Column("reason", String),
    # A call is charged once, whatever is repeated: one event of each type.
    PrimaryKeyConstraint("reservation_id", "type"),
    Index(None, "user_id", "at"),
    Index(None, "at"),
)

usage_charges = Table(
    "usage_charges",
    metadata,
    # What each event charges to which counter, limited today or not: sums per counter and time are one index scan.
    Column("counter", String, nullable=False),
    Column("at", Double, nullable=False),
    Column("reservation_id", String, nullable=False),
    Column("type", String, nullable=False),
    Column("charge", BigInteger, nullable=False),
    PrimaryKeyConstraint("counter", "at", "reservation_id", "type"),
    # Rows arrive in order of time, so a block range index serves the retention's delete for next to nothing.
    Index(None, "at", postgresql_using="brin"),
    sqlite_with_rowid=False,
)

usage_daily = Table(
    "usage_daily",
    metadata,
    # What remains of events past their retention. `day` is YYYY-MM-DD in the ledger's zone; '' stands for none.
    Column("day", String, nullable=False),
    Column("user_id", String, nullable=False),
    Column("service_id", String, nullable=False),
    Column("model", String, nullable=False),
    Column("kind", String, nullable=False),
    Column("deciding_group_id", String, nullable=False),
    _tokens("calls"),
    _tokens("prompt"),
    _tokens("completion"),
    _tokens("cached"),
    _tokens("reasoning"),
    _tokens("charge"),
    _tokens("estimated_charge"),
    PrimaryKeyConstraint("day", "user_id", "service_id", "model", "kind", "deciding_group_id"),
    Index(None, "user_id", "day"),
)

notices = Table(
    "notices",
    metadata,
    Column("user_id", String, nullable=False),
    Column("counter", String, nullable=False),
    # The column is not called `window`: PostgreSQL reserves the word.
    Column("window_kind", String, nullable=False),
    Column("window_start", BigInteger, nullable=False),
    Column("threshold", String, nullable=False),
    Column("hard", BigInteger, nullable=False),
    Column("claimed_at", Double, nullable=False),
    PrimaryKeyConstraint("user_id", "counter", "window_kind", "window_start", "threshold", "hard"),
    Index(None, "claimed_at"),
)

processes = Table(
    "processes",
    metadata,
    # Heartbeats of hook and sync processes. Times here are the machine's, not the test clock's.
    Column("id", String, primary_key=True),
    Column("kind", String, nullable=False),
    Column("host", String, nullable=False),
    Column("pid", Integer, nullable=False),
    Column("version", String, nullable=False),
    Column("started_at", Double, nullable=False),
    Column("seen_at", Double, nullable=False),
    Column("policy_revision", BigInteger),
    Column("limits_digest", String),
    Column("spool_depth", Integer, nullable=False, server_default="0"),
    Column("open_since", Double),
    Column("problems", JSON, nullable=False),
)

policy_groups = Table(
    "policy_groups",
    metadata,
    Column("id", String, primary_key=True),
    Column("name", String, nullable=False),
    Column("parent_id", String),
    # `usage_limits` as an admin wrote it, the last valid one; SQL NULL for none.
    Column("limits", JSON(none_as_null=True)),
    Column("problem", String),
    Column("source_updated_at", BigInteger),
)

policy_users = Table(
    "policy_users",
    metadata,
    Column("id", String, primary_key=True),
    Column("email", String),
    Column("name", String),
    Column("role", String, nullable=False),
)
Index("ix_policy_users_lower_email", func.lower(policy_users.c.email))

policy_members = Table(
    "policy_members",
    metadata,
    Column("group_id", String, nullable=False),
    Column("user_id", String, nullable=False),
    PrimaryKeyConstraint("group_id", "user_id"),
    Index(None, "user_id"),
)

sync_state = Table(
    "sync_state",
    metadata,
    # One row: which sync process leads, and how the last sync went. `fence` grows with every change of leader.
    Column("id", Integer, primary_key=True, autoincrement=False),
    Column("leader_id", String),
    Column("fence", BigInteger, nullable=False),
    Column("lease_until", Double, nullable=False),
    Column("last_started_at", Double),
    Column("last_success_at", Double),
    Column("last_error", String),
    Column("problems", JSON, nullable=False),
    Column("cursor", JSON, nullable=False),
    CheckConstraint("id = 1", name="one_row"),
)

mirror_objects = Table(
    "mirror_objects",
    metadata,
    # What was last mirrored to LiteLLM, by kind (team, budget, customer) and id.
    Column("kind", String, nullable=False),
    Column("id", String, nullable=False),
    Column("digest", String, nullable=False),
    Column("updated_at", Double, nullable=False),
    PrimaryKeyConstraint("kind", "id"),
)
