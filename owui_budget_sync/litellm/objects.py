"""The LiteLLM objects that carry our mark, as values.

| Open WebUI | LiteLLM | mark |
|---|---|---|
| limited group | team `owui-<group id>` | the id, and `metadata.owui_budget` |
| limited group | budget `owui-<group id>` | the id |
| user with a deciding group | customer `<user id>` | its budget's id |
| connection of Open WebUI | key | `metadata.owui_budget` |

LiteLLM enforces none of it: it has no token limit per day or month. The objects show limits, members and spend on its
pages, and let keys be given to a group.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from typing import Any

from owui_budget.domain.limits import UsageLimits

PREFIX = "owui-"
MARK = "owui_budget"
NO_GROUP = "none"
"""Stands for a group in the budget of customers whom no group decides about (any more): LiteLLM can give a customer
another budget, but cannot take his budget away."""

ROUTES: tuple[str, ...] = tuple(
    f"{prefix}{path}"
    for path in (
        "/models",
        "/chat/completions",
        "/completions",
        "/embeddings",
        "/responses",
        "/messages",
        "/images/generations",
        "/images/edits",
        "/audio/speech",
        "/audio/transcriptions",
        "/rerank",
    )
    for prefix in ("", "/v1")
)
"""What the connection key may call: models and the routes whose use is counted. LiteLLM matches them as prefixes of
whole path segments, so `/v1/messages` includes `/v1/messages/count_tokens`."""


def object_id(group_id: str) -> str:
    """The id of a group's team and budget in LiteLLM."""
    return f"{PREFIX}{group_id}"


def group_of(identifier: str | None) -> str | None:
    """The group behind a team's or budget's id; None if the id is not one of ours."""
    return identifier.removeprefix(PREFIX) if identifier and identifier.startswith(PREFIX) else None


@dataclass(frozen=True, slots=True)
class Budget:
    """A budget without any money: it shows the period and the daily tokens of one member."""

    group_id: str
    duration: str | None = None
    """`1d` or `1mo`; None for a budget that stands for no limits (any more)."""
    tpd_limit: int | None = None
    """Tokens per day. LiteLLM itself charges batch jobs against it, nothing else."""


@dataclass(frozen=True, slots=True)
class Team:
    """A limited group."""

    group_id: str
    alias: str
    limits: UsageLimits | None = None
    """None once the group has lost its limits or is gone: the team is then retired, and stays for its keys' sake."""
    members: frozenset[str] = frozenset()
    """Effective members by user id, if they are mirrored."""
    mirrored: bool = True
    """Whether the team carries its members, or is too large for that."""
    admins: frozenset[str] = field(default=frozenset(), compare=False)
    """Members that LiteLLM lists as team admins: whoever made the team, and whom people added. Not ours to change."""
    shown: str = field(default="", compare=False)
    """The digest of what LiteLLM shows; it differs from `digest` where somebody edited the team by hand."""

    @property
    def metadata(self) -> dict[str, Any]:
        """What `metadata.owui_budget` holds."""
        return {
            "version": 1,
            "group_id": self.group_id,
            "priority": self.limits.priority if self.limits is not None else None,
            "limits": self.limits.to_json() if self.limits is not None else None,
            "retired": self.limits is None,
            "members_mirrored": self.mirrored,
            "digest": self.digest,
        }

    @property
    def digest(self) -> str:
        """Stands for alias, priority and limits; members are compared by themselves."""
        limits = self.limits.to_json() if self.limits is not None else None
        return fingerprint(self.alias, limits, self.mirrored)


@dataclass(frozen=True, slots=True)
class Customer:
    """A user whose limits a group decides."""

    user_id: str
    alias: str
    group_id: str
    """The deciding group, or `NO_GROUP`."""


@dataclass(frozen=True, slots=True)
class ConnectionKey:
    """The key of an Open WebUI connection, by its SHA-256; the key itself is only in the settings."""

    token_hash: str
    routes: tuple[str, ...] = ROUTES

    @property
    def alias(self) -> str:
        """A readable name that says nothing about the key."""
        return f"{PREFIX}connection-{self.token_hash[:8]}"


@dataclass(frozen=True, slots=True)
class Foreign:
    """An object where one of ours should be, made by somebody else: reported and left alone."""

    kind: str
    id: str
    reason: str


@dataclass(frozen=True)
class MirrorState:
    """Our objects in LiteLLM: as they are, or as they should be."""

    teams: Mapping[str, Team] = field(default_factory=dict)
    """By group id."""
    budgets: Mapping[str, Budget] = field(default_factory=dict)
    """By group id, or `NO_GROUP`."""
    customers: Mapping[str, Customer] = field(default_factory=dict)
    """By user id."""
    keys: Mapping[str, ConnectionKey] = field(default_factory=dict)
    """By hash."""
    foreign: Mapping[tuple[str, str], Foreign] = field(default_factory=dict)
    """By kind (team, budget, customer, key) and the key of the mapping; only where one of ours would be."""


def fingerprint(*values: object) -> str:
    """Sixteen hexadecimal digits that stand for `values`."""
    return sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()[:16]
