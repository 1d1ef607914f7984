"""From what Open WebUI says to what should be: limits judged, LiteLLM's objects derived."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from owui_budget.domain.identity import Caller, Role, Subject
from owui_budget.domain.limits import InvalidLimitsError, parse_limits
from owui_budget.domain.policy import Group, Policy, PolicyRules, Resolution
from owui_budget.domain.windows import Window
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.litellm.objects import NO_GROUP, Budget, ConnectionKey, Customer, MirrorState, Team
from owui_budget_sync.openwebui.protocol import SourceGroup
from owui_budget_sync.state import Note

Members = Mapping[str, frozenset[str]]
"""Direct members by group id."""


def groups(listed: Mapping[str, SourceGroup], current: Mapping[str, StoredGroup]) -> dict[str, StoredGroup]:
    """Judge each group's limits; those of a group that cannot be read stay as they last were, or none."""
    return {group.id: _judged(group, current.get(group.id)) for group in listed.values()}


def _judged(group: SourceGroup, before: StoredGroup | None) -> StoredGroup:
    limits, problem = before.limits if before else None, None
    try:
        # Limits without a single bound limit nothing: the same as none.
        limits = parse_limits(group.usage_limits) or None
    except InvalidLimitsError as error:
        problem = str(error)
    return StoredGroup(group.id, group.name, group.parent_id, limits, problem, group.updated_at)


def problems(judged: Iterable[StoredGroup]) -> list[Note]:
    """Report groups whose limits cannot be used: by name, with the reason and what holds meanwhile."""
    return [
        Note(
            "limits",
            group.name,
            f"group {group.name} ({group.id}) has limits that cannot be used: {group.problem}; "
            + ("its last valid limits stay in force" if group.limits else "it carries no limits until they are mended"),
        )
        for group in sorted(judged, key=lambda each: (each.name, each.id))
        if group.problem
    ]


@dataclass
class Mirror:
    """Derives LiteLLM's objects from the policy, and notes what people should know about them."""

    rules: PolicyRules
    members_max: int
    """Teams of more effective members than this are mirrored without members."""
    keys: Mapping[str, ConnectionKey] = field(default_factory=dict)
    notes: list[Note] = field(default_factory=list)

    def derive(self, stored: Mapping[str, StoredGroup], members: Members, users: Iterable[StoredUser]) -> MirrorState:
        """Return the objects for all `stored` groups, with the direct members of all of them, and all `users`."""
        policy = Policy({group.id: group.policy for group in stored.values()}, self.rules)
        limited = [group for group in policy.groups.values() if group.limits]
        people = effective_members(policy, members)
        teams = {group.id: self._team(group, people.get(group.id, frozenset())) for group in limited}
        budgets = {group.id: _budget(group) for group in limited}
        customers = self._customers(policy, members, users)
        return MirrorState(teams, budgets, customers, self.keys)

    def _team(self, group: Group, members: frozenset[str]) -> Team:
        mirrored = len(members) <= self.members_max
        if not mirrored:
            text = f"team {group.name} has {len(members):,} members, more than mirror_members_max: it carries none"
            self.notes.append(Note("members", group.name, text))
        return Team(group.id, group.name, group.limits, members if mirrored else frozenset(), mirrored)

    def _customers(self, policy: Policy, members: Members, users: Iterable[StoredUser]) -> dict[str, Customer]:
        groups_of = by_user(members)
        none: frozenset[str] = frozenset()
        # Users share few sets of groups, so each set is resolved once, for admins and for everybody else.
        known: dict[tuple[bool, frozenset[str]], Resolution] = {}
        tied: dict[tuple[str, ...], int] = {}
        customers = {}
        for user in users:
            case = (user.role is Role.ADMIN, groups_of.get(user.id, none))
            if case not in known:
                known[case] = policy.resolve(
                    Subject(Caller.OPENWEBUI, user_id=user.id, role=user.role, group_ids=case[1])
                )
            found = known[case]
            if found.deciding is None:
                continue
            customers[user.id] = Customer(user.id, user.name, found.deciding.id)
            if found.tied:
                names = (found.deciding.name, *(group.name for group in found.tied))
                tied[names] = tied.get(names, 0) + 1
        for names, count in sorted(tied.items()):
            text = (
                f"groups {', '.join(names)} have the same priority: for {count:,} user{'s' * (count != 1)} in all of "
                f"them {names[0]} decides (larger monthly, then daily hard limit, then id)"
            )
            self.notes.append(Note("tie", names[0], text))
        return customers


def _budget(group: Group) -> Budget:
    member = group.limits.member if group.limits else {}
    monthly = Window.MONTHLY in member and Window.DAILY not in member
    daily = member.get(Window.DAILY)
    return Budget(group.id, "1mo" if monthly else "1d", daily.hard if daily else None)


def by_user(members: Members) -> dict[str, frozenset[str]]:
    """Turn members by group into groups by user; equal sets are one object, since most users share a few of them."""
    lists: dict[str, list[str]] = {}
    for group_id in sorted(members):
        for user_id in members[group_id]:
            lists.setdefault(user_id, []).append(group_id)
    shared: dict[tuple[str, ...], frozenset[str]] = {}
    return {user_id: shared.setdefault(key := tuple(ids), frozenset(key)) for user_id, ids in lists.items()}


def effective_members(policy: Policy, members: Members) -> dict[str, frozenset[str]]:
    """Add the members of all descendants to each limited group's own; only limited groups are returned."""
    gathered: dict[str, set[str]] = {group.id: set() for group in policy.groups.values() if group.limits}
    for group_id, own in members.items():
        for ancestor in policy.with_ancestors([group_id]):
            if ancestor in gathered:
                gathered[ancestor] |= own
    return {group_id: frozenset(found) for group_id, found in gathered.items()}


def deciding_none(customer: Customer) -> Customer:
    """The same customer once no group decides about him."""
    return Customer(customer.user_id, customer.alias, NO_GROUP)
