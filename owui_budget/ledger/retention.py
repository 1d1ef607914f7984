"""What happens to old events: rolled up per user, model and day, then deleted; whole days of the ledger's zone.

Each day is one transaction beside the running batches, so an interrupted run goes on where it stopped.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from sqlalchemy.dialects import postgresql, sqlite

from owui_budget.clock import Clock
from owui_budget.database.engine import schema_of
from owui_budget.database.migrate import lock_key
from owui_budget.database.tables import counters, notices, usage_charges, usage_daily, usage_events
from owui_budget.domain.windows import Span, Window, span_of
from owui_budget.ledger.access import exclusive, read_meta, shared, snapshot
from owui_budget.ledger.records import EventType

DAY: Final = 86_400
_NOTICES_KEPT: Final = 62 * DAY
"""Seconds a claimed warning is remembered: longer than any window."""
KEYS: Final = ("user_id", "service_id", "model", "kind", "deciding_group_id")
SUMS: Final = ("calls", "prompt", "completion", "cached", "reasoning", "charge", "estimated_charge")


@dataclass(frozen=True, slots=True)
class Retained:
    """What one run removed."""

    days: int = 0
    events: int = 0
    counters: int = 0


def retain(engine: sa.Engine, clock: Clock, days: int) -> Retained:
    """Roll up and delete events whose day ended more than `days` days ago, and counters nobody used since.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    with snapshot(engine) as connection:
        state = read_meta(connection)
    zone = ZoneInfo(state.zone)
    cutoff = span_of(Window.DAILY, clock.now() + state.clock_offset - days * DAY, zone).start
    done = removed = 0
    while (day := _oldest_day(engine, cutoff, zone)) is not None:
        with shared(engine) as connection:
            if connection.dialect.name == "postgresql":
                # Two runs at once would both add the same day before either has deleted it.
                connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("retention", schema_of(engine)))))
            removed += _roll_up(connection, day, day_name(day, zone))
        done += 1
    with shared(engine) as connection:
        connection.execute(sa.delete(notices).where(notices.c.claimed_at < clock.now() - _NOTICES_KEPT))
    return Retained(done, removed, _forget_counters(engine, cutoff))


def day_name(day: Span, zone: ZoneInfo) -> str:
    """Return a day as YYYY-MM-DD in `zone`."""
    return datetime.fromtimestamp(day.start, zone).date().isoformat()


def event_sums() -> dict[str, sa.ColumnElement[int]]:
    """Return the sums of events that reports and the rollup show, by name (tokens, but for `calls`).

    `estimated_charge` is the part of `charge` that no provider counted.
    """
    event = usage_events.c
    calls = sa.case((event.type.in_([EventType.USAGE.value, EventType.ESTIMATE.value]), 1), else_=0)
    guessed = sa.case((event.estimated, event.charge), else_=0)
    columns = (calls, event.prompt, event.completion, event.cached, event.reasoning, event.charge, guessed)
    return {
        name: sa.cast(sa.func.coalesce(sa.func.sum(column), 0), sa.BigInteger).label(name)
        for name, column in zip(SUMS, columns, strict=True)
    }


def _oldest_day(engine: sa.Engine, cutoff: int, zone: ZoneInfo) -> Span | None:
    with snapshot(engine) as connection:
        oldest = connection.scalar(sa.select(sa.func.min(usage_events.c.at)).where(usage_events.c.at < cutoff))
    return None if oldest is None else span_of(Window.DAILY, oldest, zone)


def _roll_up(connection: sa.Connection, day: Span, name: str) -> int:
    within = (usage_events.c.at >= day.start) & (usage_events.c.at < day.end)
    keys = [sa.func.coalesce(usage_events.c[key], "").label(key) for key in KEYS]
    rolled = sa.select(sa.literal(name).label("day"), *keys, *event_sums().values()).where(within).group_by(*keys)
    connection.execute(_insert_adding(connection, rolled))
    charges = usage_charges.c.at
    connection.execute(sa.delete(usage_charges).where(charges >= day.start, charges < day.end))
    return connection.execute(sa.delete(usage_events).where(within)).rowcount


def _insert_adding(connection: sa.Connection, rolled: sa.Select[*tuple[object, ...]]) -> sa.Executable:
    """Return an insert that adds to a row that is there: a replay may bring an event of a day already rolled up."""
    columns = ["day", *KEYS, *SUMS]
    keys = ["day", *KEYS]
    if connection.dialect.name == "postgresql":
        into = postgresql.insert(usage_daily).from_select(columns, rolled)
        return into.on_conflict_do_update(
            index_elements=keys, set_={each: usage_daily.c[each] + into.excluded[each] for each in SUMS}
        )
    beside = sqlite.insert(usage_daily).from_select(columns, rolled)
    return beside.on_conflict_do_update(
        index_elements=keys, set_={each: usage_daily.c[each] + beside.excluded[each] for each in SUMS}
    )


def _forget_counters(engine: sa.Engine, cutoff: int) -> int:
    """Remove counters whose windows lie before the events that remain: they could not be verified any more."""
    stale = (counters.c.monthly_start < cutoff) | (counters.c.weekly_start < cutoff)
    with snapshot(engine) as connection:
        if connection.scalar(sa.select(counters.c.key).where(stale).limit(1)) is None:
            return 0
    with exclusive(engine) as connection:
        return connection.execute(sa.delete(counters).where(stale)).rowcount
