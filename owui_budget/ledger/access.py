"""How the ledger's slower work reaches its tables: outages named alike, and a lock that stops every batch."""

from collections.abc import Iterator
from contextlib import contextmanager

import sqlalchemy as sa

from owui_budget.database.engine import reading, schema_of
from owui_budget.database.migrate import lock_key
from owui_budget.database.tables import meta
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.protocol import LedgerState


@contextmanager
def reachable() -> Iterator[None]:
    """Turn the driver's words for an outage into ours."""
    try:
        yield
    except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as error:
        msg = f"the ledger's database cannot be used: {getattr(error, 'orig', None) or error}"
        raise LedgerUnavailableError(msg) from error


@contextmanager
def exclusive(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction during which no batch runs, in any process. For rebuilding counters; keep it short."""
    with reachable(), engine.begin() as connection:
        if connection.dialect.name == "postgresql":
            connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("counters", schema_of(engine)))))
        yield connection


@contextmanager
def shared(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction beside the batches."""
    with reachable(), engine.begin() as connection:
        yield connection


@contextmanager
def snapshot(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Begin a transaction that only reads, all of it as of one moment."""
    with reachable(), reading(engine) as connection:
        yield connection


def read_meta(connection: sa.Connection) -> LedgerState:
    """Read revision, zone and test clock."""
    row = connection.execute(sa.select(meta.c.revision, meta.c.zone, meta.c.clock_offset)).one()
    return LedgerState(revision=row.revision, zone=row.zone, clock_offset=row.clock_offset)
