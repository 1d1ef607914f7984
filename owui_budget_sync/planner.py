"""Compares what is with what should be. Pure: no I/O, no clock, and the same plan for the same states.

Order: users, groups and memberships first, what disappears last; then LiteLLM, where a customer needs its budget to be
there, so budgets come before customers and go after them.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from hashlib import sha256
from typing import TypeVar

from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.changes import (
    Added,
    Change,
    Changed,
    MembersChanged,
    Object,
    Removed,
    identifier,
    is_policy,
    noun,
)
from owui_budget_sync.desired import deciding_none
from owui_budget_sync.litellm.objects import NO_GROUP, Budget, Foreign, MirrorState, Team
from owui_budget_sync.state import Note, PolicyState, State

T = TypeVar("T", bound=Object)


@dataclass(frozen=True)
class Plan:
    """What would change, in the order of applying it, and what a person should know."""

    changes: tuple[Change, ...] = ()
    notes: tuple[Note, ...] = ()
    seen: tuple[StoredGroup, ...] = ()
    """Groups of which only the stamp or the problem is new: bookkeeping, no change."""

    @property
    def policy(self) -> tuple[Change, ...]:
        """The changes of the policy store."""
        return tuple(change for change in self.changes if is_policy(change))

    @property
    def mirror(self) -> tuple[Change, ...]:
        """The changes of LiteLLM."""
        return tuple(change for change in self.changes if not is_policy(change))

    @property
    def losses(self) -> bool:
        """Whether anything would disappear from the policy."""
        return any(True for change in self.changes for _ in _lost(change))

    @cached_property
    def digest(self) -> str:
        """Stands for everything that would disappear from the policy: what `apply --accept` accepts.

        Additions and edits do not enter it, so that it does not change while somebody reads the plan.
        """
        digest = sha256()
        for change in self.changes:
            for line in _lost(change):
                digest.update(f"{line}\n".encode())
        return digest.hexdigest()[:12]


def _lost(change: Change) -> Iterator[str]:
    if isinstance(change, MembersChanged):
        yield from (f"{change.group_id}/{user_id}" for user_id in sorted(change.removed))
    elif isinstance(change, Removed) and is_policy(change):
        yield f"{noun(change)}:{identifier(change)}"


def plan(current: State, desired: State, *, prune: bool = False, notes: tuple[Note, ...] = ()) -> Plan:
    """Plan the way from `current` to `desired`.

    `prune` deletes LiteLLM objects of ours that nothing stands behind any more; without it teams are marked retired,
    budgets emptied and customers moved to the budget without limits, because deleting a team deletes its keys.
    """
    changes = list(policy_changes(current.policy, desired.policy))
    if current.mirror is not None and desired.mirror is not None:
        changes.extend(mirror_changes(current.mirror, desired.mirror, prune=prune))
        notes = (*notes, *_foreign_notes(current.mirror.foreign))
    seen = tuple(
        group
        for group_id, group in desired.policy.groups.items()
        if (before := current.policy.groups.get(group_id)) is not None
        and before != group
        and before.policy == group.policy
    )
    return Plan(tuple(changes), notes, seen)


def policy_changes(current: PolicyState, desired: PolicyState) -> Iterator[Change]:
    """Compare the policy; what was not read on the desired side is left as it is."""
    old_users: Mapping[str, StoredUser] = current.users or {}
    if desired.users is not None:
        yield from _put(old_users, desired.users)
    for group_id in sorted(desired.groups):
        before, group = current.groups.get(group_id), desired.groups[group_id]
        if before is None:
            yield Added(group)
        elif before.policy != group.policy:
            yield Changed(before, group)
    for group_id in sorted(desired.members):
        old, new = current.members.get(group_id, frozenset()), desired.members[group_id]
        if old != new:
            yield MembersChanged(group_id, desired.groups[group_id].name, new - old, old - new)
    for group_id in sorted(current.groups.keys() - desired.groups.keys()):
        yield Removed(current.groups[group_id])
    if desired.users is not None:
        for user_id in sorted(old_users.keys() - desired.users.keys()):
            yield Removed(old_users[user_id])


def mirror_changes(current: MirrorState, desired: MirrorState, *, prune: bool = False) -> Iterator[Change]:
    """Compare LiteLLM's objects; nothing that carries somebody else's mark is named."""
    foreign = current.foreign.keys()
    yield from _put(current.keys, {h: key for h, key in desired.keys.items() if ("key", h) not in foreign})

    gone_customers = [current.customers[each] for each in sorted(current.customers.keys() - desired.customers.keys())]
    unlinked = {} if prune else {each.user_id: deciding_none(each) for each in gone_customers}
    budgets = {each: budget for each, budget in desired.budgets.items() if ("budget", each) not in foreign}
    if any(current.customers[user_id] != unlinked[user_id] for user_id in unlinked):
        budgets[NO_GROUP] = Budget(NO_GROUP)
    gone_budgets = [
        current.budgets[each] for each in sorted(current.budgets.keys() - budgets.keys()) if each != NO_GROUP
    ]
    if not prune:
        budgets |= {each.group_id: Budget(each.group_id) for each in gone_budgets}
    yield from _put(current.budgets, budgets)

    gone_teams = [current.teams[each] for each in sorted(current.teams.keys() - desired.teams.keys())]
    for group_id in sorted(desired.teams):
        if ("team", group_id) not in foreign:
            yield from _team_change(current.teams.get(group_id), desired.teams[group_id])
    if not prune:
        for team in gone_teams:
            yield from _team_change(team, _retired(team))

    # A customer can only be given a budget that is there and ours.
    customers = {
        user_id: customer
        for user_id, customer in desired.customers.items()
        if ("customer", user_id) not in foreign and customer.group_id in budgets
    }
    yield from _put(current.customers, customers | unlinked)
    if prune:
        yield from (Removed(customer) for customer in gone_customers)
        yield from (Removed(team) for team in gone_teams)
        yield from (Removed(budget) for budget in gone_budgets)


def _put(current: Mapping[str, T], desired: Mapping[str, T]) -> Iterator[Change]:
    for key in sorted(desired):
        before, after = current.get(key), desired[key]
        if before is None:
            yield Added(after)
        elif before != after:
            yield Changed(before, after)


def _team_change(before: Team | None, after: Team) -> Iterator[Change]:
    if before is None:
        yield Added(after)
        return
    # Whoever is a team admin in LiteLLM is in the team already.
    after = replace(after, members=after.members - before.admins, admins=before.admins)
    if before.members != after.members or before.shown != after.digest:
        yield Changed(before, after)


def _retired(team: Team) -> Team:
    """Keeps alias and members: who belonged to it stays readable beside its spend."""
    return replace(team, limits=None)


def _foreign_notes(foreign: Mapping[tuple[str, str], Foreign]) -> tuple[Note, ...]:
    return tuple(
        Note("foreign", each.id, f"LiteLLM {each.kind} {each.id} is not ours ({each.reason}): it is left as it is")
        for each in sorted(foreign.values(), key=lambda each: (each.kind, each.id))
    )
