import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain.identity import Caller, Role, Subject
from owui_budget.domain.limits import Bounds, UsageLimits, parse_limits
from owui_budget.domain.policy import Policy, PolicyRules
from owui_budget.domain.windows import Window
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync import desired
from owui_budget_sync.litellm.objects import Budget, Customer, MirrorState
from owui_budget_sync.openwebui.protocol import SourceGroup

GOOD = {"version": 1, "priority": 20, "member": {"daily": {"soft": 80, "hard": 100}}}
LIMITS = parse_limits(GOOD)
OLD = StoredGroup("g1", "Students", None, UsageLimits(5, {Window.HOURLY: Bounds(None, 7)}))


@pytest.mark.parametrize(
    ("written", "before", "limits", "reason"),
    [
        pytest.param(GOOD, None, LIMITS, None, id="good"),
        pytest.param(None, OLD, None, None, id="taken off"),
        pytest.param({"version": 1, "priority": 3}, OLD, None, None, id="no bound at all"),
        pytest.param({"version": 2}, OLD, OLD.limits, "version", id="bad: the last valid ones stay"),
        pytest.param({**GOOD, "priority": True}, None, None, "priority", id="bad and never good: none"),
        pytest.param("[damaged", OLD, OLD.limits, "must be an object, not text", id="not JSON"),
        pytest.param(
            {**GOOD, "member": {"daily": {"soft": 5, "hard": 1}}},
            OLD,
            OLD.limits,
            "member.daily.soft",
            id="soft above hard",
        ),
        pytest.param({**GOOD, "pool": {"daily": {"hard": 10**4400}}}, None, None, "at most", id="a huge number"),
    ],
)
def test_limits_are_judged(
    written: object, before: StoredGroup | None, limits: UsageLimits | None, reason: str | None
) -> None:
    listed = {"g1": SourceGroup("g1", "Students", None, written), "g2": SourceGroup("g2", "Staff", "g1", GOOD, 8)}
    judged = desired.groups(listed, {"g1": before} if before else {})
    assert judged["g1"].limits == limits
    assert judged["g2"] == StoredGroup("g2", "Staff", "g1", LIMITS, None, 8)
    notes = desired.problems(judged.values())
    if reason is None:
        assert notes == []
    else:
        assert len(notes) == 1
        assert "Students" in notes[0].text
        assert reason in notes[0].text
        assert ("stay in force" if limits else "carries no limits") in notes[0].text


def derive(
    groups: dict[str, StoredGroup],
    members: dict[str, frozenset[str]],
    users: list[StoredUser],
    members_max: int = 100,
    rules: PolicyRules = PolicyRules(),  # noqa: B008 - frozen
) -> tuple[MirrorState, list[str]]:
    mirror = desired.Mirror(rules, members_max)
    return mirror.derive(groups, members, users), [note.text for note in mirror.notes]


def user(name: str, role: Role = Role.USER) -> StoredUser:
    return StoredUser(name.lower(), f"{name}@example.com", name, role)


def group(gid: str, priority: int | None, parent: str | None = None, hard: int = 100) -> StoredGroup:
    limits = None if priority is None else UsageLimits(priority, {Window.DAILY: Bounds(None, hard)})
    return StoredGroup(gid, gid.upper(), parent, limits)


def test_limited_groups_become_teams_with_effective_members() -> None:
    groups = {"top": group("top", 1), "mid": group("mid", None, "top"), "low": group("low", 5, "mid")}
    state, notes = derive(groups, {"mid": frozenset({"a"}), "low": frozenset({"b"})}, [])
    assert {gid: team.members for gid, team in state.teams.items()} == {"top": {"a", "b"}, "low": {"b"}}
    assert state.budgets.keys() == {"top", "low"}
    assert notes == []


def test_customers_have_the_deciding_groups_budget() -> None:
    groups = {"top": group("top", 1), "low": group("low", 5, "top"), "free": group("free", None)}
    people = [user("A"), user("B"), user("C"), user("Boss", Role.ADMIN)]
    members = {"low": frozenset({"a", "boss"}), "free": frozenset({"b"})}
    state, _ = derive(groups, members, people)
    assert state.customers == {"a": Customer("a", "A", "top")}
    state, _ = derive(groups, members, people, rules=PolicyRules(admins_exempt=False))
    assert state.customers.keys() == {"a", "boss"}


@pytest.mark.parametrize(
    ("limits", "budget"),
    [
        (UsageLimits(1, {Window.DAILY: Bounds(1, 9)}), Budget("g", "1d", 9)),
        (UsageLimits(1, {Window.DAILY: Bounds(1, None)}), Budget("g", "1d", None)),
        (UsageLimits(1, {Window.MONTHLY: Bounds(1, 9)}), Budget("g", "1mo", None)),
        (UsageLimits(1, {Window.DAILY: Bounds(1, 0), Window.MONTHLY: Bounds(1, 9)}), Budget("g", "1d", 0)),
        (UsageLimits(1, {}, {Window.MONTHLY: Bounds(1, 9)}), Budget("g", "1d", None)),
        (UsageLimits(1, {Window.HOURLY: Bounds(1, 9)}), Budget("g", "1d", None)),
    ],
)
def test_budgets_show_period_and_daily_tokens(limits: UsageLimits, budget: Budget) -> None:
    state, _ = derive({"g": StoredGroup("g", "G", None, limits)}, {}, [])
    assert state.budgets == {"g": budget}


def test_a_large_team_carries_no_members_and_says_so() -> None:
    state, notes = derive({"g": group("g", 1)}, {"g": frozenset({"a", "b", "c"})}, [], members_max=2)
    assert state.teams["g"].members == frozenset()
    assert state.teams["g"].metadata["members_mirrored"] is False
    assert "3 members" in notes[0]


def test_ties_are_reported_where_users_are_in_both() -> None:
    groups = {"a": group("a", 1, hard=5), "b": group("b", 1, hard=9), "c": group("c", 1)}
    state, notes = derive(
        groups, {"a": frozenset({"x"}), "b": frozenset({"x"}), "c": frozenset({"y"})}, [user("X"), user("Y")]
    )
    assert state.customers["x"].group_id == "b"
    assert notes == [
        "groups B, A have the same priority: for 1 user in all of them B decides (larger monthly, "
        "then daily hard limit, then id)"
    ]


@settings(max_examples=200, deadline=None)
@given(
    st.dictionaries(
        st.sampled_from("abcdef"),
        st.tuples(st.none() | st.sampled_from("abcdef"), st.none() | st.integers(0, 2), st.integers(1, 2)),
    ),
    st.frozensets(st.sampled_from("abcdefx")),
)
def test_the_quick_way_to_the_deciding_group_is_the_rules_way(
    tree: dict[str, tuple[str | None, int | None, int]], joined: frozenset[str]
) -> None:
    policy = Policy({gid: group(gid, priority, parent, hard).policy for gid, (parent, priority, hard) in tree.items()})
    resolved = policy.resolve(Subject(Caller.OPENWEBUI, user_id="u", group_ids=joined))
    assert desired.Deciders(policy).of(joined) == (resolved.deciding, resolved.tied)
