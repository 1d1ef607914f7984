"""The first tables."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "counters",
        sa.Column("key", sa.String(), nullable=False),
        sa.Column("hourly_start", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("hourly_used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("hourly_held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("daily_start", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("daily_used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("daily_held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("weekly_start", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("weekly_used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("weekly_held", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("monthly_start", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("monthly_used", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("monthly_held", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint("key", name=op.f("pk_counters")),
        postgresql_with={"fillfactor": 50},
    )
    op.create_table(
        "meta",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("revision", sa.BigInteger(), nullable=False),
        sa.Column("zone", sa.String(), nullable=False),
        sa.Column("clock_offset", sa.Double(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_meta_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_meta")),
    )
    op.create_table(
        "mirror_objects",
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("digest", sa.String(), nullable=False),
        sa.Column("updated_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint("kind", "id", name=op.f("pk_mirror_objects")),
    )
    op.create_table(
        "notices",
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("window_kind", sa.String(), nullable=False),
        sa.Column("window_start", sa.BigInteger(), nullable=False),
        sa.Column("threshold", sa.String(), nullable=False),
        sa.Column("hard", sa.BigInteger(), nullable=False),
        sa.Column("claimed_at", sa.Double(), nullable=False),
        sa.PrimaryKeyConstraint(
            "user_id", "counter", "window_kind", "window_start", "threshold", "hard", name=op.f("pk_notices")
        ),
    )
    op.create_index(op.f("ix_notices_claimed_at"), "notices", ["claimed_at"], unique=False)

    op.create_table(
        "policy_groups",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("name", sa.String(), nullable=False),
        sa.Column("parent_id", sa.String(), nullable=True),
        sa.Column("limits", sa.JSON(none_as_null=True), nullable=True),
        sa.Column("problem", sa.String(), nullable=True),
        sa.Column("source_updated_at", sa.BigInteger(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_groups")),
    )
    op.create_table(
        "policy_members",
        sa.Column("group_id", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("group_id", "user_id", name=op.f("pk_policy_members")),
    )
    op.create_index(op.f("ix_policy_members_user_id"), "policy_members", ["user_id"], unique=False)

    op.create_table(
        "policy_users",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("email", sa.String(), nullable=True),
        sa.Column("name", sa.String(), nullable=True),
        sa.Column("role", sa.String(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_policy_users")),
    )
    op.create_table(
        "processes",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("host", sa.String(), nullable=False),
        sa.Column("pid", sa.Integer(), nullable=False),
        sa.Column("version", sa.String(), nullable=False),
        sa.Column("started_at", sa.Double(), nullable=False),
        sa.Column("seen_at", sa.Double(), nullable=False),
        sa.Column("policy_revision", sa.BigInteger(), nullable=True),
        sa.Column("limits_digest", sa.String(), nullable=True),
        sa.Column("spool_depth", sa.Integer(), server_default="0", nullable=False),
        sa.Column("open_since", sa.Double(), nullable=True),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_processes")),
    )
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(), nullable=False),
        sa.Column("state", sa.String(), nullable=False),
        sa.Column("admitted_at", sa.Double(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("process_id", sa.String(), nullable=False),
        sa.Column("amount", sa.BigInteger(), nullable=False),
        sa.Column("holds", sa.JSON(), nullable=False),
        sa.Column("starts", sa.JSON(), nullable=False),
        sa.Column("call", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reservations")),
    )
    op.create_index(op.f("ix_reservations_lease_until"), "reservations", ["lease_until"], unique=False)

    op.create_table(
        "sync_state",
        sa.Column("id", sa.Integer(), autoincrement=False, nullable=False),
        sa.Column("leader_id", sa.String(), nullable=True),
        sa.Column("fence", sa.BigInteger(), nullable=False),
        sa.Column("lease_until", sa.Double(), nullable=False),
        sa.Column("last_started_at", sa.Double(), nullable=True),
        sa.Column("last_success_at", sa.Double(), nullable=True),
        sa.Column("last_error", sa.String(), nullable=True),
        sa.Column("problems", sa.JSON(), nullable=False),
        sa.Column("cursor", sa.JSON(), nullable=False),
        sa.CheckConstraint("id = 1", name=op.f("ck_sync_state_one_row")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_sync_state")),
    )
    op.create_table(
        "usage_charges",
        sa.Column("counter", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("reservation_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("charge", sa.BigInteger(), nullable=False),
        sa.PrimaryKeyConstraint("counter", "at", "reservation_id", "type", name=op.f("pk_usage_charges")),
        sqlite_with_rowid=False,
    )
    op.create_index(op.f("ix_usage_charges_at"), "usage_charges", ["at"], unique=False, postgresql_using="brin")

    op.create_table(
        "usage_daily",
        sa.Column("day", sa.String(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=False),
        sa.Column("service_id", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("deciding_group_id", sa.String(), nullable=False),
        sa.Column("calls", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("prompt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("charge", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("estimated_charge", sa.BigInteger(), server_default="0", nullable=False),
        sa.PrimaryKeyConstraint(
            "day", "user_id", "service_id", "model", "kind", "deciding_group_id", name=op.f("pk_usage_daily")
        ),
    )
    op.create_index(op.f("ix_usage_daily_user_id_day"), "usage_daily", ["user_id", "day"], unique=False)

    op.create_table(
        "usage_events",
        sa.Column("reservation_id", sa.String(), nullable=False),
        sa.Column("type", sa.String(), nullable=False),
        sa.Column("at", sa.Double(), nullable=False),
        sa.Column("recorded_at", sa.Double(), nullable=False),
        sa.Column("user_id", sa.String(), nullable=True),
        sa.Column("service_id", sa.String(), nullable=True),
        sa.Column("caller", sa.String(), nullable=False),
        sa.Column("kind", sa.String(), nullable=False),
        sa.Column("route", sa.String(), nullable=False),
        sa.Column("model", sa.String(), nullable=False),
        sa.Column("deciding_group_id", sa.String(), nullable=True),
        sa.Column("counters", sa.JSON(), nullable=False),
        sa.Column("prompt", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("completion", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("cached", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("reasoning", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("weight", sa.String(), nullable=False),
        sa.Column("charge", sa.BigInteger(), server_default="0", nullable=False),
        sa.Column("ending", sa.String(), nullable=False),
        sa.Column("estimated", sa.Boolean(), nullable=False),
        sa.Column("reason", sa.String(), nullable=True),
        sa.PrimaryKeyConstraint("reservation_id", "type", name=op.f("pk_usage_events")),
    )
    op.create_index(op.f("ix_usage_events_at"), "usage_events", ["at"], unique=False)
    op.create_index(op.f("ix_usage_events_user_id_at"), "usage_events", ["user_id", "at"], unique=False)

    op.create_index("ix_policy_users_lower_email", "policy_users", [sa.text("lower(email)")], unique=False)
    op.execute("INSERT INTO meta (id, revision, zone, clock_offset) VALUES (1, 0, 'UTC', 0)")
    op.execute("INSERT INTO sync_state (id, fence, lease_until, problems, \"cursor\") VALUES (1, 0, 0, '[]', '{}')")
