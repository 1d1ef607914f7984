"""Rows of the policy tables and the values they stand for."""

import sys
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, TypeVar

from sqlalchemy import Row

from owui_budget.database.tables import policy_groups
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import parse_limits
from owui_budget.policy_store.values import StoredGroup, StoredUser

T = TypeVar("T")

GROUP = (  # the columns that `group_of` reads
    policy_groups.c.id,
    policy_groups.c.name,
    policy_groups.c.parent_id,
    policy_groups.c.limits,
    policy_groups.c.problem,
    policy_groups.c.source_updated_at,
)


def group_of(row: Row[*tuple[Any, ...]]) -> StoredGroup:
    """Read a group."""
    return StoredGroup(
        id=row.id,
        name=row.name,
        parent_id=row.parent_id,
        limits=parse_limits(row.limits),
        problem=row.problem,
        stamp=row.source_updated_at or 0,
    )


def row_of(group: StoredGroup) -> dict[str, Any]:
    """Print a group as a row."""
    return {
        "id": group.id,
        "name": group.name,
        "parent_id": group.parent_id,
        "limits": group.limits.to_json() if group.limits is not None else None,
        "problem": group.problem,
        "source_updated_at": group.stamp,
    }


def user_of(row: Row[*tuple[Any, ...]]) -> StoredUser:
    """Read a user."""
    return StoredUser(sys.intern(row.id), row.email or "", row.name or "", Role.parse(row.role))


def pages(items: Iterable[T], size: int) -> Iterator[list[T]]:
    """Cut `items` into lists of at most `size`."""
    iterator = iter(items)
    while chunk := list(islice(iterator, size)):
        yield chunk
