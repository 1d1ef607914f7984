"""The state of the whole, as values: what is in force, or what should be."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.litellm.objects import MirrorState


@dataclass(frozen=True)
class PolicyState:
    """Groups, members and users.

    A look at Open WebUI may read all groups but only some groups' members, and no users; what was not read is not
    compared.
    """

    groups: Mapping[str, StoredGroup] = field(default_factory=dict)
    members: Mapping[str, frozenset[str]] = field(default_factory=dict)
    """Direct members by group id, of the groups that were read."""
    users: Mapping[str, StoredUser] | None = None
    """None: not read."""


@dataclass(frozen=True)
class State:
    """Policy store and LiteLLM side by side. `mirror` is None where LiteLLM is not looked at."""

    policy: PolicyState = field(default_factory=PolicyState)
    mirror: MirrorState | None = None


@dataclass(frozen=True, slots=True)
class Totals:
    """How much there was before: what safety measures losses against."""

    groups: int = 0
    members: int = 0
    """Memberships, counted once per group."""
    users: int = 0


@dataclass(frozen=True, slots=True)
class Note:
    """Something a person should know, which changes nothing by itself."""

    kind: str
    """`limits`, `tie`, `foreign` or `members`."""
    subject: str
    text: str
