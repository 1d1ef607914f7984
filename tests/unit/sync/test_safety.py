"""Invariant 7: a source that came back empty, or a plan past the threshold, changes nothing."""

import pytest

from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.planner import plan
from owui_budget_sync.safety import UnsafePlanError, check
from owui_budget_sync.state import PolicyState, State, Totals

LIMITS = UsageLimits(1, {Window.DAILY: Bounds(None, 5)})


def world(groups: int, members: int = 0, users: int = 0) -> PolicyState:
    """`members` of them in the first group."""
    found = {f"g{n}": StoredGroup(f"g{n}", f"Group {n}", None, LIMITS) for n in range(groups)}
    people = {f"u{n}": StoredUser(f"u{n}", f"{n}@example.com", "", Role.USER) for n in range(users)}
    joined = {gid: frozenset(f"m{n}" for n in range(members if gid == "g0" else 0)) for gid in found}
    return PolicyState(found, joined, people)


def verdict(before: PolicyState, after: PolicyState, threshold: int = 30) -> UnsafePlanError | None:
    counts = {gid: len(found) for gid, found in before.members.items()}
    totals = Totals(len(before.groups), sum(counts.values()), len(before.users or {}))
    try:
        check(plan(State(before), State(after)), after, totals, threshold=threshold, member_counts=counts)
    except UnsafePlanError as error:
        return error
    return None


@pytest.mark.parametrize(
    ("before", "after", "safe"),
    [
        pytest.param(world(20, 0), world(14, 0), True, id="30 % of the groups"),
        pytest.param(world(20, 0), world(13, 0), False, id="35 % of the groups"),
        pytest.param(world(9, 0), world(1, 0), True, id="fewer than ten groups"),
        pytest.param(world(10, 0), world(6, 0), False, id="ten groups"),
        pytest.param(world(3, 0), world(0, 0), False, id="no group left, however few there were"),
        pytest.param(world(0, 0), world(0, 0), True, id="empty before and after"),
        pytest.param(world(0, 0), world(50, 90, 90), True, id="the first sync"),
        pytest.param(world(1, 100), world(1, 70), True, id="30 % of the members"),
        pytest.param(world(1, 100), world(1, 69), False, id="31 % of the members"),
        pytest.param(world(1, 9), world(1, 0), True, id="fewer than ten members"),
        pytest.param(world(1, 0, 5), world(1, 0, 0), False, id="no user left"),
        pytest.param(world(1, 0, 100), world(1, 0, 60), False, id="40 % of the users"),
        pytest.param(
            world(20, 0),
            PolicyState({gid: StoredGroup(gid, group.name) for gid, group in world(20).groups.items()}, {}, {}),
            True,
            id="all limits taken off groups that still exist",
        ),
    ],
)
def test_losses(before: PolicyState, after: PolicyState, *, safe: bool) -> None:
    assert (verdict(before, after) is None) is safe


def test_members_of_a_deleted_group_count() -> None:
    before = world(4, 50)
    after = PolicyState({gid: group for gid, group in before.groups.items() if gid != "g0"}, {}, {})
    error = verdict(before, after)
    assert error is not None
    assert "all 50 memberships" in str(error)


def test_the_error_says_numbers_and_the_way_out() -> None:
    error = verdict(world(20, 100), world(10, 20))
    assert error is not None
    text = str(error)
    assert "10 of 20 groups (50 %, allowed are 30 %)" in text
    assert "80 of 100 memberships" in text
    assert f"owui-budget apply --accept {error.digest}" in text
    assert "nothing was changed" in text


@pytest.mark.parametrize(("threshold", "safe"), [(0, False), (49, False), (50, True), (100, True)])
def test_the_threshold_is_a_setting(threshold: int, *, safe: bool) -> None:
    assert (verdict(world(20), world(10), threshold) is None) is safe
