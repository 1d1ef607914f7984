"""The ledger's slower queries: leases that ran out, warnings claimed, where limits stand, the test clock."""

from collections.abc import Iterable, Sequence
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from owui_budget.database.tables import counters, meta, notices, reservations
from owui_budget.domain.decisions import Standing
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import span_of
from owui_budget.ledger.access import exclusive, read_meta, shared, snapshot
from owui_budget.ledger.columns import COUNTER_COLUMNS, rows_by_key
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.protocol import LedgerState, NoticeClaim
from owui_budget.ledger.rebuild import adopt_zone, open_pools, used_since
from owui_budget.ledger.records import State, is_pool

TOMBSTONE_SECONDS: Final = 48 * 3600
"""How long a released call is remembered, in ledger time. Longer than any replay of its own process."""
_SWEEP_AT_ONCE: Final = 500


def state(engine: sa.Engine, clock: LedgerClock) -> LedgerState:
    """Read revision, zone and test clock."""
    with snapshot(engine) as connection:
        found = read_meta(connection)
    clock.learn(found)
    return found


def take_zone(engine: sa.Engine, clock: LedgerClock, zone: str) -> bool:
    """Make `zone` the ledger's zone, rebuilding the current windows; False if it was already."""
    if state(engine, clock).zone == zone:
        return False
    with exclusive(engine) as connection:
        return adopt_zone(connection, zone, clock.learn(read_meta(connection)))


def take_pools(engine: sa.Engine, clock: LedgerClock, keys: Sequence[str]) -> None:
    """Open the counter rows of pools from their events."""
    with exclusive(engine) as connection:
        open_pools(connection, keys, clock.learn(read_meta(connection)))


def set_clock_offset(engine: sa.Engine, seconds: float) -> None:
    """Set the test clock: the ledger's time is `seconds` ahead of the machine's.

    Windows that were opened stay open when it is set back: events were counted in them, and windows never go back.
    """
    with shared(engine) as connection:
        connection.execute(sa.update(meta).values(clock_offset=float(seconds)))


def expired(engine: sa.Engine, clock: LedgerClock) -> list[str]:
    """Return some reservations whose lease ran out, the longest overdue first."""
    with snapshot(engine) as connection:
        now = clock.learn(read_meta(connection))
        overdue = (
            sa.select(reservations.c.id)
            .where(reservations.c.state == State.HELD.value, reservations.c.lease_until <= now)
            .order_by(reservations.c.lease_until)
            .limit(_SWEEP_AT_ONCE)
        )
        return list(connection.scalars(overdue))


def purge_tombstones(engine: sa.Engine, clock: LedgerClock) -> int:
    """Forget calls released long ago; return how many."""
    old = reservations.c.state == State.RELEASED.value
    with snapshot(engine) as connection:
        before = clock.learn(read_meta(connection)) - TOMBSTONE_SECONDS
        overdue = old & (reservations.c.lease_until < before)
        if connection.scalar(sa.select(reservations.c.id).where(overdue).limit(1)) is None:
            return 0  # so that a sweep with nothing to do takes no write lock
    with shared(engine) as connection:
        return connection.execute(sa.delete(reservations).where(overdue)).rowcount


def claim_notices(engine: sa.Engine, clock: LedgerClock, claims: Sequence[NoticeClaim]) -> list[NoticeClaim]:
    """Claim warnings; return those nobody had claimed."""
    if not claims:
        return []
    with shared(engine) as connection:
        insert = _insert_ignoring(connection)
        now = clock.machine()
        return [
            claim
            for claim in claims
            if connection.execute(
                insert,
                {
                    "user_id": claim.user_id,
                    "counter": claim.counter,
                    "window_kind": claim.window,
                    "window_start": claim.window_start,
                    "threshold": claim.threshold,
                    "hard": claim.hard,
                    "claimed_at": now,
                },
            ).first()
        ]


def _insert_ignoring(connection: sa.Connection) -> sa.Executable:
    """Return an insert that answers with a row if it inserted one."""
    if connection.dialect.name == "postgresql":
        return postgresql.insert(notices).on_conflict_do_nothing().returning(notices.c.user_id)
    return sqlite.insert(notices).on_conflict_do_nothing().returning(notices.c.user_id)


def standings(engine: sa.Engine, clock: LedgerClock, limits: Iterable[LimitInForce]) -> tuple[Standing, ...]:
    """Read where `limits` stand, changing nothing. A pool without a counter row is summed from its events."""
    wanted = tuple(limits)
    keys = {limit.counter.key for limit in wanted}
    with snapshot(engine) as connection:
        ledger = read_meta(connection)
        columns = (counters.c[name] for name in COUNTER_COLUMNS)
        rows = rows_by_key(connection.execute(sa.select(*columns).where(counters.c.key.in_(keys))).all())
        now = clock.learn(ledger)
        found = []
        for limit in wanted:
            row = rows.get(limit.counter.key)
            moment = max([now, *row.starts]) if row else now
            span = span_of(limit.window, moment, ZoneInfo(ledger.zone))
            used, held = row.standing(limit.window, span.start) if row else (0, 0)
            if row is None and is_pool(limit.counter.key):
                used = connection.scalar(sa.select(used_since(limit.counter.key, span.start))) or 0
            found.append(Standing(limit, span, used, held))
    return tuple(found)
