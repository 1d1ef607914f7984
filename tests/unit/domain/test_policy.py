"""Which limits are in force, and why: case tables, properties, and the mutants that the properties catch."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st

from owui_budget.domain import policy as policy_module
from owui_budget.domain.identity import Caller, Counter, CounterKind, Role, Subject
from owui_budget.domain.limits import Bounds, Scope, UsageLimits
from owui_budget.domain.policy import Group, LimitInForce, Policy, PolicyRules, Resolution, Strategy
from owui_budget.domain.windows import Window

NO_BOUND = 10**18
IDS = "abcde"


def user(*group_ids: str, role: Role = Role.USER) -> Subject:
    return Subject(Caller.OPENWEBUI, "u", role, frozenset(group_ids))


def limits(priority: int = 100, pool: Mapping[str, Any] | None = None, **member: Any) -> UsageLimits:
    """`limits(5, daily=100, monthly=(80, 100))`: a number is a hard bound, a pair is soft and hard."""
    return UsageLimits(priority, bounds_of(member), bounds_of(pool or {}))


def bounds_of(windows: Mapping[str, Any]) -> dict[Window, Bounds]:
    return {
        Window(name): Bounds(*each) if isinstance(each, tuple) else Bounds(hard=each) for name, each in windows.items()
    }


def policy(groups: Mapping[str, UsageLimits | None], rules: PolicyRules | None = None, **parents: str) -> Policy:
    built = {name: Group(name, f"Group {name}", parents.get(name), each) for name, each in groups.items()}
    return Policy(built, rules or PolicyRules())


def written(resolution: Resolution, scope: Scope = Scope.MEMBER) -> list[str]:
    """The limits in force in few words: `daily 80/100 a` is soft 80, hard 100, from group a."""
    return [
        f"{each.window} {'' if each.bounds.soft is None else f'{each.bounds.soft}/'}"
        f"{'-' if each.bounds.hard is None else each.bounds.hard} {each.group_id or 'limits.yaml'}"
        for each in resolution.limits
        if each.scope is scope
    ]


# --- how several groups combine -----------------------------------------------------------------------------------

A_LOW = {"a": limits(10, daily=100), "b": limits(20, daily=900)}
SOME_WINDOWS = {"a": limits(10, daily=100), "b": limits(20, monthly=2_000)}
BOTH_BOUNDS = {"a": limits(10, daily=(80, 100)), "b": limits(20, daily=(50, 200))}
SOFT_ONLY = {"a": limits(10, daily=(80, None)), "b": limits(20, daily=200)}
STRATEGIES = [
    (Strategy.LOWEST_PRIORITY_NUMBER, A_LOW, ["daily 100 a"]),
    (Strategy.MOST_GENEROUS, A_LOW, ["daily 900 b"]),
    (Strategy.MOST_RESTRICTIVE, A_LOW, ["daily 100 a"]),
    (Strategy.ALL, A_LOW, ["daily 100 a", "daily 900 b"]),
    # the deciding group brings its own windows and no other group's
    (Strategy.LOWEST_PRIORITY_NUMBER, SOME_WINDOWS, ["daily 100 a"]),
    # each group is unlimited in the window that only the other one limits
    (Strategy.MOST_GENEROUS, SOME_WINDOWS, []),
    (Strategy.MOST_RESTRICTIVE, SOME_WINDOWS, ["daily 100 a", "monthly 2000 b"]),
    (Strategy.ALL, SOME_WINDOWS, ["daily 100 a", "monthly 2000 b"]),
    (Strategy.MOST_GENEROUS, BOTH_BOUNDS, ["daily 200 b", "daily 80/- a"]),
    (Strategy.MOST_RESTRICTIVE, BOTH_BOUNDS, ["daily 100 a", "daily 50/- b"]),
    (Strategy.ALL, BOTH_BOUNDS, ["daily 80/100 a", "daily 50/200 b"]),
    (Strategy.LOWEST_PRIORITY_NUMBER, SOFT_ONLY, ["daily 80/- a"]),
    (Strategy.MOST_GENEROUS, SOFT_ONLY, []),
    (Strategy.MOST_RESTRICTIVE, SOFT_ONLY, ["daily 200 b", "daily 80/- a"]),
    # a hard limit of 0 is a limit
    (Strategy.MOST_GENEROUS, {"a": limits(daily=0), "b": limits(daily=0)}, ["daily 0 a"]),
    (Strategy.MOST_RESTRICTIVE, {"a": limits(daily=0), "b": limits(daily=5)}, ["daily 0 a"]),
    # a group without member limits takes no part
    (Strategy.MOST_GENEROUS, {"a": limits(daily=100), "b": None, "c": limits(0)}, ["daily 100 a"]),
    (Strategy.LOWEST_PRIORITY_NUMBER, {"a": limits(50, daily=100), "b": limits(1, {"daily": 7})}, ["daily 100 a"]),
]


@pytest.mark.parametrize(("strategy", "groups", "in_force"), STRATEGIES)
def test_how_groups_combine(strategy: Strategy, groups: dict[str, UsageLimits | None], in_force: list[str]) -> None:
    resolution = policy(groups, PolicyRules(strategy)).resolve(user(*groups))
    assert written(resolution) == in_force


# groups, who decides, who is tied
TIES = [
    ({"a": limits(20, monthly=9), "b": limits(10, monthly=1)}, "b", ""),
    ({"a": limits(10, monthly=1), "b": limits(10, monthly=9)}, "b", "a"),
    ({"a": limits(10, monthly=1), "b": limits(10, daily=1)}, "b", "a"),  # no monthly limit is the largest
    ({"a": limits(10, monthly=5, daily=1), "b": limits(10, monthly=5, daily=2)}, "b", "a"),
    ({"a": limits(10, monthly=5, daily=1), "b": limits(10, monthly=5)}, "b", "a"),
    ({"a": limits(10, daily=(1, 9)), "b": limits(10, daily=(5, 9))}, "a", "b"),  # soft limits break no tie
    ({"a": limits(10, weekly=1), "b": limits(10, weekly=9)}, "a", "b"),  # nor do other windows: the id decides
    ({"b": limits(10, daily=5), "a": limits(10, daily=5), "c": limits(10, daily=5)}, "a", "bc"),
    ({"a": limits(10, daily=5), "b": limits(10, daily=9), "c": limits(11, daily=99)}, "b", "a"),
    ({"a": limits(10, {"daily": 1}), "b": limits(20, daily=9)}, "b", ""),  # a pool alone does not decide
]


@pytest.mark.parametrize(("groups", "deciding", "tied"), TIES)
def test_who_decides(groups: dict[str, UsageLimits | None], deciding: str, tied: str) -> None:
    resolution = policy(groups).resolve(user(*groups))
    assert resolution.deciding is not None
    assert resolution.deciding.id == deciding
    assert "".join(group.id for group in resolution.tied) == tied
    assert resolution.attribution == resolution.deciding


# --- defaults, pools, admins, keys --------------------------------------------------------------------------------

DEFAULTS = limits(daily=7)


@pytest.mark.parametrize("groups", [{}, {"a": None}, {"a": limits()}, {"a": limits(1, {"daily": 50})}])
def test_defaults_hold_where_no_group_has_member_limits(groups: dict[str, UsageLimits | None]) -> None:
    resolution = policy(groups, PolicyRules(defaults=DEFAULTS)).resolve(user(*groups))
    assert written(resolution) == ["daily 7 limits.yaml"]
    assert resolution.deciding is None


def test_defaults_add_nothing_to_a_limited_group() -> None:
    rules = PolicyRules(defaults=limits(hourly=1, daily=7))
    assert written(policy({"a": limits(daily=50)}, rules).resolve(user("a"))) == ["daily 50 a"]


def test_a_member_of_a_child_is_a_member_of_every_ancestor_and_not_the_other_way() -> None:
    tree = policy(
        {
            "a": limits(30, {"daily": 1}, daily=10),
            "b": limits(20, {"daily": 2}, daily=20),
            "c": limits(10, {"daily": 3}, daily=30),
        },
        b="a",
        c="b",
    )
    leaf, root = tree.resolve(user("c")), tree.resolve(user("a"))
    assert (written(leaf), written(leaf, Scope.POOL)) == (["daily 30 c"], ["daily 1 a", "daily 2 b", "daily 3 c"])
    assert (written(root), written(root, Scope.POOL)) == (["daily 10 a"], ["daily 1 a"])
    assert leaf.pool_group_ids == ("a", "b", "c")


def test_inherited_limits_decide_like_direct_ones() -> None:
    tree = policy({"a": limits(1, daily=10), "b": limits(2, daily=20), "c": None}, c="a")
    assert written(tree.resolve(user("b", "c"))) == ["daily 10 a"]


@pytest.mark.parametrize("parents", [{"a": "a"}, {"a": "b", "b": "a"}, {"a": "b", "b": "c", "c": "b"}])
def test_a_cycle_is_walked_once(parents: dict[str, str]) -> None:
    groups = {name: limits(pool={"daily": 1}) for name in "abc"}
    resolution = policy(groups, **parents).resolve(user("a"))
    assert len(resolution.limits) == len({"a", *parents.values()})


def test_unknown_groups_are_reported_and_carry_nothing() -> None:
    tree = policy({"a": limits(daily=5)}, a="gone")
    resolution = tree.resolve(user("a", "new"))
    assert resolution.unknown_group_ids == {"gone", "new"}
    assert written(resolution) == ["daily 5 a"]
    assert resolution.pool_group_ids == ("a",)


def test_admins_are_exempt_unless_they_are_limited() -> None:
    groups = {"a": limits(5, {"daily": 50}, daily=5)}
    exempt = policy(groups).resolve(user("a", role=Role.ADMIN))
    assert (exempt.exempt, exempt.limits, exempt.pool_group_ids) == (True, (), ())
    assert exempt.attribution is not None
    limited = policy(groups, PolicyRules(admins_exempt=False)).resolve(user("a", role=Role.ADMIN))
    assert limited == policy(groups).resolve(user("a"))
    assert not policy(groups).resolve(user("a", role=Role.PENDING)).exempt


def test_a_team_key_counts_in_the_pools_alone() -> None:
    tree = policy(
        {"a": limits(5, {"daily": 50}, daily=5), "b": limits(6, {"weekly": 60}, daily=6)},
        PolicyRules(defaults=DEFAULTS),
        b="a",
    )
    resolution = tree.resolve(Subject(Caller.TEAM_KEY, role=Role.ADMIN, group_ids=frozenset("b")))
    assert written(resolution) == []
    assert written(resolution, Scope.POOL) == ["daily 50 a", "weekly 60 b"]
    assert resolution.attribution is not None
    assert resolution.attribution.id == "b"


def test_a_service_has_the_limits_of_limits_yaml_on_a_counter_of_its_own() -> None:
    service = Subject(Caller.SERVICE, service_id="batch")
    assert policy({"a": limits(daily=1)}, PolicyRules(defaults=DEFAULTS)).resolve(service).limits == ()
    (limit,) = Policy(rules=PolicyRules(service=limits(daily=9))).resolve(service).limits
    assert limit == LimitInForce(Scope.MEMBER, Window.DAILY, Bounds(hard=9), Counter(CounterKind.SERVICE, "batch"))
    (unnamed,) = Policy(rules=PolicyRules(service=limits(daily=9))).resolve(Subject(Caller.SERVICE)).limits
    assert unnamed.counter == Counter(CounterKind.SERVICE, "unknown")


@pytest.mark.parametrize(("pools", "attribution"), [({"a": 20, "b": 10}, "b"), ({"b": 10, "a": 10}, "a"), ({}, None)])
def test_without_member_limits_spend_goes_to_the_first_pool(pools: dict[str, int], attribution: str | None) -> None:
    groups = {name: limits(priority, {"daily": 5}) for name, priority in pools.items()} | {"z": None}
    group = policy(groups).resolve(user(*groups)).attribution
    assert (group.id if group else None) == attribution


def test_a_policy_cannot_be_changed_from_outside() -> None:
    groups = {"a": Group("a", "A")}
    shared = Policy(groups)
    groups["b"] = Group("b", "B")
    assert set(shared.groups) == {"a"}
    with pytest.raises(TypeError):
        shared.groups["b"] = groups["b"]  # type: ignore[index]


# --- properties ---------------------------------------------------------------------------------------------------

small = st.integers(0, 6)
some_bounds = st.one_of(
    st.builds(Bounds, soft=st.none() | small),
    st.builds(Bounds, hard=small),
    st.tuples(small, small).map(lambda pair: Bounds(min(pair), max(pair))),
)
some_windows = st.dictionaries(st.sampled_from((Window.DAILY, Window.MONTHLY, Window.HOURLY)), some_bounds, max_size=3)
some_limits = st.builds(UsageLimits, priority=st.integers(0, 2), member=some_windows, pool=some_windows)
some_groups = st.fixed_dictionaries(
    {},
    optional={
        name: st.builds(
            Group,
            id=st.just(name),
            name=st.just(name.upper()),
            parent_id=st.none() | st.sampled_from([*IDS, "gone"]),
            limits=st.none() | some_limits,
        )
        for name in IDS
    },
)
rules = st.builds(
    PolicyRules,
    strategy=st.sampled_from(Strategy),
    defaults=st.none() | st.builds(UsageLimits, member=some_windows),
    service=st.none(),
    admins_exempt=st.booleans(),
)
policies = st.builds(Policy, groups=some_groups, rules=rules)
subjects = st.builds(
    Subject,
    caller=st.just(Caller.OPENWEBUI),
    user_id=st.just("u"),
    role=st.sampled_from(Role),
    group_ids=st.frozensets(st.sampled_from([*IDS, "new"]), max_size=4),
)


rivals = st.builds(
    lambda bounds, rules: (
        policy({name: limits(monthly=monthly, daily=daily) for name, (monthly, daily) in bounds.items()}, rules),
        user(*bounds),
    ),
    st.dictionaries(st.sampled_from(IDS), st.tuples(st.integers(0, 2), st.integers(0, 2)), min_size=2, max_size=3),
    rules,
)
cases = st.tuples(policies, subjects) | rivals


def groups_of(policy: Policy, subject: Subject) -> list[Group]:
    """Direct and inherited groups, found by adding parents until nothing is new."""
    ids = set(subject.group_ids)
    while True:
        parents = {policy.groups[each].parent_id for each in ids if each in policy.groups} - {None}
        if parents <= ids:
            return [policy.groups[each] for each in sorted(ids) if each in policy.groups]
        ids |= {each for each in parents if each}


def deciders(policy: Policy, subject: Subject) -> list[Group]:
    return [group for group in groups_of(policy, subject) if group.limits and group.limits.member]


def is_exempt(policy: Policy, subject: Subject) -> bool:
    return subject.role is Role.ADMIN and policy.rules.admins_exempt


def bound(bounds: Bounds | None, name: str) -> int:
    value: int | None = getattr(bounds or Bounds(), name)
    return NO_BOUND if value is None else value


def tightest(resolution: Resolution, window: Window, name: str) -> int:
    """The bound that really holds for a member: the smallest of all that are in force."""
    return min(
        (
            bound(each.bounds, name)
            for each in resolution.limits
            if each.scope is Scope.MEMBER and each.window is window
        ),
        default=NO_BOUND,
    )


def every_bound(policy: Policy, subject: Subject, window: Window, name: str) -> list[int]:
    return [bound(each.limits.member.get(window), name) for each in deciders(policy, subject) if each.limits]


def pools_are_always_all(policy: Policy, subject: Subject) -> None:
    resolution = policy.resolve(subject)
    pools = {(each.group_id, each.window, each.bounds) for each in resolution.limits if each.scope is Scope.POOL}
    groups = [] if is_exempt(policy, subject) else groups_of(policy, subject)
    assert pools == {(each.id, *item) for each in groups if each.limits for item in each.limits.pool.items()}
    assert resolution.pool_group_ids == tuple(each.id for each in groups)


def exemption_is_for_admins(policy: Policy, subject: Subject) -> None:
    resolution = policy.resolve(subject)
    assert resolution.exempt == is_exempt(policy, subject)
    if resolution.exempt:
        assert resolution.limits == ()
    else:
        assert resolution == policy.resolve(replace(subject, role=Role.USER))


def members_get_what_the_strategy_says(policy: Policy, subject: Subject) -> None:
    resolution = policy.resolve(subject)
    if is_exempt(policy, subject) or not deciders(policy, subject):
        return
    for window in Window:
        for name in ("soft", "hard"):
            bounds = every_bound(policy, subject, window, name)
            in_force = tightest(resolution, window, name)
            match policy.rules.strategy:
                case Strategy.MOST_GENEROUS:
                    assert in_force == max(bounds), "never stricter than any one group, and as one of them"
                case Strategy.MOST_RESTRICTIVE | Strategy.ALL:
                    assert in_force == min(bounds), "never looser than any one group, and as one of them"
                case Strategy.LOWEST_PRIORITY_NUMBER:
                    decider = decider_by_elimination(deciders(policy, subject))
                    assert decider.limits is not None
                    assert in_force == bound(decider.limits.member.get(window), name)


def decider_by_elimination(groups: list[Group]) -> Group:
    left = [(each, each.limits) for each in groups if each.limits]
    lowest = min(each.priority for _, each in left)
    left = [(group, each) for group, each in left if each.priority == lowest]
    for window in (Window.MONTHLY, Window.DAILY):
        largest = max(bound(each.member.get(window), "hard") for _, each in left)
        left = [(group, each) for group, each in left if bound(each.member.get(window), "hard") == largest]
    return min((group for group, _ in left), key=lambda group: group.id)


def the_decider_is_the_best_and_the_tied_are_as_good(policy: Policy, subject: Subject) -> None:
    resolution = policy.resolve(subject)
    groups = [] if resolution.exempt else deciders(policy, subject)
    assert resolution.deciding == (decider_by_elimination(groups) if groups else None)
    if resolution.deciding and resolution.deciding.limits:
        lowest = resolution.deciding.limits.priority
        same = {each.id for each in groups if each.limits and each.limits.priority == lowest}
        assert {each.id for each in resolution.tied} == same - {resolution.deciding.id}


def every_limit_says_where_it_is_from(policy: Policy, subject: Subject) -> None:
    for each in policy.resolve(subject).limits:
        if each.group_id is None:
            assert policy.rules.defaults is not None
            assert each.bounds == policy.rules.defaults.member[each.window]
            continue
        group = policy.groups[each.group_id]
        assert group.limits is not None
        assert each.group_name == group.name
        source = group.limits.member if each.scope is Scope.MEMBER else group.limits.pool
        origin = source[each.window]
        assert each.bounds in (origin, Bounds(hard=origin.hard), Bounds(soft=origin.soft))
        pool = Counter(CounterKind.POOL, each.group_id)
        assert each.counter == (Counter(CounterKind.USER, "u") if each.scope is Scope.MEMBER else pool)


def nothing_unknown_is_hidden(policy: Policy, subject: Subject) -> None:
    named = set(subject.group_ids) | {each.parent_id for each in groups_of(policy, subject) if each.parent_id}
    assert policy.resolve(subject).unknown_group_ids == named - policy.groups.keys()


PROPERTIES = [
    pools_are_always_all,
    exemption_is_for_admins,
    members_get_what_the_strategy_says,
    the_decider_is_the_best_and_the_tied_are_as_good,
    every_limit_says_where_it_is_from,
    nothing_unknown_is_hidden,
]


def every_property_holds() -> None:
    @given(cases)
    @settings(max_examples=500, deadline=None, database=None, derandomize=True, phases=[Phase.generate])
    def check(case: tuple[Policy, Subject]) -> None:
        for holds in PROPERTIES:
            holds(*case)

    check()


@pytest.mark.parametrize("holds", PROPERTIES)
@given(case=cases)
@settings(max_examples=60, deadline=None)
def test_property(holds: Callable[[Policy, Subject], None], case: tuple[Policy, Subject]) -> None:
    holds(*case)


@given(policy=policies, subject=subjects, random=st.randoms())
@settings(max_examples=50, deadline=None)
def test_the_order_in_which_groups_are_stored_means_nothing(policy: Policy, subject: Subject, random: Any) -> None:
    items = list(policy.groups.items())
    random.shuffle(items)
    assert Policy(dict(items), policy.rules).resolve(subject) == policy.resolve(subject)


# --- a property must be able to fail ------------------------------------------------------------------------------

Groups = list[Group]
Limits = tuple[LimitInForce, ...]


def strategy(name: Strategy, function: Callable[[Groups, Counter], Limits]) -> tuple[str, object]:
    return "_STRATEGIES", {**policy_module._STRATEGIES, name: function}


def generous_by_group(by_rank: Groups, counter: Counter) -> Limits:
    """Take all of the group with the largest daily limit: stricter than another group in another window."""
    best = max(by_rank, key=lambda group: policy_module._hard(group, Window.DAILY))
    return policy_module._member_limits(best, best.limits, counter)


def generous_among_those_that_have_it(by_rank: Groups, counter: Counter) -> Limits:
    """Take a group without a limit in a window for one that has nothing to say there."""
    return policy_module._pick_bounds(
        by_rank,
        counter,
        lambda candidates: max(candidates, key=lambda each: -1 if each[0] is None else each[0]),
    )


def no_limit_is_zero(tokens: int | None) -> float:
    return tokens or 0


def highest_priority_number(group: Group) -> tuple[int, float, float, str]:
    number, *rest = policy_rank(group)
    return (-number, *rest)  # type: ignore[return-value]


def daily_before_monthly(group: Group) -> tuple[int, float, float, str]:
    number, monthly, daily, name = policy_rank(group)
    return (number, daily, monthly, name)


policy_rank = policy_module.rank
pool_limits = policy_module._pool_limits

MUTANTS: list[tuple[str, tuple[str, object]]] = [
    ("most generous takes one group", strategy(Strategy.MOST_GENEROUS, generous_by_group)),
    ("most generous skips the unlimited", strategy(Strategy.MOST_GENEROUS, generous_among_those_that_have_it)),
    ("most generous is most restrictive", strategy(Strategy.MOST_GENEROUS, policy_module._most_restrictive)),
    ("most restrictive is most generous", strategy(Strategy.MOST_RESTRICTIVE, policy_module._most_generous)),
    ("all is the first", strategy(Strategy.ALL, policy_module._lowest_priority_number)),
    ("no limit counts as zero", ("_or_infinity", no_limit_is_zero)),
    ("the highest number decides", ("rank", highest_priority_number)),
    ("ties by daily first", ("rank", daily_before_monthly)),
    ("ties by id alone", ("rank", lambda group: (policy_rank(group)[0], 0, 0, group.id))),
    ("only the first pool", ("_pool_limits", lambda groups: pool_limits(groups[:1]))),
    ("no pool", ("_pool_limits", lambda _groups: ())),
    ("pools count one user", ("_pool_limits", lambda groups: tuple(as_user(each) for each in pool_limits(groups)))),
    ("parents forgotten", ("Policy.with_ancestors", lambda _self, group_ids: frozenset(group_ids))),
    ("origin forgotten", ("_member_limit", lambda *given: LimitInForce(Scope.MEMBER, *given[:3]))),
    ("pending users are exempt", ("Role", type("Role", (), {"ADMIN": Role.PENDING}))),
]


def as_user(limit: LimitInForce) -> LimitInForce:
    return replace(limit, counter=Counter(CounterKind.USER, "u"))


@pytest.mark.parametrize(("name", "mutant"), MUTANTS, ids=[name for name, _ in MUTANTS])
def test_the_properties_catch(name: str, mutant: tuple[str, object], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(f"owui_budget.domain.policy.{mutant[0]}", mutant[1])
    with pytest.raises((AssertionError, KeyError)):
        every_property_holds()
