"""The planner, case by case. The table names before and after in a shorthand; the properties have the rest."""

from dataclasses import replace

import pytest

from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.changes import Added, Changed, MembersChanged, Removed, identifier, noun, verb
from owui_budget_sync.litellm.objects import NO_GROUP, Budget, ConnectionKey, Customer, Foreign, MirrorState, Team
from owui_budget_sync.planner import plan
from owui_budget_sync.state import PolicyState, State

DAILY = UsageLimits(20, {Window.DAILY: Bounds(80, 100)})
G1 = StoredGroup("g1", "Students", None, DAILY, stamp=5)
ALICE = StoredUser("u1", "alice@example.com", "Alice", Role.USER)
TEAM = Team("g1", "Students", DAILY, frozenset({"u1"}))
SHOWN = replace(TEAM, shown=TEAM.digest)
BUDGET = Budget("g1", "1d", 100)
CUSTOMER = Customer("u1", "Alice", "g1")
FULL = PolicyState({"g1": G1}, {"g1": frozenset({"u1"})}, {"u1": ALICE})
EMPTY = PolicyState({}, {}, {})
OURS = MirrorState({"g1": TEAM}, {"g1": BUDGET}, {"u1": CUSTOMER}, {"k": ConnectionKey("k")})
THERE = replace(OURS, teams={"g1": SHOWN})


@pytest.mark.parametrize(
    ("current", "desired", "expected"),
    [
        pytest.param(
            EMPTY, FULL, [Added(ALICE), Added(G1), MembersChanged("g1", "Students", frozenset({"u1"}))], id="new"
        ),
        pytest.param(FULL, FULL, [], id="same"),
        pytest.param(FULL, EMPTY, [Removed(G1), Removed(ALICE)], id="gone"),
        pytest.param(
            FULL,
            replace(FULL, groups={"g1": replace(G1, limits=None)}),
            [Changed(G1, replace(G1, limits=None))],
            id="limits taken off",
        ),
        pytest.param(
            FULL,
            replace(FULL, groups={"g1": replace(G1, parent_id="g0")}),
            [Changed(G1, replace(G1, parent_id="g0"))],
            id="moved in the tree",
        ),
        pytest.param(FULL, replace(FULL, groups={"g1": replace(G1, stamp=9)}), [], id="only the stamp"),
        pytest.param(FULL, replace(FULL, groups={"g1": replace(G1, problem="bad")}), [], id="only the problem"),
        pytest.param(
            FULL,
            replace(FULL, members={"g1": frozenset({"u2"})}),
            [MembersChanged("g1", "Students", frozenset({"u2"}), frozenset({"u1"}))],
            id="members",
        ),
        pytest.param(FULL, replace(FULL, members={}), [], id="members not read"),
        pytest.param(FULL, replace(FULL, users=None), [], id="users not read"),
        pytest.param(
            FULL,
            replace(FULL, users={"u1": replace(ALICE, role=Role.ADMIN)}),
            [Changed(ALICE, replace(ALICE, role=Role.ADMIN))],
            id="a user becomes admin",
        ),
    ],
)
def test_policy(current: PolicyState, desired: PolicyState, expected: list[object]) -> None:
    assert list(plan(State(current), State(desired)).changes) == expected


def mirrored(current: MirrorState, desired: MirrorState, *, prune: bool = False) -> list[str]:
    """The plan in words such as `add LiteLLM team g1`."""
    planned = plan(State(mirror=current), State(mirror=desired), prune=prune)
    return [f"{verb(change)} {noun(change)} {identifier(change)}" for change in planned.changes]


@pytest.mark.parametrize(
    ("current", "desired", "prune", "expected"),
    [
        pytest.param(
            MirrorState(),
            OURS,
            False,
            [
                "add LiteLLM key owui-connection-k",
                "add LiteLLM budget g1",
                "add LiteLLM team g1",
                "add LiteLLM customer u1",
            ],
            id="new: the budget before its customer",
        ),
        pytest.param(THERE, OURS, False, [], id="same"),
        pytest.param(
            THERE,
            MirrorState(),
            False,
            [
                "change LiteLLM budget g1",
                "add LiteLLM budget none",
                "change LiteLLM team g1",
                "change LiteLLM customer u1",
            ],
            id="gone: retired, emptied, unlinked",
        ),
        pytest.param(
            THERE,
            MirrorState(),
            True,
            ["remove LiteLLM customer u1", "remove LiteLLM team g1", "remove LiteLLM budget g1"],
            id="gone and pruned: the customer before its budget",
        ),
        pytest.param(
            replace(THERE, teams={"g1": replace(SHOWN, shown="edited")}),
            OURS,
            False,
            ["change LiteLLM team g1"],
            id="edited",
        ),
        pytest.param(
            replace(THERE, teams={"g1": replace(SHOWN, members=frozenset({"u1", "u9"}))}),
            OURS,
            False,
            ["change LiteLLM team g1"],
            id="a member too many",
        ),
        pytest.param(
            replace(THERE, teams={"g1": replace(SHOWN, members=frozenset(), admins=frozenset({"u1"}))}),
            OURS,
            False,
            [],
            id="a member whom somebody made team admin",
        ),
        pytest.param(
            replace(MirrorState(), foreign={("team", "g1"): Foreign("team", "g1", "no mark")}),
            OURS,
            False,
            ["add LiteLLM key owui-connection-k", "add LiteLLM budget g1", "add LiteLLM customer u1"],
            id="somebody else's team",
        ),
        pytest.param(
            replace(THERE, customers={}, foreign={("customer", "u1"): Foreign("customer", "u1", "settings")}),
            OURS,
            False,
            [],
            id="somebody else's customer",
        ),
        pytest.param(
            replace(THERE, keys={}, foreign={("key", "k"): Foreign("key", "k", "no mark")}), OURS, False, [], id="key"
        ),
        pytest.param(
            replace(THERE, keys={"k": ConnectionKey("k", ("/v1/models",))}),
            OURS,
            False,
            ["change LiteLLM key owui-connection-k"],
            id="the routes of an earlier release",
        ),
    ],
)
def test_mirror(current: MirrorState, desired: MirrorState, *, prune: bool, expected: list[str]) -> None:
    assert mirrored(current, desired, prune=prune) == expected


def test_a_group_that_is_limited_again_leaves_retirement() -> None:
    retired = replace(TEAM, limits=None)
    current = MirrorState(
        {"g1": replace(retired, shown=retired.digest)}, {"g1": Budget("g1"), NO_GROUP: Budget(NO_GROUP)}
    )
    assert mirrored(current, replace(OURS, keys={})) == [
        "change LiteLLM budget g1",
        "change LiteLLM team g1",
        "add LiteLLM customer u1",
    ]


def test_foreign_objects_and_bad_limits_are_notes() -> None:
    current = State(mirror=MirrorState(foreign={("team", "g1"): Foreign("team", "g1", "no mark")}))
    planned = plan(current, State(mirror=OURS))
    assert [note.text for note in planned.notes] == ["LiteLLM team g1 is not ours (no mark): it is left as it is"]


def test_stamps_and_problems_are_bookkeeping() -> None:
    group = replace(G1, stamp=9, problem="bad")
    planned = plan(State(FULL), State(replace(FULL, groups={"g1": group})))
    assert planned.changes == ()
    assert planned.seen == (group,)
