"""Invariant 6: sync names only what carries our mark, the second sync is empty, and a killed one converges."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from worlds import apply, mirrors, policies

from owui_budget_sync import planner
from owui_budget_sync.changes import Change, MembersChanged, identifier, noun
from owui_budget_sync.litellm.objects import ConnectionKey, MirrorState
from owui_budget_sync.planner import plan
from owui_budget_sync.state import State

# Each example is a whole world; a few dozen find what there is to find.
worlds = settings(max_examples=40, deadline=None)

current_states = st.builds(State, policies(), mirrors(current=True))
desired_states = st.builds(State, policies(), mirrors(current=False))


def applied(state: State, changes: tuple[Change, ...]) -> State:
    for change in changes:
        state = apply(state, change)
    return state


@worlds
@given(current=current_states, desired=desired_states, prune=st.booleans())
def test_applying_the_plan_reaches_what_was_desired(current: State, desired: State, *, prune: bool) -> None:
    after = applied(current, plan(current, desired, prune=prune).changes)
    assert after.policy.groups == desired.policy.groups
    assert after.policy.users == desired.policy.users
    assert {g: m for g, m in after.policy.members.items() if m} == {
        g: m for g, m in desired.policy.members.items() if m
    }
    assert current.mirror is not None
    assert desired.mirror is not None
    assert after.mirror is not None
    foreign = current.mirror.foreign.keys()
    for group_id, team in desired.mirror.teams.items():
        if ("team", group_id) not in foreign:
            reached = after.mirror.teams[group_id]
            assert (reached.alias, reached.limits) == (team.alias, team.limits)
            assert reached.members | reached.admins >= team.members
            assert reached.members <= team.members
    for user_id, customer in desired.mirror.customers.items():
        if ("customer", user_id) not in foreign:
            assert after.mirror.customers[user_id] == customer
    for group_id, budget in desired.mirror.budgets.items():
        assert after.mirror.budgets[group_id] == budget


@worlds
@given(current=current_states, desired=desired_states, prune=st.booleans())
def test_the_second_plan_is_empty(current: State, desired: State, *, prune: bool) -> None:
    after = applied(current, plan(current, desired, prune=prune).changes)
    assert plan(after, desired, prune=prune).changes == ()


@worlds
@given(current=current_states, desired=desired_states, prune=st.booleans(), done=st.integers(0, 40))
def test_any_prefix_of_a_plan_and_then_a_plan_converges(
    current: State, desired: State, *, prune: bool, done: int
) -> None:
    first = plan(current, desired, prune=prune)
    killed = applied(current, first.changes[:done])
    after = applied(killed, plan(killed, desired, prune=prune).changes)
    assert plan(after, desired, prune=prune).changes == ()


def names_nothing_foreign(current: State, desired: State, *, prune: bool) -> None:
    assert current.mirror is not None
    kinds = {"LiteLLM team": "team", "LiteLLM customer": "customer", "LiteLLM key": "key"}
    for change in plan(current, desired, prune=prune).changes:
        if isinstance(change, MembersChanged):
            continue
        each = change.object.token_hash if isinstance(change.object, ConnectionKey) else identifier(change)
        assert (kinds.get(noun(change)), each) not in current.mirror.foreign


@worlds
@given(current=current_states, desired=desired_states, prune=st.booleans())
def test_a_foreign_object_is_never_named(current: State, desired: State, *, prune: bool) -> None:
    names_nothing_foreign(current, desired, prune=prune)


@worlds
@given(current_states, desired_states)
def test_without_prune_nothing_in_litellm_is_deleted(current: State, desired: State) -> None:
    assert current.mirror is not None
    after = applied(current, plan(current, desired).changes).mirror
    assert after is not None
    assert after.teams.keys() >= current.mirror.teams.keys()
    assert after.customers.keys() >= current.mirror.customers.keys()
    assert after.budgets.keys() >= current.mirror.budgets.keys()


@worlds
@given(current_states, desired_states)
def test_the_digest_stands_for_what_disappears_alone(current: State, desired: State) -> None:
    planned = plan(current, desired)
    additions = replace(desired, policy=replace(desired.policy, users={**current.policy.users, **desired.policy.users}))
    assert (plan(current, additions).digest == planned.digest) == (
        desired.policy.users.keys() >= current.policy.users.keys()
    )


def test_the_properties_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    """A mutant: a planner that forgets which teams are somebody else's."""
    real = planner.mirror_changes

    def careless(current: MirrorState, desired: MirrorState, *, prune: bool = False) -> Iterator[Change]:
        return real(replace(current, foreign={}), desired, prune=prune)

    monkeypatch.setattr(planner, "mirror_changes", careless)
    # Without shrinking: that it fails is enough.
    quick = settings(phases=[Phase.generate], max_examples=300, database=None)
    with pytest.raises(AssertionError):
        quick(given(current=current_states, desired=desired_states, prune=st.booleans())(names_nothing_foreign))()
