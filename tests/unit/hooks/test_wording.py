import unicodedata
from dataclasses import replace
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import BERLIN, NOW, at, limit, standing

from owui_budget import wording
from owui_budget.domain.decisions import Notice, Standing
from owui_budget.domain.limits import Scope
from owui_budget.domain.windows import Window

POOL = Scope.POOL

REFUSALS = [
    (
        standing(limit(), used=100_412),
        "Daily limit of 100,000 tokens for group Students reached (100,412 used)."
        " It resets at 00:00 CET, in 8 h 27 min.",
    ),
    (
        standing(limit(group=None), used=100_412),
        "Daily limit of 100,000 tokens reached (100,412 used). It resets at 00:00 CET, in 8 h 27 min.",
    ),
    (
        standing(limit(Window.HOURLY, 5_000), used=5_000),
        "Hourly limit of 5,000 tokens for group Students reached (5,000 used). It resets at 16:00 CET, in 27 min.",
    ),
    (
        standing(limit(Window.WEEKLY, 500_000), used=500_001),
        "Weekly limit of 500,000 tokens for group Students reached (500,001 used)."
        " It resets on 23 November at 00:00 CET, in 1 d 8 h.",
    ),
    (
        standing(limit(Window.MONTHLY, 5_000_000, scope=POOL), used=5_000_001),
        "Monthly pool of 5,000,000 tokens for group Students reached (5,000,001 used by all its members)."
        " It resets on 1 December at 00:00 CET, in 9 d 8 h.",
    ),
    (
        standing(limit(hard=0)),
        "Daily limit of 0 tokens for group Students reached (0 used). It resets at 00:00 CET, in 8 h 27 min.",
    ),
    (
        standing(limit(), used=40_000, held=60_000),
        "Daily limit of 100,000 tokens for group Students reached (40,000 used, 60,000 reserved for requests still"
        " running; try again when they have ended). It resets at 00:00 CET, in 8 h 27 min.",
    ),
    (
        standing(limit(), used=99_000),
        "This request could take more than the 1,000 tokens that are left of the daily limit of 100,000 tokens for"
        " group Students (99,000 used). A shorter one may fit. It resets at 00:00 CET, in 8 h 27 min.",
    ),
]


@pytest.mark.parametrize(("blocking", "sentence"), REFUSALS)
def test_a_refusal_says_which_limit_how_much_and_until_when(blocking: Standing, sentence: str) -> None:
    assert wording.refusal(blocking, NOW, BERLIN, None) == sentence


def test_the_operator_has_the_last_word_of_a_refusal() -> None:
    text = wording.refusal(standing(limit(), used=100_412), NOW, BERLIN, "Ask the help desk.")

    assert text.endswith("in 8 h 27 min. Ask the help desk.")


WARNINGS = [
    (
        standing(limit(), used=81_750),
        "81% of your daily token limit for group Students is used; it resets at 00:00 CET.",
    ),
    (standing(limit(group=None), used=75_000), "75% of your daily token limit is used; it resets at 00:00 CET."),
    (
        standing(limit(), used=120_000),
        "100% of your daily token limit for group Students is used; it resets at 00:00 CET.",
    ),
    (
        standing(limit(Window.MONTHLY, 1_000, scope=POOL), used=760),
        "76% of the monthly shared token pool for group Students is used; it resets on 1 December at 00:00 CET.",
    ),
    (
        standing(limit(hard=None, soft=80_000), used=80_001),
        "80,001 tokens are used, past your daily soft limit of 80,000 for group Students; it resets at 00:00 CET.",
    ),
]


@pytest.mark.parametrize(("passed", "sentence"), WARNINGS)
def test_a_warning_says_how_far_a_limit_is_used(passed: Standing, sentence: str) -> None:
    assert wording.warning(Notice(passed, "75"), NOW, BERLIN) == sentence


def test_the_header_says_it_in_ascii_and_without_names() -> None:
    named = standing(limit(group=("24695af1", "Études")), used=81_750)

    text = wording.header_warning(named, NOW, BERLIN)

    assert text == "81% of your daily token limit is used; it resets at 00:00 (CET)."


MOMENTS = [
    ("2026-11-22 00:00", "2026-11-21 15:33", "Europe/Berlin", "at 00:00 CET"),
    ("2026-11-21 16:00", "2026-11-21 15:33", "Europe/Berlin", "at 16:00 CET"),
    ("2026-11-23 00:00", "2026-11-21 15:33", "Europe/Berlin", "on 23 November at 00:00 CET"),
    ("2026-07-21 00:00", "2026-07-20 12:00", "Europe/Berlin", "at 00:00 CEST"),
    # Clocks go back in the night of the 25th: the day has 25 hours, and ends in winter time.
    ("2026-10-26 00:00", "2026-10-25 00:30", "Europe/Berlin", "at 00:00 CET"),
    # They go forward in the night of 29 March.
    ("2026-03-30 00:00", "2026-03-29 01:00", "Europe/Berlin", "at 00:00 CEST"),
    ("2027-01-01 00:00", "2026-12-20 12:00", "UTC", "on 1 January at 00:00 UTC"),
    ("2026-11-22 00:00", "2026-11-21 12:00", "America/Sao_Paulo", "at 00:00 UTC-03:00"),
    ("2026-11-22 00:00", "2026-11-21 12:00", "Asia/Kathmandu", "at 00:00 UTC+05:45"),
    ("2026-11-22 00:00", "2026-11-21 12:00", "America/St_Johns", "at 00:00 NST"),
    ("2026-11-22 00:00", "2026-11-21 12:00", "Pacific/Marquesas", "at 00:00 UTC-09:30"),
    ("2026-11-22 00:00", "2026-11-21 12:00", "Etc/GMT-14", "at 00:00 UTC+14:00"),
]


@pytest.mark.parametrize(("end", "now", "zone", "text"), MOMENTS)
def test_a_moment_is_named_as_people_do(end: str, now: str, zone: str, text: str) -> None:
    assert wording.moment(int(at(end, zone)), at(now, zone), ZoneInfo(zone)) == text


DURATIONS = [
    (-5, "0 s"),
    (0, "0 s"),
    (40, "40 s"),
    (59.4, "59 s"),
    (60, "1 min"),
    (95, "2 min"),
    (3_569, "59 min"),
    (3_600, "1 h"),
    (30_411, "8 h 27 min"),
    (30_420, "8 h 27 min"),
    (86_400, "1 d"),
    (90_000, "1 d 1 h"),
    (808_011, "9 d 8 h"),
    (31 * 86_400, "31 d"),
]


@pytest.mark.parametrize(("seconds", "text"), DURATIONS)
def test_a_duration_has_two_units(seconds: float, text: str) -> None:
    assert wording.duration(seconds) == text


def test_a_reset_is_printed_with_its_zone() -> None:
    assert wording.iso(int(at("2026-11-22 00:00")), BERLIN) == "2026-11-22T00:00:00+01:00"
    assert wording.iso(int(at("2026-07-22 00:00")), BERLIN) == "2026-07-22T00:00:00+02:00"


NAMES = [
    ("Students", "Students"),
    ("  many   spaces ", "many spaces"),
    ("two\r\nlines", "two lines"),
    ("right\u202eto left\u200f", "right to left"),
    ("zero\u200bwidth\ufeff", "zero width"),
    ("tab\tnull\x00escape\x1b[31m", "tab null escape [31m"),
    ("line\u2028paragraph\u2029", "line paragraph"),
    ("<img src=x onerror=alert(1)>", "<img src=x onerror=alert(1)>"),
    ("x" * 10_000, "x" * 79 + "…"),
    ("日本語", "日本語"),
]


@pytest.mark.parametrize(("name", "text"), NAMES)
def test_a_name_from_outside_stays_on_one_short_line(name: str, text: str) -> None:
    assert wording.shown(name) == text
    refusal = wording.refusal(standing(limit(group=("g", name)), used=100_412), NOW, BERLIN, None)
    assert f"for group {text} reached" in refusal


@given(st.text(st.characters(exclude_categories=("Cs",)), max_size=300), st.integers(0, 10**15 - 1))
def test_no_name_breaks_a_sentence(name: str, used: int) -> None:
    blocking = replace(standing(limit(group=("g", name))), used=used)

    text = wording.refusal(blocking, NOW, BERLIN, None)

    assert len(text) < 400
    assert not any(unicodedata.category(char) in {"Cc", "Cf", "Zl", "Zp"} for char in text)
