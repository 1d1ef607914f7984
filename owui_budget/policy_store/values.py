"""What the policy store holds, and the changes it takes.

The store knows groups with their limits, users, and who is a direct member of what. It does not know where they came
from; inheritance is computed by `domain.policy` from the groups' parents.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from owui_budget.domain.identity import Role
from owui_budget.domain.limits import UsageLimits
from owui_budget.domain.policy import Group


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All groups at one revision: with the rules of limits.yaml this is the whole policy."""

    revision: int
    groups: Mapping[str, Group]


@dataclass(frozen=True, slots=True)
class PolicyUser:
    """A user with the groups Open WebUI lists him in directly; inherited ones follow from the groups' parents."""

    id: str
    email: str
    name: str
    role: Role
    group_ids: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A user without memberships. `email` is in lower case."""

    id: str
    email: str
    name: str
    role: Role


@dataclass(frozen=True, slots=True)
class StoredGroup:
    """A group as the store keeps it.

    `problem` says why Open WebUI's present limits cannot be used; `limits` are then the last valid ones, or None.
    `stamp` is Open WebUI's `updated_at` (epoch seconds) at the last look; it is no part of the policy.
    """

    id: str
    name: str
    parent_id: str | None = None
    limits: UsageLimits | None = None
    problem: str | None = None
    stamp: int = 0

    @property
    def policy(self) -> Group:
        """The part that decisions follow."""
        return Group(self.id, self.name, self.parent_id, self.limits)


@dataclass(frozen=True, slots=True)
class PutUser:
    """Add a user, or replace what is known of him."""

    user: StoredUser


@dataclass(frozen=True, slots=True)
class RemoveUser:
    """Forget a user and his memberships."""

    user_id: str


@dataclass(frozen=True, slots=True)
class PutGroup:
    """Add a group, or replace it."""

    group: StoredGroup


@dataclass(frozen=True, slots=True)
class RemoveGroup:
    """Forget a group and its memberships."""

    group_id: str


@dataclass(frozen=True, slots=True)
class ChangeMembers:
    """Add and remove direct members of one group."""

    group_id: str
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


PolicyChange = PutUser | RemoveUser | PutGroup | RemoveGroup | ChangeMembers


@dataclass(frozen=True, slots=True)
class Fence:
    """Proof of leadership: a number that grows with every new leader. Writes with an older number are refused."""

    number: int
