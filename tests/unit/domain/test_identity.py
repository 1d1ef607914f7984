"""Names of counters and the order in which they are locked; roles; subjects."""

from itertools import permutations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain.identity import Caller, Counter, CounterKind, Role, Subject

AWKWARD = ("a:b", "pool:x", ":", "\n", "'; drop table x; --", '"', "ü", "\x00", " ", "user", "a" * 300)
ids = st.text(min_size=1) | st.sampled_from(AWKWARD)
counters = st.builds(Counter, st.sampled_from(CounterKind), ids)


@given(counters)
@settings(max_examples=100, deadline=None)
def test_a_key_reads_back_to_its_counter(counter: Counter) -> None:
    assert Counter.parse(counter.key) == counter


@given(counters, counters)
@settings(max_examples=100, deadline=None)
def test_no_two_counters_share_a_key_or_a_place_in_the_lock_order(one: Counter, other: Counter) -> None:
    assert (one == other) == (one.key == other.key) == (one.lock_position == other.lock_position)


def test_users_are_locked_before_pools_and_pools_by_id() -> None:
    ordered = [
        Counter(CounterKind.USER, "a"),
        Counter(CounterKind.USER, "z"),
        Counter(CounterKind.TASK, "a"),
        Counter(CounterKind.SERVICE, "a"),
        Counter(CounterKind.POOL, "A"),
        Counter(CounterKind.POOL, "a"),
        Counter(CounterKind.POOL, "b"),
    ]
    for shuffled in permutations(ordered):
        assert sorted(shuffled, key=lambda counter: counter.lock_position) == ordered


@pytest.mark.parametrize("key", ["", "user", "user:", ":x", "USER:x", "group:x", " user:x", "user :x"])
def test_what_is_no_key_is_refused(key: str) -> None:
    with pytest.raises(ValueError):
        Counter.parse(key)


ROLES = [
    ("admin", Role.ADMIN),
    (" Admin\n", Role.ADMIN),
    ("user", Role.USER),
    ("pending", Role.PENDING),
    ("", Role.USER),
    (None, Role.USER),
    ("administrator", Role.USER),
    ("admin,user", Role.USER),
    ("superadmin", Role.USER),
    ("аdmin", Role.USER),  # noqa: RUF001 - a Cyrillic letter
]


@pytest.mark.parametrize(("text", "role"), ROLES)
def test_an_unknown_role_is_an_ordinary_user(text: str | None, role: Role) -> None:
    assert Role.parse(text) is role


@pytest.mark.parametrize("caller", [Caller.OPENWEBUI, Caller.USER_KEY])
@pytest.mark.parametrize("user_id", [None, ""])
def test_nobody_cannot_be_counted(caller: Caller, user_id: str | None) -> None:
    with pytest.raises(ValueError, match="needs a user id"):
        Subject(caller, user_id)


@pytest.mark.parametrize("caller", [Caller.TEAM_KEY, Caller.SERVICE])
def test_team_keys_and_services_have_no_user(caller: Caller) -> None:
    assert Subject(caller).user_id is None
