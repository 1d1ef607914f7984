"""From what Open WebUI says to what should be: limits judged, LiteLLM's objects derived."""

from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from owui_budget.domain.identity import Role
from owui_budget.domain.limits import InvalidLimitsError, parse_limits
from owui_budget.domain.policy import Group, Policy, PolicyRules, rank
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
        below = descendants(policy)
        teams = {group.id: self._team(group, members, below[group.id]) for group in limited}
        budgets = {group.id: _budget(group) for group in limited}
        customers = self._customers(policy, members, users)
        return MirrorState(teams, budgets, customers, self.keys)

    def _team(self, group: Group, members: Members, below: Iterable[str]) -> Team:
        # One group at a time: the effective members of a deep tree, all at once, are many times the memberships.
        none: frozenset[str] = frozenset()
        effective = frozenset().union(*(members.get(group_id, none) for group_id in below))
        mirrored = len(effective) <= self.members_max
        if not mirrored:
            text = f"team {group.name} has {len(effective):,} members, more than mirror_members_max: it carries none"
            self.notes.append(Note("members", group.name, text))
        return Team(group.id, group.name, group.limits, effective if mirrored else none, mirrored)

    def _customers(self, policy: Policy, members: Members, users: Iterable[StoredUser]) -> dict[str, Customer]:
        groups_of = by_user(members)
        deciders = Deciders(policy)
        tied: Counter[tuple[str, ...]] = Counter()
        customers = {}
        for user in users:
            if user.role is Role.ADMIN and policy.rules.admins_exempt:
                continue
            deciding, others = deciders.of(groups_of.get(user.id, ()))
            if deciding is None:
                continue
            customers[user.id] = Customer(user.id, user.name, deciding.id)
            if others:
                tied[(deciding.name, *(group.name for group in others))] += 1
        for names, count in sorted(tied.items()):
            text = (
                f"groups {', '.join(names)} have the same priority: for {count:,} user{'s' * (count != 1)} in all of "
                f"them {names[0]} decides (larger monthly, then daily hard limit, then id)"
            )
            self.notes.append(Note("tie", names[0], text))
        return customers


class Deciders:
    """Finds deciding groups for many users; the same answer as `Policy.resolve`, which a test holds it to.

    Resolving one user takes 80 µs, most of it for limits that nobody asks for here; this takes 2.
    """

    def __init__(self, policy: Policy) -> None:
        """Rank all groups once."""
        self._ranked = sorted(
            (group for group in policy.groups.values() if group.limits and group.limits.member), key=rank
        )
        positions = {group.id: position for position, group in enumerate(self._ranked)}
        self._above = {
            group_id: tuple(positions[each] for each in policy.with_ancestors([group_id]) if each in positions)
            for group_id in policy.groups
        }

    def of(self, group_ids: Iterable[str]) -> tuple[Group | None, tuple[Group, ...]]:
        """Return the deciding group of a user in these groups, and those that lost by the tie rules."""
        found = {position for group_id in group_ids for position in self._above.get(group_id, ())}
        if not found:
            return None, ()
        first, *others = (self._ranked[position] for position in sorted(found))
        return first, tuple(group for group in others if rank(group)[0] == rank(first)[0])


def _budget(group: Group) -> Budget:
    member = group.limits.member if group.limits else {}
    monthly = Window.MONTHLY in member and Window.DAILY not in member
    daily = member.get(Window.DAILY)
    return Budget(group.id, "1mo" if monthly else "1d", daily.hard if daily else None)


def by_user(members: Members) -> dict[str, list[str]]:
    """Turn members by group into groups by user."""
    found: dict[str, list[str]] = {}
    for group_id in sorted(members):
        for user_id in members[group_id]:
            found.setdefault(user_id, []).append(group_id)
    return found


def descendants(policy: Policy) -> dict[str, set[str]]:
    """Return each limited group's subtree, itself included: a member of a child is a member of every ancestor."""
    below: dict[str, set[str]] = {group.id: {group.id} for group in policy.groups.values() if group.limits}
    for group_id in policy.groups:
        for ancestor in policy.with_ancestors([group_id]):
            if ancestor in below:
                below[ancestor].add(group_id)
    return below


def deciding_none(customer: Customer) -> Customer:
    """The same customer once no group decides about him."""
    return Customer(customer.user_id, customer.alias, NO_GROUP)
