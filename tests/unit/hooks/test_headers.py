import re
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import BERLIN, NOW, at, limit, standing

from owui_budget.domain.decisions import Admission, Allowed, Refused, Standing, Warned, decide
from owui_budget.domain.limits import Scope
from owui_budget.domain.windows import Window
from owui_budget_hooks import headers

_ITEM = re.compile(r'"(?P<name>[ !#-\[\]-~]*)"(?P<parameters>(;[a-z*][a-z0-9_.*-]*=(\d{1,15}|"[ !#-\[\]-~]*"))*)')


def structured(value: str) -> dict[str, dict[str, int | str]]:
    """Read a structured field (RFC 9651): a list of strings with parameters, strictly."""
    assert value.isascii()
    found: dict[str, dict[str, int | str]] = {}
    for member in value.split(", "):
        match = _ITEM.fullmatch(member)
        assert match, member
        pairs = [each.split("=") for each in match["parameters"].split(";")[1:]]
        assert match["name"] not in found, f"{match['name']} twice"
        found[match["name"]] = {key: each.strip('"') if each.startswith('"') else int(each) for key, each in pairs}
    return found


def test_the_example_of_the_design() -> None:
    daily = standing(limit(Window.DAILY, 100_000, soft=80_000), used=81_750)
    monthly = standing(limit(Window.MONTHLY, 2_000_000), used=560_000)

    assert headers.render(decide([daily, monthly], 1_000, Admission.LAST_REQUEST), NOW, BERLIN) == {
        "RateLimit-Policy": '"daily";q=100000;qu="tokens";w=86400, "monthly";q=2000000;qu="tokens";w=2592000',
        "RateLimit": '"daily";r=18250;t=30411, "monthly";r=1440000;t=808011',
        "X-Budget-Status": "soft",
        "X-Budget-Policy": "group=24695af1;scope=member;window=daily;limit=100000;soft=80000;used=81750",
        "X-Budget-Remaining-Tokens": "18250",
        "X-Budget-Reset": "2026-11-22T00:00:00+01:00",
        "X-Budget-Warning": "81% of your daily token limit is used; it resets at 00:00 (CET).",
    }


def test_the_example_parses_as_structured_fields() -> None:
    rendered = headers.render(Allowed((standing(limit(), used=1),)), NOW, BERLIN)

    assert structured(rendered["RateLimit-Policy"]) == {"daily": {"q": 100_000, "qu": "tokens", "w": 86_400}}
    assert structured(rendered["RateLimit"]) == {"daily": {"r": 99_999, "t": 30_411}}


def test_no_limit_in_force_means_no_headers() -> None:
    assert headers.render(Allowed(()), NOW, BERLIN) == {}


def test_soft_only_limits_appear_in_our_own_headers_alone() -> None:
    soft = standing(limit(hard=None, soft=100), used=150)

    assert headers.render(Warned((soft,), (soft,)), NOW, BERLIN) == {
        "X-Budget-Status": "soft",
        "X-Budget-Policy": "group=24695af1;scope=member;window=daily;soft=100;used=150",
        "X-Budget-Reset": "2026-11-22T00:00:00+01:00",
        "X-Budget-Warning": "150 tokens are used, past your daily soft limit of 100; it resets at 00:00 (CET).",
    }


def test_a_refusal_speaks_of_what_blocks() -> None:
    daily, monthly = standing(limit(), used=100_500), standing(limit(Window.MONTHLY, 2_000_000), used=1)

    rendered = headers.render(Refused((daily, monthly), daily), NOW, BERLIN)

    assert rendered["X-Budget-Status"] == "hard"
    assert rendered["X-Budget-Remaining-Tokens"] == "0"
    assert "window=daily" in rendered["X-Budget-Policy"]
    assert "X-Budget-Warning" not in rendered


def test_an_admission_speaks_of_the_limit_nearest_its_end() -> None:
    daily, monthly = standing(limit(), used=10_000), standing(limit(Window.MONTHLY, 2_000_000), used=1_900_000)

    rendered = headers.render(Allowed((daily, monthly)), NOW, BERLIN)

    assert rendered["X-Budget-Status"] == "ok"
    assert "window=monthly" in rendered["X-Budget-Policy"]
    assert rendered["X-Budget-Remaining-Tokens"] == "100000"


def test_limits_that_would_share_a_name_carry_their_group() -> None:
    own = standing(limit())
    pools = [standing(limit(scope=Scope.POOL, group=(each, each))) for each in ("a1", "b2")]
    default = standing(limit(Window.MONTHLY, group=None))

    rendered = headers.render(Allowed((own, *pools, default)), NOW, BERLIN)

    assert list(structured(rendered["RateLimit"])) == ["daily", "pool-daily-a1", "pool-daily-b2", "monthly"]


def test_ids_that_look_alike_in_a_header_get_different_names() -> None:
    pools = [standing(limit(scope=Scope.POOL, group=(each, each))) for each in ("a b", "a\nb", "a" * 70, "a" * 80)]

    rendered = headers.render(Allowed(tuple(pools)), NOW, BERLIN)

    assert len(structured(rendered["RateLimit"])) == 4


@pytest.mark.parametrize(
    ("moment", "seconds"),
    [("2026-10-25 12:00", 25 * 3600), ("2026-03-29 12:00", 23 * 3600), ("2026-11-21 12:00", 24 * 3600)],
)
def test_a_window_is_as_long_as_its_day(moment: str, seconds: int) -> None:
    now = at(moment)

    rendered = headers.render(Allowed((standing(limit(), now=now),)), now, BERLIN)

    assert structured(rendered["RateLimit-Policy"])["daily"]["w"] == seconds


@pytest.mark.parametrize(
    ("moment", "days"), [("2026-02-10 12:00", 28), ("2026-07-10 12:00", 31), ("2028-02-10 12:00", 29)]
)
def test_a_window_is_as_long_as_its_month(moment: str, days: int) -> None:
    now, utc = at(moment, "UTC"), ZoneInfo("UTC")

    rendered = headers.render(Allowed((standing(limit(Window.MONTHLY), now=now, zone=utc),)), now, utc)

    assert structured(rendered["RateLimit-Policy"])["monthly"]["w"] == days * 86_400


def test_what_is_held_is_not_remaining_and_a_passed_reset_is_not_negative() -> None:
    late = standing(limit(), used=40_000, held=20_000)

    rendered = headers.render(Allowed((late,)), late.span.end + 90, BERLIN)

    assert structured(rendered["RateLimit"])["daily"] == {"r": 40_000, "t": 0}
    assert headers.retry_after(late, late.span.end + 90) == 1


_IDS = st.text(max_size=90)
_STANDINGS = st.builds(
    lambda window, hard, soft, scope, group, used, held: standing(
        limit(window, hard, min(soft, hard) if hard is not None and soft is not None else soft, scope, group),
        used,
        held,
    ),
    st.sampled_from(Window),
    st.none() | st.integers(0, 10**15 - 1),
    st.none() | st.integers(0, 10**15 - 1),
    st.sampled_from(Scope),
    st.tuples(_IDS, _IDS),
    st.integers(0, 10**15),
    st.integers(0, 10**15),
)


@given(st.lists(_STANDINGS, max_size=8), st.integers(0, 10**6), st.sampled_from(Admission))
def test_whatever_groups_are_called_headers_are_ascii_and_parse(
    standings: list[Standing], estimate: int, admission: Admission
) -> None:
    rendered = headers.render(decide(standings, estimate, admission), NOW, BERLIN)

    assert all(value.isascii() and value.isprintable() and len(value) < 4_000 for value in rendered.values())
    policies = structured(rendered["RateLimit-Policy"]) if "RateLimit-Policy" in rendered else {}
    rests = structured(rendered["RateLimit"]) if "RateLimit" in rendered else {}
    assert policies.keys() == rests.keys()
    assert len(policies) == sum(each.limit.bounds.hard is not None for each in standings)
    if rendered:
        fields = dict(pair.split("=") for pair in rendered["X-Budget-Policy"].split(";"))
        assert set(fields) >= {"group", "scope", "window", "used"}
