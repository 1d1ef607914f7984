"""One sync of the policy, from the look at Open WebUI to the write: the walk that everything else serves.

source.read -> desired.groups -> planner.plan -> safety.check -> store.write
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from enum import Enum

from owui_budget.policy_store import (
    ChangeMembers,
    Fence,
    PolicyChange,
    PutGroup,
    PutUser,
    RemoveGroup,
    RemoveUser,
    SqlPolicyStore,
    StoredGroup,
    StoredUser,
)
from owui_budget_sync import desired as desire
from owui_budget_sync import safety
from owui_budget_sync.changes import MembersChanged, Removed
from owui_budget_sync.openwebui.protocol import GroupList, Source
from owui_budget_sync.planner import Plan, plan
from owui_budget_sync.state import PolicyState, State, Totals

UNSETTLED = 10.0
"""Seconds for which a group counts as just changed: its stamp has whole seconds, so a second change within the same
second shows in nothing else."""


GROUPS_AT_ONCE = 50
"""Groups whose members are read from the policy store at once."""


class Depth(Enum):
    """How much a look reads."""

    LIMITS = "limits"
    """The group list alone: limits, names and parents."""
    GROUPS = "groups"
    """That, and the members of groups that changed."""
    USERS = "users"
    """That, and all users."""
    ALL = "all"
    """Everything."""


@dataclass(frozen=True)
class Reading:
    """What Open WebUI said. Reading members and users may have taken long, and the list be old by then."""

    depth: Depth
    listed: GroupList
    members: Mapping[str, frozenset[str]]
    users: Mapping[str, StoredUser] | None


@dataclass(frozen=True)
class Look:
    """What a look found, and what is to be done about it."""

    plan: Plan
    current: PolicyState
    desired: PolicyState
    totals: Totals
    member_counts: Mapping[str, int]
    """Before the plan, by group id; like the totals, counted only where something would disappear."""
    revision: int
    """Of the policy before the plan."""

    def check(self, threshold: int, accepted: str | None = None) -> None:
        """Stop an unsafe plan unless its digest was accepted.

        Raises:
            UnsafePlanError: more would disappear than `threshold` percent.

        """
        if accepted is None or accepted != self.plan.digest:
            safety.check(self.plan, self.desired, self.totals, threshold=threshold, member_counts=self.member_counts)


class PolicySync:
    """Carries groups, members and users from Open WebUI to the policy store."""

    def __init__(self, source: Source, store: SqlPolicyStore) -> None:
        """Read `source`, write `store`; both are the caller's to close."""
        self._source = source
        self._store = store

    async def read(self, depth: Depth) -> Reading:
        """Read Open WebUI.

        Raises:
            SourceUnavailableError, SourceRefusedError: it could not be read.
            LedgerUnavailableError: the policy store, which says what to read, does not answer.

        """
        listed = await self._source.groups()
        if depth is Depth.LIMITS:
            return Reading(depth, listed, {}, None)
        wanted = frozenset(listed.groups)
        if depth is not Depth.ALL:
            known, counts = await asyncio.to_thread(lambda: (self._store.groups(), self._store.member_counts()))
            wanted = _unsettled(listed, known, counts)
        members = {group_id: found async for group_id, found in self._source.members(wanted)} if wanted else {}
        users = None if depth is Depth.GROUPS else {user.id: user async for user in self._source.users()}
        return Reading(depth, listed, members, users)

    async def look(self, reading: Reading) -> Look:
        """Compare what was read with the policy store and plan; nothing is written.

        Raises:
            SourceUnavailableError, SourceRefusedError: the group list could not be read again.
            LedgerUnavailableError: the policy store does not answer.

        """
        listed = reading.listed
        if reading.depth in (Depth.USERS, Depth.ALL):
            # Limits may have been edited, and written by a quicker look, while members and users were read.
            listed = await self._source.groups()
        known = await asyncio.to_thread(self._store.groups)
        judged = desire.groups(listed.groups, known)
        for group_id, group in judged.items():
            before = known.get(group_id)
            judged[group_id] = replace(group, stamp=_stamp(group, before, reading))
        members = {group_id: found for group_id, found in reading.members.items() if group_id in judged}
        desired = PolicyState(judged, members, reading.users)
        current = await asyncio.to_thread(self._current, known, desired)
        planned = plan(State(current), State(desired), notes=tuple(desire.problems(judged.values())))
        counts, users = await asyncio.to_thread(self._count) if planned.losses else ({}, 0)
        return Look(
            plan=planned,
            current=current,
            desired=desired,
            totals=Totals(len(known), sum(counts.values()), users),
            member_counts=counts,
            revision=await asyncio.to_thread(self._store.revision),
        )

    async def write(self, look: Look, fence: Fence) -> int:
        """Write what `look` planned in one transaction, if anything; return the revision after it.

        Raises:
            FenceLostError: another process leads now; nothing was written.

        """
        changes = list(store_changes(look.plan, look.desired.groups))
        return await asyncio.to_thread(self._store.write, changes, fence) if changes else look.revision

    def _count(self) -> tuple[dict[str, int], int]:
        """Count what there is; it takes a while on a large installation, so it is done where something disappears."""
        return self._store.member_counts(), self._store.user_count()

    def _current(self, groups: Mapping[str, StoredGroup], desired: PolicyState) -> PolicyState:
        """Read what the policy store has of what was read from Open WebUI.

        Nearly all of it is the same; then the desired value stands for both, and 100,000 users are in memory once.
        """
        members: dict[str, frozenset[str]] = {}
        wanted = sorted(desired.members)
        for start in range(0, len(wanted), GROUPS_AT_ONCE):
            for group_id, found in self._store.members(wanted[start : start + GROUPS_AT_ONCE]).items():
                members[group_id] = desired.members[group_id] if desired.members[group_id] == found else found
        if desired.users is None:
            return PolicyState(groups, members)
        users = {}
        for user in self._store.users():
            same = desired.users.get(user.id)
            kept = same if same is not None and same == user else user
            users[kept.id] = kept
        return PolicyState(groups, members, users)


def _stamp(group: StoredGroup, before: StoredGroup | None, reading: Reading) -> int:
    """The stamp of the members that were read: a group that changed since, or was not read, is looked at again."""
    seen = reading.listed.groups.get(group.id)
    if group.id in reading.members and seen is not None:
        return seen.updated_at
    return before.stamp if before is not None else 0


def _unsettled(listed: GroupList, known: Mapping[str, StoredGroup], counts: Mapping[str, int]) -> frozenset[str]:
    """Groups whose members may have changed since they were read."""
    return frozenset(
        group.id
        for group in listed.groups.values()
        if group.id not in known
        or group.updated_at != known[group.id].stamp
        # Deleting a user, and edits in the database, take members away without touching the group.
        or group.member_count != counts.get(group.id, 0)
        or group.updated_at > listed.read_at - UNSETTLED
    )


def store_changes(planned: Plan, groups: Mapping[str, StoredGroup]) -> Iterator[PolicyChange]:
    """Translate a plan into what the policy store writes."""
    named = set()
    for change in planned.policy:
        match change:
            case MembersChanged():
                yield ChangeMembers(change.group_id, change.added, change.removed)
            case Removed(object=StoredGroup(id=group_id)):
                yield RemoveGroup(group_id)
            case Removed(object=StoredUser(id=user_id)):
                yield RemoveUser(user_id)
            case _ if isinstance(change.object, StoredUser):
                yield PutUser(change.object)
            case _ if isinstance(change.object, StoredGroup):
                named.add(change.object.id)
                yield PutGroup(change.object)
            case _:
                pass
    yield from (PutGroup(groups[group.id]) for group in planned.seen if group.id not in named)
