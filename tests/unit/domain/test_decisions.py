"""Admit, warn or refuse: what holds for every decision, the notices, and the mutants that the properties catch."""

from collections.abc import Callable, Iterable
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from owui_budget.domain.decisions import (
    Admission,
    Allowed,
    Decision,
    Refused,
    Standing,
    Warned,
    decide,
    nearest_end,
    notices_due,
)
from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.domain.limits import MAX_TOKENS, Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Span, Window

Decide = Callable[[Iterable[Standing], int, Admission], Decision]
LAST, STRICT = Admission.LAST_REQUEST, Admission.STRICT
ENDS = {Window.HOURLY: 3_600, Window.DAILY: 86_400, Window.WEEKLY: 604_800, Window.MONTHLY: 2_678_400}


def standing(
    soft: int | None, hard: int | None, used: int, held: int = 0, window: Window = Window.DAILY, name: str = "u"
) -> Standing:
    limit = LimitInForce(Scope.MEMBER, window, Bounds(soft, hard), Counter(CounterKind.USER, name))
    return Standing(limit, Span(0, ENDS[window]), used, held)


# --- tables -------------------------------------------------------------------------------------------------------

# soft, hard, used, held, estimate, under last_request, under strict
DECISIONS = [
    (None, None, 10**9, 10**9, 10**9, Allowed, Allowed),
    (None, 100, 0, 0, 0, Allowed, Allowed),
    (None, 100, 0, 0, 100, Allowed, Allowed),
    (None, 100, 0, 0, 101, Allowed, Refused),
    (None, 100, 99, 0, 1, Allowed, Allowed),
    (None, 100, 99, 0, 2, Allowed, Refused),
    (None, 100, 99, 1, 1, Refused, Refused),
    (None, 100, 100, 0, 0, Refused, Refused),
    (None, 100, 200, 0, 1, Refused, Refused),
    (None, 0, 0, 0, 0, Refused, Refused),
    (80, 100, 79, 0, 1, Allowed, Allowed),
    (80, 100, 79, 20, 1, Allowed, Allowed),  # what is held is not used yet
    (80, 100, 80, 0, 1, Warned, Warned),
    (80, 100, 80, 0, 50, Warned, Refused),
    (80, None, 500, 0, 10**9, Warned, Warned),
    (0, 100, 0, 0, 1, Warned, Warned),
    (80, 100, -50, 0, 149, Allowed, Allowed),  # a correction may leave a counter below zero
    (None, MAX_TOKENS, MAX_TOKENS - 1, 0, 1, Allowed, Allowed),
    (None, MAX_TOKENS, MAX_TOKENS, 0, 1, Refused, Refused),
]


@pytest.mark.parametrize(("soft", "hard", "used", "held", "estimate", "last_request", "strict"), DECISIONS)
def test_one_limit(
    soft: int | None,
    hard: int | None,
    used: int,
    held: int,
    estimate: int,
    last_request: type[Decision],
    strict: type[Decision],
) -> None:
    there = [standing(soft, hard, used, held)]
    assert type(decide(there, estimate, LAST)) is last_request
    assert type(decide(there, estimate, STRICT)) is strict


def test_without_limits_everything_is_allowed() -> None:
    assert decide([], 10**12, STRICT) == Allowed(())


def test_a_refusal_speaks_of_the_limit_that_resets_last() -> None:
    hour = standing(None, 10, 10, window=Window.HOURLY)
    month = standing(None, 10, 10, window=Window.MONTHLY)
    day = standing(None, 10, 9, window=Window.DAILY)
    refusal = decide([hour, month, day], 1, LAST)
    assert refusal == Refused((hour, month, day), month)


def test_of_limits_that_reset_together_the_first_is_named() -> None:
    member, pool = standing(None, 10, 10), standing(None, 10, 10, name="pool")
    assert decide([member, pool], 1, LAST) == Refused((member, pool), member)


def test_a_warning_names_every_limit_past_its_soft_bound() -> None:
    day, week = standing(5, 10, 5), standing(50, 100, 49, window=Window.WEEKLY)
    month = standing(7, None, 9, window=Window.MONTHLY)
    assert decide([day, week, month], 1, LAST) == Warned((day, week, month), (day, month))


# hard, used, held, remaining
REMAINING = [(None, 5, 5, None), (10, 0, 0, 10), (10, 3, 4, 3), (10, 10, 0, 0), (10, 50, 50, 0), (0, 0, 0, 0)]


@pytest.mark.parametrize(("hard", "used", "held", "remaining"), REMAINING)
def test_what_remains(hard: int | None, used: int, held: int, remaining: int | None) -> None:
    there = standing(None, hard, used, held)
    assert there.remaining == remaining
    assert there.past_hard == (remaining == 0)


def test_nearest_its_end_is_the_smallest_share() -> None:
    day, month = standing(None, 100, 50), standing(None, 10_000, 9_000, window=Window.MONTHLY)
    soft_only = standing(5, None, 500, window=Window.WEEKLY)
    assert nearest_end([day, soft_only, month]) == month
    assert nearest_end([soft_only]) is None
    assert nearest_end([]) is None


def test_of_equal_shares_the_fewest_tokens_are_nearest() -> None:
    large, small, none = standing(None, 200, 100), standing(None, 100, 50), standing(None, 0, 0)
    assert nearest_end([large, small]) == small
    assert nearest_end([large, small, none]) == none


# soft, hard, used, the notice that is due at thresholds of 75 and 90 %
NOTICES = [
    (None, 100, 74, None),
    (None, 100, 75, "75"),
    (None, 100, 89, "75"),
    (None, 100, 90, "90"),
    (None, 100, 1_000, "90"),
    (80, 100, 79, "75"),
    (80, 100, 80, "soft"),
    (80, 100, 95, "90"),  # from nothing to 95 % is one notice
    (95, 100, 95, "soft"),
    (90, 100, 90, "soft"),  # of two at the same place the admin's own
    (75, 101, 75, "soft"),
    (75, 101, 76, "75"),  # 75 % of 101 is a little more than 75
    (50, None, 49, None),
    (50, None, 50, "soft"),
    (None, None, 10**9, None),
    (0, 100, 0, None),  # nothing used, nothing to say
    (0, 100, 1, "soft"),
    (None, 0, 0, None),
    (None, 0, 5, None),
    (None, 1, 1, "90"),
    (None, 3, 2, None),
    (None, 3, 3, "90"),
    (None, MAX_TOKENS, MAX_TOKENS, "90"),
]


@pytest.mark.parametrize(("soft", "hard", "used", "due"), NOTICES)
def test_notices(soft: int | None, hard: int | None, used: int, due: str | None) -> None:
    there = standing(soft, hard, used)
    for steps in ((75, 90), (90, 75), (90, 75, 90)):
        notices = notices_due([there], steps)
        assert [(notice.standing, notice.threshold) for notice in notices] == ([(there, due)] if due else [])


def test_each_limit_has_its_own_notice() -> None:
    there = [standing(None, 100, 80), standing(None, 100, 5), standing(3, None, 5, window=Window.WEEKLY)]
    assert [notice.threshold for notice in notices_due(there, (75, 90))] == ["75", "soft"]
    assert notices_due(there, ()) == notices_due(there[2:], (75,))


# --- properties ---------------------------------------------------------------------------------------------------

few = st.integers(0, 12)
some_bounds = st.one_of(
    st.builds(Bounds, soft=st.none() | few),
    st.builds(Bounds, hard=few),
    st.tuples(few, few).map(lambda pair: Bounds(min(pair), max(pair))),
)
standings = st.lists(
    st.builds(
        lambda bounds, window, used, held, name: standing(bounds.soft, bounds.hard, used, held, window, name),
        some_bounds,
        st.sampled_from(Window),
        few,
        few,
        st.sampled_from(("u", "pool")),
    ),
    max_size=4,
)
admissions = st.sampled_from(Admission)


def room(there: Standing) -> float:
    hard = there.limit.bounds.hard
    return float("inf") if hard is None else hard - there.used - there.held


def more_usage_never_admits(decide: Decide, there: list[Standing], estimate: int, admission: Admission) -> None:
    before = decide(there, estimate, admission)
    for index, each in enumerate(there):
        for changed in (replace(each, used=each.used + 1), replace(each, held=each.held + 1)):
            after = decide([*there[:index], changed, *there[index + 1 :]], estimate, admission)
            assert isinstance(after, Refused) or not isinstance(before, Refused)
    larger = decide(there, estimate + 1, admission)
    assert isinstance(larger, Refused) or not isinstance(before, Refused)


def a_refusal_names_a_limit_in_the_way(
    decide: Decide, there: list[Standing], estimate: int, admission: Admission
) -> None:
    decision = decide(there, estimate, admission)
    if not isinstance(decision, Refused):
        return
    in_the_way = [
        each for each in there if room(each) <= 0 or (admission is Admission.STRICT and estimate > room(each))
    ]
    assert decision.blocking in in_the_way
    assert decision.blocking.span.end == max(each.span.end for each in in_the_way)


def last_request_admits_while_there_is_room_in_all(
    decide: Decide, there: list[Standing], estimate: int, admission: Admission
) -> None:
    if admission is Admission.LAST_REQUEST:
        assert isinstance(decide(there, estimate, admission), Refused) == any(room(each) <= 0 for each in there)


def strict_admits_only_what_fits(decide: Decide, there: list[Standing], estimate: int, admission: Admission) -> None:
    if admission is Admission.STRICT:
        fits = all(estimate <= room(each) and room(each) > 0 for each in there)
        assert isinstance(decide(there, estimate, admission), Refused) != fits


def strict_is_never_looser(decide: Decide, there: list[Standing], estimate: int, admission: Admission) -> None:
    if isinstance(decide(there, estimate, LAST), Refused):
        assert isinstance(decide(there, estimate, STRICT), Refused)


def a_warning_is_for_soft_bounds_that_are_used_up(
    decide: Decide, there: list[Standing], estimate: int, admission: Admission
) -> None:
    decision = decide(there, estimate, admission)
    past = tuple(each for each in there if each.limit.bounds.soft is not None and each.used >= each.limit.bounds.soft)
    if isinstance(decision, Warned):
        assert past
        assert decision.past_soft == past
    if isinstance(decision, Allowed):
        assert not past


def the_standings_are_handed_on(decide: Decide, there: list[Standing], estimate: int, admission: Admission) -> None:
    assert decide(iter(there), estimate, admission).standings == tuple(there)


PROPERTIES = [
    more_usage_never_admits,
    a_refusal_names_a_limit_in_the_way,
    last_request_admits_while_there_is_room_in_all,
    strict_admits_only_what_fits,
    strict_is_never_looser,
    a_warning_is_for_soft_bounds_that_are_used_up,
    the_standings_are_handed_on,
]


@pytest.mark.parametrize("holds", PROPERTIES)
@given(there=standings, estimate=few, admission=admissions)
@settings(max_examples=60, deadline=None)
def test_property(
    holds: Callable[[Decide, list[Standing], int, Admission], None],
    there: list[Standing],
    estimate: int,
    admission: Admission,
) -> None:
    holds(decide, there, estimate, admission)


@given(there=standings, steps=st.lists(st.integers(1, 100), max_size=4))
@settings(max_examples=60, deadline=None)
def test_notices_are_of_thresholds_really_passed_and_the_highest(there: list[Standing], steps: list[int]) -> None:
    notices = notices_due(there, steps)
    assert len(notices) <= len(there)
    for notice in notices:
        used, bounds = notice.standing.used, notice.standing.limit.bounds
        places = {str(step): (bounds.hard or 0) * step / 100 for step in steps if bounds.hard}
        places |= {} if bounds.soft is None else {"soft": bounds.soft}
        assert places[notice.threshold] == max(place for place in places.values() if place <= used)


@given(there=standings)
@settings(max_examples=60, deadline=None)
def test_the_nearest_end_has_the_smallest_share_left(there: list[Standing]) -> None:
    nearest = nearest_end(there)
    shares = [(each.remaining or 0) / (each.limit.bounds.hard or 1) for each in there if each.remaining is not None]
    assert (nearest is None) == (not shares)
    if nearest is not None:
        assert (nearest.remaining or 0) / (nearest.limit.bounds.hard or 1) == min(shares)


# --- a property must be able to fail ------------------------------------------------------------------------------


def forgets_holds(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    return decide([replace(each, held=0) for each in there], estimate, admission)


def counts_holds_as_used(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    return decide([replace(each, used=each.used + each.held, held=0) for each in there], estimate, admission)


def one_past_the_limit(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    there = tuple(there)
    if isinstance(decide([replace(each, used=each.used - 1) for each in there], estimate, admission), Refused):
        return decide(there, estimate, admission)
    return Allowed(there)


def only_the_first_limit(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    return decide(tuple(there)[:1], estimate, admission)


def never_strict(there: Iterable[Standing], estimate: int, _admission: Admission) -> Decision:
    return decide(there, estimate, LAST)


def always_strict(there: Iterable[Standing], estimate: int, _admission: Admission) -> Decision:
    return decide(there, estimate, STRICT)


def names_the_first_to_reset(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    decision = decide(there, estimate, admission)
    if isinstance(decision, Refused):
        return replace(decision, blocking=min(decision.standings, key=lambda each: each.span.end))
    return decision


def refuses_at_the_soft_bound(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    decision = decide(there, estimate, admission)
    return Refused(decision.standings, decision.past_soft[0]) if isinstance(decision, Warned) else decision


def never_warns(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    decision = decide(there, estimate, admission)
    return Allowed(decision.standings) if isinstance(decision, Warned) else decision


def admits_again_far_past_the_limit(there: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    there = tuple(there)
    return Allowed(there) if any(room(each) < -9 for each in there) else decide(there, estimate, admission)


@pytest.mark.parametrize(
    "mutant",
    [
        forgets_holds,
        counts_holds_as_used,
        one_past_the_limit,
        only_the_first_limit,
        never_strict,
        always_strict,
        names_the_first_to_reset,
        refuses_at_the_soft_bound,
        never_warns,
        admits_again_far_past_the_limit,
    ],
)
def test_the_properties_catch(mutant: Decide) -> None:
    @given(there=standings, estimate=few, admission=admissions)
    @settings(max_examples=500, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    def every_property_holds(there: list[Standing], estimate: int, admission: Admission) -> None:
        for holds in PROPERTIES:
            holds(mutant, there, estimate, admission)

    with pytest.raises(AssertionError):
        every_property_holds()
