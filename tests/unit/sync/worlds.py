"""Random states of the world for properties, and a plain model of applying a change to one."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeVar

from hypothesis import strategies as st

from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.changes import Change, MembersChanged, Removed
from owui_budget_sync.litellm.objects import NO_GROUP, Budget, ConnectionKey, Customer, Foreign, MirrorState, Team
from owui_budget_sync.state import PolicyState, State

T = TypeVar("T")

GROUPS = ("g1", "g2", "g3", "g4")
USERS = ("u1", "u2", "u3", "u4", "u5")

limits = st.builds(
    UsageLimits,
    st.integers(0, 3),
    st.dictionaries(st.sampled_from(Window), st.builds(Bounds, st.none(), st.integers(1, 3)), min_size=1, max_size=2),
)
names = st.sampled_from(["A", "B"])
members = st.frozensets(st.sampled_from(USERS), max_size=4)
groups = st.dictionaries(
    st.sampled_from(GROUPS), st.tuples(names, st.none() | st.sampled_from(GROUPS), st.none() | limits)
)
users = st.dictionaries(st.sampled_from(USERS), st.tuples(names, st.sampled_from(Role)))


@st.composite
def policies(draw: st.DrawFn) -> PolicyState:
    found = {gid: StoredGroup(gid, *rest) for gid, rest in draw(groups).items()}
    people = {uid: StoredUser(uid, f"{uid}@example.com", name, role) for uid, (name, role) in draw(users).items()}
    return PolicyState(found, {gid: draw(members) for gid in found}, people)


@st.composite
def mirrors(draw: st.DrawFn, *, current: bool) -> MirrorState:
    """A desired state names limited groups; a current one also what earlier syncs left: retired teams, no group."""
    limited = st.none() | limits if current else limits
    teams = {}
    for group_id, name, limit, team_members in draw(
        st.lists(st.tuples(st.sampled_from(GROUPS), names, limited, members), unique_by=lambda each: each[0])
    ):
        team = Team(group_id, name, limit, team_members)
        admins = draw(members) - team_members if current else frozenset()
        shown = draw(st.sampled_from([team.digest, "edited"])) if current else ""
        teams[group_id] = replace(team, admins=admins, shown=shown)
    ids = [*teams, *([NO_GROUP] if current else [])]
    budgets = {
        group_id: Budget(group_id, draw(st.none() | st.just("1d")), draw(st.none() | st.integers(0, 2)))
        for group_id in ids
        if not current or draw(st.booleans())
    }
    customers = {}
    if budgets:
        for user_id, name, group_id in draw(
            st.lists(
                st.tuples(st.sampled_from(USERS), names, st.sampled_from(sorted(budgets))), unique_by=lambda e: e[0]
            )
        ):
            customers[user_id] = Customer(user_id, name, group_id)
    keys = {each: ConnectionKey(each) for each in draw(st.frozensets(st.sampled_from(["k1", "k2"])))}
    foreign = {}
    if current:
        for kind, each in draw(
            st.frozensets(
                st.tuples(st.just("team"), st.sampled_from(GROUPS))
                | st.tuples(st.just("customer"), st.sampled_from(USERS))
                | st.tuples(st.just("key"), st.sampled_from(["k1", "k2"]))
            )
        ):
            if each not in {**teams, **customers, **keys}:
                foreign[kind, each] = Foreign(kind, each, "made by somebody else")
    return MirrorState(teams, budgets, customers, keys, foreign)


def apply(state: State, change: Change) -> State:
    """What a change means, said once more and plainly."""
    policy, mirror = state.policy, state.mirror or MirrorState()
    if isinstance(change, MembersChanged):
        old = policy.members.get(change.group_id, frozenset())
        new = {**policy.members, change.group_id: (old | change.added) - change.removed}
        return replace(state, policy=replace(policy, members=new))
    thing, gone = change.object, isinstance(change, Removed)
    match thing:
        case StoredUser():
            return replace(state, policy=replace(policy, users=_put(policy.users or {}, thing.id, thing, gone=gone)))
        case StoredGroup():
            kept = policy.members if not gone else {k: v for k, v in policy.members.items() if k != thing.id}
            return replace(
                state, policy=replace(policy, groups=_put(policy.groups, thing.id, thing, gone=gone), members=kept)
            )
        case Team():
            shown = replace(thing, shown=thing.digest)
            return replace(state, mirror=replace(mirror, teams=_put(mirror.teams, thing.group_id, shown, gone=gone)))
        case Budget():
            return replace(
                state, mirror=replace(mirror, budgets=_put(mirror.budgets, thing.group_id, thing, gone=gone))
            )
        case Customer():
            assert gone or thing.group_id in mirror.budgets, "LiteLLM refuses a customer whose budget is not there"
            return replace(
                state, mirror=replace(mirror, customers=_put(mirror.customers, thing.user_id, thing, gone=gone))
            )
        case ConnectionKey():
            return replace(state, mirror=replace(mirror, keys=_put(mirror.keys, thing.token_hash, thing, gone=gone)))


def _put(mapping: Mapping[str, T], key: str, value: T, *, gone: bool) -> dict[str, T]:
    rest = {each: found for each, found in mapping.items() if each != key}
    return rest if gone else {**rest, key: value}
