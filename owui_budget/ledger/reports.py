"""What was used, by whom, for what: read queries over events and the daily sums of those past their retention."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from owui_budget.clock import Clock
from owui_budget.database.tables import usage_charges, usage_daily, usage_events
from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Span, Window, span_of
from owui_budget.ledger import upkeep
from owui_budget.ledger.access import read_meta, snapshot
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.records import WINDOWS, pool_key
from owui_budget.ledger.retention import SUMS, day_name, event_sums


class By(StrEnum):
    """What a report has one line for."""

    USER = "user"
    SERVICE = "service"
    GROUP = "group"
    """The groups in whose pools the calls counted; a call of a member of two counts in both lines."""
    DECIDING_GROUP = "deciding_group"
    """The group whose member limits decided."""
    MODEL = "model"
    KIND = "kind"
    DAY = "day"


@dataclass(frozen=True, slots=True)
class UsageLine:
    """One line of a report. All but `calls` are tokens; `charge` is weighted, and the rest is not."""

    key: str
    """The user, group, model, kind or day; empty where there is none."""
    calls: int
    prompt: int
    completion: int
    cached: int
    reasoning: int
    charge: int
    estimated_charge: int


@dataclass(frozen=True, slots=True)
class UsagePage:
    """Some lines of a report, and how many there are in all."""

    lines: tuple[UsageLine, ...]
    total: int


@dataclass(frozen=True, slots=True)
class Wanted:
    """What a report covers: admissions from `since` to before `until` (epoch seconds), and of whom."""

    since: float
    until: float
    user_id: str | None = None
    service_id: str | None = None
    group_id: str | None = None
    """Calls that counted in this group's pool (limited or not). Days past their retention do not know it."""


@dataclass(frozen=True, slots=True)
class CurrentWindow:
    """One window of one counter as it stands, in tokens."""

    counter: Counter
    window: Window
    span: Span
    used: int
    held: int


def usage(engine: sa.Engine, by: By, wanted: Wanted, *, limit: int = 100, offset: int = 0) -> UsagePage:
    """Return usage by `by`, the largest charge first (days: the latest first), `limit` lines from `offset` on.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    if by is By.DAY:
        return _by_day(engine, wanted, limit, offset)
    with snapshot(engine) as connection:
        zone = ZoneInfo(read_meta(connection).zone)
        lines = _lines(by, wanted, zone).subquery()
        total = connection.scalar(sa.select(sa.func.count()).select_from(lines)) or 0
        ordered = sa.select(lines).order_by(lines.c.charge.desc(), lines.c.key).limit(limit).offset(offset)
        return UsagePage(tuple(UsageLine(*row) for row in connection.execute(ordered)), total)


def top_users(engine: sa.Engine, group_id: str, since: float, until: float, *, limit: int = 10) -> UsagePage:
    """Return who used most of a group's pool, the largest charge first.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    return usage(engine, By.USER, Wanted(since, until, group_id=group_id), limit=limit)


def current(engine: sa.Engine, clock: Clock, counters: Iterable[Counter]) -> list[CurrentWindow]:
    """Return all four current windows of each counter.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    unlimited = [
        LimitInForce(Scope.POOL if counter.kind is CounterKind.POOL else Scope.MEMBER, window, Bounds(), counter)
        for counter in counters
        for window in WINDOWS
    ]
    return [
        CurrentWindow(each.limit.counter, each.limit.window, each.span, each.used, each.held)
        for each in upkeep.standings(engine, LedgerClock(clock), unlimited)
    ]


_EVENT_KEYS: Final = {
    By.USER: usage_events.c.user_id,
    By.SERVICE: usage_events.c.service_id,
    By.DECIDING_GROUP: usage_events.c.deciding_group_id,
    By.MODEL: usage_events.c.model,
    By.KIND: usage_events.c.kind,
}
_DAILY_KEYS: Final = {
    By.USER: usage_daily.c.user_id,
    By.SERVICE: usage_daily.c.service_id,
    By.DECIDING_GROUP: usage_daily.c.deciding_group_id,
    By.MODEL: usage_daily.c.model,
    By.KIND: usage_daily.c.kind,
}
_POOL_PREFIX: Final = f"{CounterKind.POOL}:"


def _lines(by: By, wanted: Wanted, zone: ZoneInfo) -> sa.Select[*tuple[Any, ...]]:
    if by is By.GROUP:
        return _by_group(wanted)
    key = sa.func.coalesce(_EVENT_KEYS[by], "").label("key")
    recent = sa.select(key, *event_sums().values()).where(*_events_wanted(wanted)).group_by(key)
    if wanted.group_id is not None:
        return recent
    old_key = _DAILY_KEYS[by].label("key")
    sums = [sa.cast(sa.func.sum(usage_daily.c[name]), sa.BigInteger).label(name) for name in SUMS]
    old = sa.select(old_key, *sums).where(*_days_wanted(wanted, zone)).group_by(old_key)
    both = sa.union_all(recent, old).subquery()
    added = [sa.cast(sa.func.sum(both.c[name]), sa.BigInteger).label(name) for name in SUMS]
    return sa.select(both.c.key, *added).group_by(both.c.key)


def _by_group(wanted: Wanted) -> sa.Select[*tuple[Any, ...]]:
    key = sa.func.substr(usage_charges.c.counter, len(_POOL_PREFIX) + 1).label("key")
    joined = (usage_charges.c.reservation_id == usage_events.c.reservation_id) & (
        usage_charges.c.type == usage_events.c.type
    )
    return (
        sa.select(key, *event_sums().values())
        .select_from(usage_events.join(usage_charges, joined))
        .where(usage_charges.c.counter.startswith(_POOL_PREFIX), *_events_wanted(wanted))
        .group_by(key)
    )


def _events_wanted(wanted: Wanted) -> list[sa.ColumnElement[bool]]:
    event = usage_events.c
    conditions = [event.at >= wanted.since, event.at < wanted.until]
    if wanted.user_id is not None:
        conditions.append(event.user_id == wanted.user_id)
    if wanted.service_id is not None:
        conditions.append(event.service_id == wanted.service_id)
    if wanted.group_id is not None:
        charge = usage_charges.alias().c
        in_pool = sa.select(charge.reservation_id, charge.type).where(
            charge.counter == pool_key(wanted.group_id), charge.at >= wanted.since, charge.at < wanted.until
        )
        conditions.append(sa.tuple_(event.reservation_id, event.type).in_(in_pool))
    return conditions


def _days_wanted(wanted: Wanted, zone: ZoneInfo) -> list[sa.ColumnElement[bool]]:
    first = day_name(span_of(Window.DAILY, wanted.since, zone), zone)
    last = day_name(span_of(Window.DAILY, max(wanted.since, wanted.until - 1), zone), zone)
    conditions = [usage_daily.c.day >= first, usage_daily.c.day <= last]
    if wanted.user_id is not None:
        conditions.append(usage_daily.c.user_id == wanted.user_id)
    if wanted.service_id is not None:
        conditions.append(usage_daily.c.service_id == wanted.service_id)
    return conditions


def _by_day(engine: sa.Engine, wanted: Wanted, limit: int, offset: int) -> UsagePage:
    """Days have no expression that both databases share, so each day of the page is one query over its own range."""
    with snapshot(engine) as connection:
        zone = ZoneInfo(read_meta(connection).zone)
        days: list[Span] = []
        moment = wanted.since
        while moment < wanted.until:
            days.append(span_of(Window.DAILY, moment, zone))
            moment = days[-1].end
        lines = []
        for day in days[::-1][offset : offset + limit]:
            within = Wanted(
                max(day.start, wanted.since),
                min(day.end, wanted.until),
                wanted.user_id,
                wanted.service_id,
                wanted.group_id,
            )
            each = _lines(By.KIND, within, zone).subquery()
            sums = [sa.cast(sa.func.coalesce(sa.func.sum(each.c[name]), 0), sa.BigInteger) for name in SUMS]
            lines.append(UsageLine(day_name(day, zone), *tuple(connection.execute(sa.select(*sums)).one())))
    return UsagePage(tuple(lines), len(days))
