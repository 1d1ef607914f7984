"""`usage_limits`: parse and print are inverse, and every fault is named with its place."""

import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain.limits import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MAX_TOKENS,
    Bounds,
    InvalidLimitsError,
    UsageLimits,
    parse_limits,
)
from owui_budget.domain.windows import Window

tokens = st.integers(0, MAX_TOKENS) | st.integers(0, 9)
bounds = st.one_of(
    st.builds(Bounds, soft=st.none() | tokens),
    st.builds(Bounds, hard=st.none() | tokens),
    st.tuples(tokens, tokens).map(lambda pair: Bounds(min(pair), max(pair))),
)
scopes = st.dictionaries(st.sampled_from(Window), bounds)
usage_limits = st.builds(UsageLimits, priority=st.integers(0, MAX_PRIORITY), member=scopes, pool=scopes)


@given(usage_limits)
@settings(max_examples=100, deadline=None)
def test_what_is_printed_reads_back_to_an_equal_value(limits: UsageLimits) -> None:
    through_json = parse_limits(json.loads(json.dumps(limits.to_json())))
    assert through_json == limits
    assert hash(through_json) == hash(limits)
    assert through_json is not None
    assert through_json.to_json() == limits.to_json()


@given(usage_limits, st.randoms())
@settings(max_examples=50, deadline=None)
def test_empty_parts_and_the_order_of_keys_mean_nothing(limits: UsageLimits, random: Any) -> None:
    padded = limits.to_json()
    for scope in ("member", "pool"):
        windows = {window.value: {"soft": None, "hard": None} for window in Window}
        for window, given_bounds in padded.get(scope, {}).items():
            windows[window] |= given_bounds
        items = list(windows.items())
        random.shuffle(items)
        padded[scope] = dict(items)
    assert parse_limits(padded) == limits
    assert hash(parse_limits(padded)) == hash(limits)


# --- what an admin may write --------------------------------------------------------------------------------------

GOOD: list[tuple[Any, UsageLimits | None]] = [
    (None, None),
    ({"version": 1}, UsageLimits()),
    ({"version": 1, "priority": None, "member": None, "pool": None}, UsageLimits()),
    ({"version": 1, "priority": 0}, UsageLimits(priority=0)),
    ({"version": 1, "member": {"daily": None, "weekly": {}}}, UsageLimits()),
    (
        {"version": 1, "member": {"daily": {"soft": None, "hard": 0}}},
        UsageLimits(member={Window.DAILY: Bounds(hard=0)}),
    ),
    ({"version": 1, "pool": {"hourly": {"soft": 5}}}, UsageLimits(pool={Window.HOURLY: Bounds(soft=5)})),
    ({"version": 1, "member": {"daily": {"soft": 7, "hard": 7}}}, UsageLimits(member={Window.DAILY: Bounds(7, 7)})),
    (
        {"version": 1, "priority": MAX_PRIORITY, "pool": {"monthly": {"hard": MAX_TOKENS}}},
        UsageLimits(MAX_PRIORITY, pool={Window.MONTHLY: Bounds(hard=MAX_TOKENS)}),
    ),
]


@pytest.mark.parametrize(("written", "read"), GOOD)
def test_good_limits(written: object, read: UsageLimits | None) -> None:
    assert parse_limits(written) == read


def test_limits_without_any_bound_are_no_limits() -> None:
    assert not UsageLimits(priority=3, member={Window.DAILY: Bounds()})
    assert UsageLimits(pool={Window.DAILY: Bounds(hard=0)})
    assert UsageLimits().priority == DEFAULT_PRIORITY


def test_limits_cannot_be_changed() -> None:
    given_bounds = {Window.DAILY: Bounds(hard=5)}
    limits = UsageLimits(member=given_bounds)
    given_bounds[Window.DAILY] = Bounds(hard=500)
    assert limits.member == {Window.DAILY: Bounds(hard=5)}
    with pytest.raises(TypeError):
        limits.member[Window.DAILY] = Bounds()  # type: ignore[index]


# --- one tiny wrong input per mistake -----------------------------------------------------------------------------


def member(bounds: object) -> dict[str, Any]:
    return {"version": 1, "member": {"daily": bounds}}


KNOWN = "known are member, pool, priority, version"
BAD: list[tuple[str, Any, list[str]]] = [
    ("text", "100", ["usage_limits must be an object, not text"]),
    ("list", [], ["usage_limits must be an object, not a list"]),
    ("number", 5, ["usage_limits must be an object, not a number"]),
    ("boolean", True, ["usage_limits must be an object, not true or false"]),
    ("no-version", {}, ['usage_limits.version is missing; this release reads version 1: write "version": 1']),
    (
        "version-2",
        {"version": 2},
        ['usage_limits.version is 2; this release reads version 1: write "version": 1'],
    ),
    (
        "version-true",
        {"version": True},
        ['usage_limits.version is True; this release reads version 1: write "version": 1'],
    ),
    (
        "version-text",
        {"version": "1"},
        ["usage_limits.version is '1'; this release reads version 1: write \"version\": 1"],
    ),
    ("unknown-key", {"version": 1, "members": {}}, [f"usage_limits has the unknown key 'members'; {KNOWN}"]),
    ("key-no-text", {"version": 1, 7: {}}, [f"usage_limits has the unknown key 7; {KNOWN}"]),
    ("key-true", {"version": 1, True: {}}, [f"usage_limits has the unknown key True; {KNOWN}"]),
    ("key-none", {"version": 1, None: {}}, [f"usage_limits has the unknown key None; {KNOWN}"]),
    ("key-tuple", {"version": 1, (1,): {}}, [f"usage_limits has the unknown key an object; {KNOWN}"]),
    ("key-huge", {"version": 1, 10**5000: {}}, [f"usage_limits has the unknown key a huge number; {KNOWN}"]),
    ("priority-text", {"version": 1, "priority": "1"}, ["priority must be a whole number, not '1'"]),
    ("priority-float", {"version": 1, "priority": 1.5}, ["priority must be a whole number, not 1.5"]),
    ("priority-true", {"version": 1, "priority": True}, ["priority must be a whole number, not True"]),
    ("priority-list", {"version": 1, "priority": [10**5000]}, ["priority must be a whole number, not a list"]),
    ("priority-low", {"version": 1, "priority": -1}, ["priority must be from 0 to 1,000,000, not -1"]),
    ("priority-high", {"version": 1, "priority": 1_000_001}, ["priority must be from 0 to 1,000,000, not 1000001"]),
    (
        "priority-huge",
        {"version": 1, "priority": -(10**5000)},
        ["priority must be from 0 to 1,000,000, not a huge number"],
    ),
    ("scope-list", {"version": 1, "pool": []}, ["pool must be an object of windows, not a list"]),
    ("scope-number", {"version": 1, "member": 5}, ["member must be an object of windows, not a number"]),
    (
        "window",
        {"version": 1, "pool": {"yearly": {}}},
        ["pool has the unknown key 'yearly'; known are daily, hourly, monthly, weekly"],
    ),
    ("bounds-number", member(5), ['member.daily must be an object like {"soft": 80000, "hard": 100000}, not a number']),
    ("bound", member({"max": 5}), ["member.daily has the unknown key 'max'; known are hard, soft"]),
    ("true", member({"hard": True}), ["member.daily.hard must be a whole number of tokens, not True"]),
    ("false", member({"soft": False}), ["member.daily.soft must be a whole number of tokens, not False"]),
    ("float", member({"hard": 100.0}), ["member.daily.hard must be a whole number of tokens, not 100.0"]),
    ("nan", member({"hard": float("nan")}), ["member.daily.hard must be a whole number of tokens, not nan"]),
    ("infinity", member({"hard": float("inf")}), ["member.daily.hard must be a whole number of tokens, not inf"]),
    ("text", member({"hard": "100k"}), ["member.daily.hard must be a whole number of tokens, not '100k'"]),
    ("object", member({"hard": {"hard": 1}}), ["member.daily.hard must be a whole number of tokens, not an object"]),
    ("negative", member({"soft": -1}), ["member.daily.soft must not be negative, it is -1"]),
    (
        "negative-huge",
        member({"soft": -(10**5000)}),
        ["member.daily.soft must not be negative, it is a huge number"],
    ),
    (
        "too-large",
        member({"hard": MAX_TOKENS + 1}),
        ["member.daily.hard must be at most 999,999,999,999,999 tokens; use null for no limit"],
    ),
    (
        "huge",
        member({"hard": 10**5000}),
        ["member.daily.hard must be at most 999,999,999,999,999 tokens; use null for no limit"],
    ),
    ("soft-above", member({"soft": 2000, "hard": 1}), ["member.daily.soft (2,000) is above member.daily.hard (1)"]),
    (
        "long-text",
        member({"hard": "x" * 10**6}),
        [f"member.daily.hard must be a whole number of tokens, not '{'x' * 36}..."],
    ),
    (
        "every-fault-at-once",
        {"version": 3, "priority": -1, "member": {"daily": {"soft": -1}}, "pool": {"weekly": {"hard": "1"}}},
        [
            'usage_limits.version is 3; this release reads version 1: write "version": 1',
            "priority must be from 0 to 1,000,000, not -1",
            "member.daily.soft must not be negative, it is -1",
            "pool.weekly.hard must be a whole number of tokens, not '1'",
        ],
    ),
]


@pytest.mark.parametrize(("written", "reasons"), [case[1:] for case in BAD], ids=[case[0] for case in BAD])
def test_a_fault_is_named_with_its_place(written: object, reasons: list[str]) -> None:
    with pytest.raises(InvalidLimitsError) as caught:
        parse_limits(written)
    assert list(caught.value.reasons) == reasons
    assert str(caught.value) == "; ".join(reasons)


def test_a_report_stays_short_whatever_was_pasted() -> None:
    with pytest.raises(InvalidLimitsError) as caught:
        parse_limits({"version": 1, **{f"key {number}": 0 for number in range(10_000)}})
    assert len(caught.value.reasons) == 6
    assert caught.value.reasons[-1] == "usage_limits has 9,995 more unknown keys"


def nested(wrap: Callable[[Any], Any], depth: int) -> Any:
    value: Any = 0
    for _ in range(depth):
        value = wrap(value)
    return value


@pytest.mark.parametrize("wrap", [lambda inner: [inner], lambda inner: {"daily": inner}, lambda inner: {"hard": inner}])
@pytest.mark.parametrize(
    "place",
    [
        lambda value: value,
        lambda value: {"version": value},
        lambda value: {"version": 1, "priority": value},
        lambda value: {"version": 1, "member": value},
        member,
        lambda value: member({"hard": value}),
        lambda value: {"version": 1, "x": value},
    ],
)
def test_deep_nesting_is_a_fault_like_any_other(wrap: Callable[[Any], Any], place: Callable[[Any], Any]) -> None:
    with pytest.raises(InvalidLimitsError):
        parse_limits(place(nested(wrap, 5_000)))


scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from((10**4000, -(10**4000), MAX_TOKENS, MAX_TOKENS + 1)),
)
words = st.sampled_from(
    ("version", "priority", "member", "pool", "hard", "soft", "hourly", "daily", "weekly", "monthly", "x", 1, None)
)
junk = st.recursive(
    scalars, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(words, inner, max_size=4), max_leaves=12
)
nearly = st.fixed_dictionaries(
    {"version": st.just(1)},
    optional={
        "priority": scalars,
        "member": st.dictionaries(words, st.dictionaries(words, scalars, max_size=3), max_size=3),
        "pool": junk,
    },
)


@given(junk | nearly)
@settings(max_examples=250, deadline=None)
def test_whatever_comes_is_read_or_refused_in_readable_words(written: Any) -> None:
    reasons: tuple[str, ...] = ("",)
    try:
        limits = parse_limits(written)
    except InvalidLimitsError as error:
        reasons = error.reasons
    else:
        assert limits is None or parse_limits(limits.to_json()) == limits
    assert reasons
    assert all(len(reason) < 200 and reason.isprintable() for reason in reasons)
