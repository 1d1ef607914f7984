"""Calendar windows over IANA time zones.

A window is half open, `[start, end)`, and the windows of one kind tile time without gap or overlap in every zone: a
day is 23 to 25 hours long where clocks change, a month 28 to 31 days. Weeks start on Monday (ISO 8601).
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import assert_never
from zoneinfo import ZoneInfo


class Window(StrEnum):
    """The kinds of window, shortest first; the values are the keys of `usage_limits`."""

    HOURLY = "hourly"
    DAILY = "daily"
    WEEKLY = "weekly"
    MONTHLY = "monthly"


@dataclass(frozen=True, slots=True)
class Span:
    """One window: epoch seconds (UTC), half open `[start, end)`."""

    start: int
    end: int

    @property
    def seconds(self) -> int:
        """The window's real length in seconds."""
        return self.end - self.start

    def contains(self, moment: float) -> bool:
        """Whether `moment` (epoch seconds) lies in the window."""
        return self.start <= moment < self.end


def span_of(window: Window, moment: float, zone: ZoneInfo) -> Span:
    """Return the window of kind `window` that holds `moment` (epoch seconds) in `zone`.

    Raises:
        OverflowError, ValueError, OSError: `moment` lies outside the years 2 to 9998.

    """
    # Windows start and zones shift at quarters of an hour nowadays, so one computation serves a quarter. Some zones
    # shifted at one minute past, and before 1972 at odd seconds, hence the exact check below.
    span = _span_near(window, int(moment // 900) * 900, zone)
    return span if span.contains(moment) else _span_at(window, moment, zone)


@lru_cache(maxsize=4096)
def _span_near(window: Window, moment: int, zone: ZoneInfo) -> Span:
    return _span_at(window, moment, zone)


def _span_at(window: Window, moment: float, zone: ZoneInfo) -> Span:
    local = datetime.fromtimestamp(moment, zone).replace(tzinfo=None)
    # Local clocks jump both ways, so the window is found among the boundaries around it rather than by flooring: a
    # boundary that is skipped happens when clocks without the jump would show it (which is at the jump itself where
    # clocks jump at the boundary), one that happens twice counts the first time (an hour, both times).
    folds = (0, 1) if window is Window.HOURLY else (0,)
    boundaries = sorted(
        {
            int(naive.replace(tzinfo=zone, fold=fold).astimezone(UTC).timestamp())
            for naive in _local_starts(window, local)
            for fold in folds
        }
    )
    start = max(boundary for boundary in boundaries if boundary <= moment)
    end = min(boundary for boundary in boundaries if boundary > moment)
    return Span(start, end)


def _local_starts(window: Window, local: datetime) -> list[datetime]:
    """The local starts of the windows around `local`: enough to either side for any jump of its zone."""
    match window:
        case Window.HOURLY:
            hour = local.replace(minute=0, second=0, microsecond=0)
            # A whole day to either side: zones have skipped and repeated up to a day at once.
            return [hour + timedelta(hours=step) for step in range(-25, 27)]
        case Window.DAILY:
            day = local.replace(hour=0, minute=0, second=0, microsecond=0)
            return [day + timedelta(days=step) for step in range(-2, 4)]
        case Window.WEEKLY:
            day = local.replace(hour=0, minute=0, second=0, microsecond=0)
            monday = day - timedelta(days=day.weekday())
            return [monday + timedelta(weeks=step) for step in range(-1, 3)]
        case Window.MONTHLY:
            first = local.replace(day=1, hour=0, minute=0, second=0, microsecond=0)
            return [_add_months(first, step) for step in range(-1, 3)]
        case _:
            assert_never(window)


def _add_months(first: datetime, months: int) -> datetime:
    index = first.year * 12 + first.month - 1 + months
    return first.replace(year=index // 12, month=index % 12 + 1)
