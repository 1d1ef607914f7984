"""What was used in a stretch of time, with names and a total."""

from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from owui_budget.clock import Clock
from owui_budget.domain.identity import CounterKind
from owui_budget.domain.windows import Span, Window, span_of
from owui_budget.errors import FinalError
from owui_budget.ledger import reports
from owui_budget.ledger.reports import By, CurrentWindow, UsageLine, Wanted
from owui_budget_sync.queries.subjects import Found, names

_KINDS = 100
"""More lines than there are kinds of calls."""


class BadPeriodError(FinalError):
    """A stretch of time that is none."""


@dataclass(frozen=True, slots=True)
class Period:
    """From `since` to before `until` (epoch seconds)."""

    since: float
    until: float


@dataclass(frozen=True, slots=True)
class Spending:
    """One page of a report."""

    period: Period
    zone: ZoneInfo
    by: By
    lines: tuple[UsageLine, ...]
    total_lines: int
    total: UsageLine
    """Every call once, whatever the lines are by."""
    names: dict[str, str] = field(default_factory=dict)
    windows: tuple[CurrentWindow, ...] = ()
    """The current windows of whom the report is about."""


def current_period(window: Window, now: float, zone: ZoneInfo) -> Period:
    """Return the current window of a kind."""
    span: Span = span_of(window, now, zone)
    return Period(span.start, span.end)


def dated_period(first: date | None, last: date | None, now: float, zone: ZoneInfo) -> Period:
    """Return the days from `first` to `last`, both included; today where `last` is None.

    Raises:
        BadPeriodError: there is no first day, or it comes after the last.

    """
    if first is None:
        msg = "--to needs --from: the first day of the report"
        raise BadPeriodError(msg)
    end = last or datetime.fromtimestamp(now, zone).date()
    if end < first:
        msg = f"--from {first} is after --to {end}"
        raise BadPeriodError(msg)
    return Period(_midnight(first, zone), _midnight(end + timedelta(days=1), zone))


def _midnight(day: date, zone: ZoneInfo) -> float:
    # Some zones have days without a midnight; the window around noon starts where the day does.
    noon = datetime.combine(day, time(12), zone).timestamp()
    return float(span_of(Window.DAILY, noon, zone).start)


@dataclass(frozen=True, slots=True)
class Page:
    """Which lines of a report are wanted."""

    limit: int
    offset: int = 0


def spending(
    engine: sa.Engine, clock: Clock, zone: ZoneInfo, period: Period, by: By, page: Page, *, of: Found | None = None
) -> Spending:
    """Report what was used in `period`, by `by`, of everybody or `of` one.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    wanted = Wanted(
        period.since,
        period.until,
        user_id=of.id if of and of.kind is CounterKind.USER else None,
        service_id=of.id if of and of.kind is CounterKind.SERVICE else None,
        group_id=of.id if of and of.kind is CounterKind.POOL else None,
    )
    found = reports.usage(engine, by, wanted, limit=page.limit, offset=page.offset)
    kinds = reports.usage(engine, By.KIND, wanted, limit=_KINDS)
    return Spending(
        period=period,
        zone=zone,
        by=by,
        lines=found.lines,
        total_lines=found.total,
        total=_total(kinds.lines),
        names=_names(engine, by, found.lines),
        windows=tuple(reports.current(engine, clock, [of.counter])) if of else (),
    )


def _total(lines: tuple[UsageLine, ...]) -> UsageLine:
    columns = ("calls", "prompt", "completion", "cached", "reasoning", "charge", "estimated_charge")
    return UsageLine("", *(sum(getattr(each, name) for each in lines) for name in columns))


def _names(engine: sa.Engine, by: By, lines: tuple[UsageLine, ...]) -> dict[str, str]:
    keys = [each.key for each in lines if each.key]
    match by:
        case By.USER:
            return names(engine, CounterKind.USER, keys)
        case By.GROUP | By.DECIDING_GROUP:
            return names(engine, CounterKind.POOL, keys)
        case _:
            return {}
