"""Heartbeats: one row per hook or sync process, which `owui-budget status` shows. Times are the machine's."""

from dataclasses import asdict, dataclass
from typing import Final

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from owui_budget.database.tables import processes
from owui_budget.ledger.access import shared, snapshot

FORGOTTEN_AFTER: Final = 24 * 3600.0
"""Seconds after its last heartbeat at which a vanished process leaves the table."""


@dataclass(frozen=True, slots=True)
class Heartbeat:
    """How one process is doing."""

    id: str
    kind: str
    """`hooks` or `sync`."""
    host: str
    pid: int
    version: str
    started_at: float
    seen_at: float
    policy_revision: int | None = None
    limits_digest: str | None = None
    """Digest of limits.yaml as the process read it: processes that differ decide differently."""
    spool_depth: int = 0
    open_since: float | None = None
    """Since when it has been admitting without the ledger."""
    problems: tuple[str, ...] = ()


def write_heartbeat(engine: sa.Engine, beat: Heartbeat) -> None:
    """Write `beat` over the process' last one, and forget processes that vanished long ago.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    values = {**asdict(beat), "problems": list(beat.problems)}
    changed = {name: value for name, value in values.items() if name != "id"}
    with shared(engine) as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(
                postgresql.insert(processes).values(values).on_conflict_do_update(index_elements=["id"], set_=changed)
            )
        else:
            connection.execute(
                sqlite.insert(processes).values(values).on_conflict_do_update(index_elements=["id"], set_=changed)
            )
        connection.execute(sa.delete(processes).where(processes.c.seen_at < beat.seen_at - FORGOTTEN_AFTER))


def read_heartbeats(engine: sa.Engine) -> list[Heartbeat]:
    """Return the last heartbeat of every process, the latest first.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    with snapshot(engine) as connection:
        rows = connection.execute(sa.select(processes).order_by(processes.c.seen_at.desc())).mappings().all()
    return [Heartbeat(**{**row, "problems": tuple(row["problems"])}) for row in rows]


def forget_process(engine: sa.Engine, process_id: str) -> None:
    """Remove the row of a process that ends in good order.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    with shared(engine) as connection:
        connection.execute(sa.delete(processes).where(processes.c.id == process_id))
