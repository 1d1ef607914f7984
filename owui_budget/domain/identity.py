"""Who is counted, and what kind of call it is."""

from dataclasses import dataclass
from enum import StrEnum


class Role(StrEnum):
    """A user's role in Open WebUI."""

    ADMIN = "admin"
    USER = "user"
    PENDING = "pending"

    @classmethod
    def parse(cls, text: str | None) -> "Role":
        """Read a role; anything Open WebUI may add later counts as an ordinary user, never as an admin."""
        try:
            return cls((text or "").strip().lower())
        except ValueError:
            return cls.USER


class Caller(StrEnum):
    """By which door a call came in: decides whose word about the user is believed."""

    OPENWEBUI = "openwebui"
    """The Open WebUI connection key, with a signed JWT or its plain user headers."""
    USER_KEY = "user_key"
    """A LiteLLM virtual key whose own user is an Open WebUI user."""
    TEAM_KEY = "team_key"
    """A LiteLLM virtual key of one of our teams: the group's pool is counted, no member is."""
    SERVICE = "service"
    """Anything else: recorded, and limited only where limits.yaml says so."""


class Kind(StrEnum):
    """What a call is for. Chats, temporary chats and API calls count alike; tasks have an allowance of their own."""

    CHAT = "chat"
    TEMPORARY_CHAT = "temporary_chat"
    API = "api"
    TASK = "task"
    SERVICE = "service"


@dataclass(frozen=True, slots=True)
class Subject:
    """Who is counted.

    `group_ids` are direct and inherited groups. `user_id` is None only for team keys and services; `service_id` then
    names the key (its alias or the start of its hash, never the key itself).
    """

    caller: Caller
    user_id: str | None = None
    role: Role = Role.USER
    group_ids: frozenset[str] = frozenset()
    service_id: str | None = None

    def __post_init__(self) -> None:
        """Refuse a subject nobody could be counted as."""
        if self.caller in (Caller.OPENWEBUI, Caller.USER_KEY) and not self.user_id:
            msg = f"a subject of caller {self.caller} needs a user id"
            raise ValueError(msg)


class CounterKind(StrEnum):
    """What a counter counts. The order of members is the order in which rows are locked."""

    USER = "user"
    TASK = "task"
    SERVICE = "service"
    POOL = "pool"


_LOCK_ORDER = {kind: position for position, kind in enumerate(CounterKind)}


@dataclass(frozen=True, slots=True)
class Counter:
    """The name of one counter row, which holds its four current windows."""

    kind: CounterKind
    id: str

    @property
    def key(self) -> str:
        """The row's key, such as `user:4c62…` or `pool:2469…`."""
        return f"{self.kind}:{self.id}"

    @property
    def lock_position(self) -> tuple[int, str]:
        """Sorts users before pools, then by id: the one order in which every transaction locks rows."""
        return (_LOCK_ORDER[self.kind], self.id)

    @classmethod
    def parse(cls, key: str) -> "Counter":
        """Read back what `key` printed.

        Raises:
            ValueError: `key` names no known kind.

        """
        kind, separator, identifier = key.partition(":")
        if not separator or not identifier:
            msg = f"{key!r} is not a counter key"
            raise ValueError(msg)
        return cls(CounterKind(kind), identifier)
