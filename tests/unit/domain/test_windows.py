"""Windows tile time in every zone, follow the calendar, and are as long as the calendar makes them."""

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from itertools import pairwise
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain import windows
from owui_budget.domain.windows import Span, Window, span_of

SpanOf = Callable[[Window, float, ZoneInfo], Span]

HOUR = 3_600
DAY = 86_400
ZONES = sorted(available_timezones())
FROM = int(datetime(1970, 1, 2, tzinfo=UTC).timestamp())
TO = int(datetime(2038, 1, 1, tzinfo=UTC).timestamp())


def at(text: str) -> int:
    return int(datetime.fromisoformat(text).timestamp())


def local(moment: float, zone: ZoneInfo) -> datetime:
    return datetime.fromtimestamp(moment, zone).replace(tzinfo=None)


def offset(moment: float, zone: ZoneInfo) -> timedelta:
    shift = datetime.fromtimestamp(moment, zone).utcoffset()
    assert shift is not None
    return shift


Offsets = tuple[timedelta, ...]


def jumps_of(zone: ZoneInfo, start: int, end: int, known: set[Offsets]) -> list[int]:
    """Every moment at which the zone's clocks jump, found by looking every four weeks and bisecting.

    None for a zone whose offsets are `known`: the same zone by another name.
    """
    found = []
    looks = [*range(start, end, 28 * DAY), end]
    offsets = tuple(offset(moment, zone) for moment in looks)
    if offsets in known:
        return []
    known.add(offsets)
    for (before, old), (after, new) in pairwise(zip(looks, offsets, strict=True)):
        if old != new:
            low, high = before, after
            while high - low > 1:
                middle = (low + high) // 2
                low, high = (middle, high) if offset(middle, zone) == old else (low, middle)
            found.append(high)
    return found


@cache
def jumps() -> tuple[tuple[str, int], ...]:
    """One jump of each kind that any zone has made since 1970: time of day, both offsets, first of a month."""
    known: set[Offsets] = set()
    kinds: dict[tuple[time, timedelta, timedelta, bool], tuple[str, int]] = {}
    for name in ZONES:
        zone = ZoneInfo(name)
        for moment in jumps_of(zone, FROM, TO, known):
            wall = local(moment - 1, zone) + timedelta(seconds=1)
            old, new = offset(moment - 1, zone), offset(moment, zone)
            kinds[wall.time(), old, new, wall.day == 1] = (name, moment)
    return tuple(kinds.values())


# --- the properties: each takes the implementation, so that the mutants below can be held to it -------------------


def tiles(span_of: SpanOf, window: Window, zone: ZoneInfo, start: int, end: int) -> None:
    """Walk from `start` to `end`: every window holds its moments and no other, and the next begins where it ends."""
    moment, previous = start, None
    while moment < end:
        span = span_of(window, moment, zone)
        assert span.start <= moment < span.end
        assert previous is None or span.start == previous.end
        for inside in (span.start, (span.start + span.end) // 2, span.end - 0.25):
            assert span_of(window, inside, zone) == span
        moment, previous = span.end, span


def follows_calendar(span_of: SpanOf, window: Window, zone: ZoneInfo, moment: int) -> None:
    """A day, week or month begins when the calendar shows it for the first time, and never goes back."""
    span = span_of(window, moment, zone)
    name = calendar_name(window, span.start, zone)
    before = [span.start - 1, *range(span.start - 30 * HOUR, span.start, 1_200)]
    inside = [span.end - 1, *range(span.start, min(span.end, span.start + 30 * HOUR), 1_200)]
    inside += range(max(span.start, span.end - 30 * HOUR), span.end, 1_200)
    assert all(calendar_name(window, each, zone) < name for each in before)
    assert all(calendar_name(window, each, zone) <= name for each in inside)
    assert calendar_name(window, span.end, zone) > name


def calendar_name(window: Window, moment: float, zone: ZoneInfo) -> date:
    day = local(moment, zone).date()
    if window is Window.WEEKLY:
        return day - timedelta(days=day.weekday())
    return day.replace(day=1) if window is Window.MONTHLY else day


def holds_at_every_jump(span_of: SpanOf, windows: tuple[Window, ...] = tuple(Window)) -> None:
    for name, moment in jumps():
        zone = ZoneInfo(name)
        for window in windows:
            reach = 3 * HOUR if window is Window.HOURLY else 25 * HOUR
            tiles(span_of, window, zone, moment - reach, moment + reach)
            if window is not Window.HOURLY:
                follows_calendar(span_of, window, zone, moment - 1)
                follows_calendar(span_of, window, zone, moment)


# --- every zone ----------------------------------------------------------------------------------------------------


def test_there_are_many_kinds_of_jump() -> None:
    assert len(ZONES) > 500
    assert len(jumps()) > 300


@pytest.mark.parametrize("window", Window)
def test_windows_tile_time_at_every_kind_of_jump(window: Window) -> None:
    holds_at_every_jump(span_of, (window,))


def test_windows_tile_a_year_in_every_zone() -> None:
    for name in ZONES:
        zone = ZoneInfo(name)
        tiles(span_of, Window.MONTHLY, zone, at("2025-01-01T12:00Z"), at("2026-01-01T12:00Z"))
        for jump in jumps_of(zone, at("2025-01-01T00:00Z"), at("2026-01-01T00:00Z"), set()):
            tiles(span_of, Window.WEEKLY, zone, jump - 1, jump + 7 * DAY)
            tiles(span_of, Window.DAILY, zone, jump - DAY, jump + DAY)
            tiles(span_of, Window.HOURLY, zone, jump - HOUR, jump + HOUR)


near_a_jump = st.deferred(
    lambda: st.builds(
        lambda jump, shift: (jump[0], jump[1] + shift),
        st.sampled_from(jumps()),
        st.floats(min_value=-26 * HOUR, max_value=26 * HOUR) | st.sampled_from((-1, -0.5, -1e-7, 0, 1, 59, 60, 900)),
    )
)
anywhere = st.tuples(
    st.sampled_from(ZONES), st.floats(min_value=-5e9, max_value=2e11, allow_nan=False) | st.integers(-(10**10), 10**11)
)


@given(window=st.sampled_from(Window), where=near_a_jump | anywhere)
@settings(max_examples=300, deadline=None)
def test_the_cached_window_is_the_window(window: Window, where: tuple[str, float]) -> None:
    name, moment = where
    zone = ZoneInfo(name)
    span = span_of(window, moment, zone)
    assert span == windows._span_at(window, moment, zone)
    assert span.contains(moment)


@given(window=st.sampled_from(Window), where=anywhere)
@settings(max_examples=300, deadline=None)
def test_where_no_clock_jumps_a_window_is_the_local_hour_day_week_or_month(
    window: Window, where: tuple[str, float]
) -> None:
    name, moment = where
    zone = ZoneInfo(name)
    wall = local(moment // 1, zone).replace(minute=0, second=0)  # whole seconds: datetime rounds, windows do not
    match window:
        case Window.HOURLY:
            first, after = wall, wall + timedelta(hours=1)
        case Window.DAILY:
            first = wall.replace(hour=0)
            after = first + timedelta(days=1)
        case Window.WEEKLY:
            first = wall.replace(hour=0) - timedelta(days=wall.weekday())
            after = first + timedelta(days=7)
        case Window.MONTHLY:
            first = wall.replace(day=1, hour=0)
            after = (first + timedelta(days=31)).replace(day=1)
    shift = offset(moment, zone)
    start, end = ((each - shift).replace(tzinfo=UTC).timestamp() for each in (first, after))
    around = range(int(start) - DAY, int(end) + DAY, DAY // 4)
    if all(offset(each, zone) == shift for each in around):
        assert span_of(window, moment, zone) == Span(int(start), int(end))


# --- real days, hours, weeks and months ---------------------------------------------------------------------------

# zone, window, a moment in it, its start, its hours
LENGTHS = [
    # days that are longer or shorter
    ("UTC", "daily", "2026-03-29T12:00+00:00", "2026-03-29T00:00+00:00", 24),
    ("Europe/Berlin", "daily", "2024-03-31T12:00+02:00", "2024-03-31T00:00+01:00", 23),
    ("Europe/Berlin", "daily", "2024-10-27T12:00+01:00", "2024-10-27T00:00+02:00", 25),
    ("America/New_York", "daily", "2024-03-10T23:59+00:00", "2024-03-10T00:00-05:00", 23),
    ("America/New_York", "daily", "2024-11-03T12:00-05:00", "2024-11-03T00:00-04:00", 25),
    ("Australia/Lord_Howe", "daily", "2024-04-07T12:00+10:30", "2024-04-07T00:00+11:00", 24.5),
    ("Australia/Lord_Howe", "daily", "2024-10-06T12:00+11:00", "2024-10-06T00:00+10:30", 23.5),
    ("Antarctica/Troll", "daily", "2024-03-31T12:00+02:00", "2024-03-31T00:00+00:00", 22),
    # midnight is skipped: the day begins at the jump
    ("America/Sao_Paulo", "daily", "2018-11-04T12:00-02:00", "2018-11-04T01:00-02:00", 23),
    ("Asia/Beirut", "daily", "2022-03-27T12:00+03:00", "2022-03-27T01:00+03:00", 23),
    ("America/Havana", "daily", "2020-03-08T12:00-04:00", "2020-03-08T01:00-04:00", 23),
    ("Africa/Cairo", "daily", "2024-04-26T12:00+03:00", "2024-04-26T01:00+03:00", 23),
    # clocks go back at midnight: the hour before it comes twice and belongs to the old day both times
    ("America/Sao_Paulo", "daily", "2018-02-17T23:30-03:00", "2018-02-17T00:00-02:00", 25),
    ("Asia/Beirut", "daily", "2022-10-29T23:30+02:00", "2022-10-29T00:00+03:00", 25),
    # midnight comes twice: the day begins with the first
    ("America/Havana", "daily", "2020-11-01T00:30-04:00", "2020-11-01T00:00-04:00", 25),
    ("America/Havana", "daily", "2020-11-01T00:30-05:00", "2020-11-01T00:00-04:00", 25),
    # clocks jumped at one minute past midnight
    ("America/St_Johns", "daily", "2010-03-14T12:00-02:30", "2010-03-14T00:00-03:30", 23),
    ("America/St_Johns", "daily", "2010-11-06T23:00-02:30", "2010-11-06T00:00-02:30", 24),
    ("America/St_Johns", "daily", "2010-11-07T00:00:30-02:30", "2010-11-07T00:00-02:30", 25),
    ("America/St_Johns", "daily", "2010-11-06T23:30-03:30", "2010-11-07T00:00-02:30", 25),
    # whole days skipped
    ("Pacific/Apia", "daily", "2011-12-29T23:00-10:00", "2011-12-29T00:00-10:00", 24),
    ("Pacific/Apia", "daily", "2011-12-31T00:00+14:00", "2011-12-31T00:00+14:00", 24),
    ("Pacific/Apia", "weekly", "2011-12-31T00:00+14:00", "2011-12-26T00:00-10:00", 6 * 24),
    ("Pacific/Apia", "monthly", "2011-12-31T00:00+14:00", "2011-12-01T00:00-10:00", 30 * 24),
    ("Pacific/Kwajalein", "daily", "1993-08-20T12:00-12:00", "1993-08-20T00:00-12:00", 24),
    ("Pacific/Kwajalein", "monthly", "1993-08-25T12:00+12:00", "1993-08-01T00:00-12:00", 30 * 24),
    # hours
    ("Asia/Kathmandu", "hourly", "2024-05-05T12:10+05:45", "2024-05-05T12:00+05:45", 1),
    ("Europe/Berlin", "hourly", "2024-10-27T02:30+02:00", "2024-10-27T02:00+02:00", 1),
    ("Europe/Berlin", "hourly", "2024-10-27T02:30+01:00", "2024-10-27T02:00+01:00", 1),
    ("Europe/Berlin", "hourly", "2024-03-31T03:30+02:00", "2024-03-31T03:00+02:00", 1),
    ("Australia/Lord_Howe", "hourly", "2024-04-07T01:45+10:30", "2024-04-07T01:00+11:00", 1.5),
    ("Australia/Lord_Howe", "hourly", "2024-10-06T02:45+11:00", "2024-10-06T02:30+11:00", 0.5),
    ("America/St_Johns", "hourly", "2010-03-14T01:30-02:30", "2010-03-14T00:00-03:30", 1),
    # weeks start on Monday, also over the new year
    ("UTC", "weekly", "2026-01-01T00:00+00:00", "2025-12-29T00:00+00:00", 7 * 24),
    ("UTC", "weekly", "2026-01-04T23:59:59+00:00", "2025-12-29T00:00+00:00", 7 * 24),
    ("UTC", "weekly", "2026-01-05T00:00+00:00", "2026-01-05T00:00+00:00", 7 * 24),
    ("Europe/Berlin", "weekly", "2024-03-31T12:00+02:00", "2024-03-25T00:00+01:00", 7 * 24 - 1),
    ("Europe/Berlin", "weekly", "2024-10-27T12:00+01:00", "2024-10-21T00:00+02:00", 7 * 24 + 1),
    # months
    ("UTC", "monthly", "2026-02-28T23:59:59+00:00", "2026-02-01T00:00+00:00", 28 * 24),
    ("UTC", "monthly", "2028-02-29T12:00+00:00", "2028-02-01T00:00+00:00", 29 * 24),
    ("UTC", "monthly", "2100-02-28T12:00+00:00", "2100-02-01T00:00+00:00", 28 * 24),
    ("UTC", "monthly", "2026-04-30T12:00+00:00", "2026-04-01T00:00+00:00", 30 * 24),
    ("UTC", "monthly", "2026-12-31T23:59:59+00:00", "2026-12-01T00:00+00:00", 31 * 24),
    ("Europe/Berlin", "monthly", "2024-03-31T12:00+02:00", "2024-03-01T00:00+01:00", 31 * 24 - 1),
    ("Europe/Berlin", "monthly", "2024-10-27T12:00+01:00", "2024-10-01T00:00+02:00", 31 * 24 + 1),
]


@pytest.mark.parametrize(("name", "window", "moment", "start", "hours"), LENGTHS)
def test_real_lengths(name: str, window: str, moment: str, start: str, hours: float) -> None:
    span = span_of(Window(window), at(moment), ZoneInfo(name))
    assert (span.start, span.seconds) == (at(start), hours * HOUR)


def test_a_window_is_half_open() -> None:
    span = Span(100, 200)
    assert [span.contains(moment) for moment in (99.999, 100, 199.999, 200)] == [False, True, True, False]


@pytest.mark.parametrize("moment", [float("nan"), float("inf"), 1e18, -1e18])
def test_a_moment_outside_the_calendar_is_an_error(moment: float) -> None:
    with pytest.raises((ValueError, OverflowError, OSError)):
        span_of(Window.MONTHLY, moment, ZoneInfo("UTC"))


# --- a property must be able to fail ------------------------------------------------------------------------------


def days_of_24_hours(window: Window, moment: float, zone: ZoneInfo) -> Span:
    span = span_of(window, moment, zone)
    return Span(span.start, span.start + DAY) if window is Window.DAILY else span


def months_of_30_days(window: Window, moment: float, zone: ZoneInfo) -> Span:
    span = span_of(window, moment, zone)
    return Span(span.start, span.start + 30 * DAY) if window is Window.MONTHLY else span


def weeks_from_sunday(window: Window, moment: float, zone: ZoneInfo) -> Span:
    span = span_of(window, moment + DAY, zone)
    return Span(span.start - DAY, span.end - DAY) if window is Window.WEEKLY else span_of(window, moment, zone)


def utc_days(window: Window, moment: float, zone: ZoneInfo) -> Span:
    return span_of(window, moment, ZoneInfo("UTC") if window is Window.DAILY else zone)


def the_second_midnight(window: Window, moment: float, zone: ZoneInfo) -> Span:
    """Floor the aware local time, which keeps its fold."""
    if window is not Window.DAILY:
        return span_of(window, moment, zone)
    start = datetime.fromtimestamp(moment, zone).replace(hour=0, minute=0, second=0, microsecond=0)
    return Span(int(start.timestamp()), int((start + timedelta(days=1)).timestamp()))


def cached_by_the_hour(window: Window, moment: float, zone: ZoneInfo) -> Span:
    return span_of(window, moment // HOUR * HOUR, zone)


def the_end_included(window: Window, moment: float, zone: ZoneInfo) -> Span:
    span = span_of(window, moment, zone)
    return span_of(window, moment - 1, zone) if moment == span.start else span


def hours_that_come_once(window: Window, moment: float, zone: ZoneInfo) -> Span:
    if window is not Window.HOURLY:
        return span_of(window, moment, zone)
    start = local(moment, zone).replace(minute=0, second=0, microsecond=0, tzinfo=zone)
    return Span(int(start.timestamp()), int(start.timestamp()) + HOUR)


@pytest.mark.parametrize(
    "mutant",
    [
        days_of_24_hours,
        months_of_30_days,
        weeks_from_sunday,
        utc_days,
        the_second_midnight,
        cached_by_the_hour,
        the_end_included,
        hours_that_come_once,
    ],
)
def test_the_properties_catch(mutant: SpanOf) -> None:
    with pytest.raises(AssertionError):
        holds_at_every_jump(mutant)
