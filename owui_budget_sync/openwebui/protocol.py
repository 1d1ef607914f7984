"""What the sync job asks of Open WebUI. One contract suite holds the API and the database source to it."""

from collections.abc import AsyncIterator, Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from owui_budget.policy_store import StoredUser


@dataclass(frozen=True, slots=True)
class SourceGroup:
    """A group as Open WebUI keeps it. `usage_limits` is whatever an admin wrote there: not yet judged."""

    id: str
    name: str
    parent_id: str | None = None
    usage_limits: Any = None
    updated_at: int = 0
    """Epoch seconds by Open WebUI's clock, whole: two changes within one second share a value."""
    member_count: int = 0
    """Direct members."""


@dataclass(frozen=True, slots=True)
class GroupList:
    """All groups at one moment, `read_at` in epoch seconds by the source's own clock where it tells it."""

    groups: Mapping[str, SourceGroup] = field(default_factory=dict)
    read_at: float = 0.0


class Source(Protocol):
    """Reads Open WebUI, never writes it.

    Every method raises `SourceUnavailableError` when a later try may succeed and `SourceRefusedError` when somebody
    has to act first. A source never answers with less than there is: an answer it cannot trust is an error.
    """

    async def groups(self) -> GroupList:
        """List all groups."""
        ...

    def members(self, group_ids: Collection[str]) -> AsyncIterator[tuple[str, frozenset[str]]]:
        """Read the direct members of the given groups; a group deleted meanwhile is left out."""
        ...

    def users(self) -> AsyncIterator[StoredUser]:
        """Read all users."""
        ...

    async def close(self) -> None:
        """Give connections back."""
        ...
