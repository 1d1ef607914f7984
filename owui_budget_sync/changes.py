"""A change is a type: something is added, changed or removed, and it knows what it is.

`MembersChanged` stands apart, because a group of ten thousand changes by a few of them.
"""

from dataclasses import dataclass
from typing import Generic, TypeVar

from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.litellm.objects import Budget, ConnectionKey, Customer, Team

Object = StoredUser | StoredGroup | ConnectionKey | Budget | Team | Customer
T_co = TypeVar("T_co", covariant=True, bound=Object)


@dataclass(frozen=True, slots=True)
class Added(Generic[T_co]):
    """Something new."""

    object: T_co


@dataclass(frozen=True, slots=True)
class Changed(Generic[T_co]):
    """Something that differs."""

    before: T_co
    object: T_co


@dataclass(frozen=True, slots=True)
class Removed(Generic[T_co]):
    """Something that is to go."""

    object: T_co


@dataclass(frozen=True, slots=True)
class MembersChanged:
    """Direct members of one group come and go."""

    group_id: str
    group_name: str
    added: frozenset[str] = frozenset()
    removed: frozenset[str] = frozenset()


Change = Added[Object] | Changed[Object] | Removed[Object] | MembersChanged

NOUNS: dict[type[Object], str] = {
    StoredUser: "user",
    StoredGroup: "group",
    ConnectionKey: "LiteLLM key",
    Budget: "LiteLLM budget",
    Team: "LiteLLM team",
    Customer: "LiteLLM customer",
}


def noun(change: Change) -> str:
    """What kind of thing changes."""
    return "members" if isinstance(change, MembersChanged) else NOUNS[type(change.object)]


def verb(change: Change) -> str:
    """How it changes: add, change or remove."""
    match change:
        case Added():
            return "add"
        case Removed():
            return "remove"
        case _:
            return "change"


def identifier(change: Change) -> str:
    """The id of the thing in its own world."""
    if isinstance(change, MembersChanged):
        return change.group_id
    match change.object:
        case StoredUser(id=found) | StoredGroup(id=found) | Customer(user_id=found):
            return found
        case Team(group_id=found) | Budget(group_id=found):
            return found
        case ConnectionKey():
            return change.object.alias


def name(change: Change) -> str:
    """The thing's name for people."""
    if isinstance(change, MembersChanged):
        return change.group_name
    match change.object:
        case StoredUser():
            return change.object.name or change.object.email or change.object.id
        case StoredGroup(name=found) | Team(alias=found) | ConnectionKey(alias=found):
            return found
        case Customer():
            return change.object.alias or change.object.user_id
        case Budget(group_id=found):
            return found


def is_policy(change: Change) -> bool:
    """Whether the change is the policy store's (LiteLLM's otherwise)."""
    return isinstance(change, MembersChanged) or isinstance(change.object, StoredUser | StoredGroup)
