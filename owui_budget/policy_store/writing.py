"""The statements of one write to the policy store."""

from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Executable, bindparam, delete, select
from sqlalchemy.dialects import postgresql, sqlite

from owui_budget.database.tables import policy_groups, policy_members, policy_users
from owui_budget.policy_store.rows import GROUP, group_of, pages, row_of
from owui_budget.policy_store.values import ChangeMembers, StoredGroup, StoredUser

PAGE = 5_000
"""Rows written at a time."""


class Writer:
    """Writes within one transaction, in pages."""

    def __init__(self, connection: Connection) -> None:
        """Write through `connection`."""
        self._connection = connection
        self._insert = postgresql.insert if connection.dialect.name == "postgresql" else sqlite.insert

    def put_users(self, users: list[StoredUser]) -> None:
        """Add or replace users."""
        statement = self._insert(policy_users)
        new = statement.excluded
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={"email": new.email, "name": new.name, "role": new.role}
        )
        self._many(
            statement, ({"id": each.id, "email": each.email, "name": each.name, "role": each.role} for each in users)
        )

    def put_groups(self, groups: list[StoredGroup]) -> bool:
        """Add or replace groups; return whether any of them changed in what decisions follow."""
        present: dict[str, StoredGroup] = {}
        for chunk in pages([group.id for group in groups], PAGE):
            rows = self._connection.execute(select(*GROUP).where(policy_groups.c.id.in_(chunk)))
            present |= {row.id: group_of(row) for row in rows}
        statement = self._insert(policy_groups)
        columns = ("name", "parent_id", "limits", "problem", "source_updated_at")
        statement = statement.on_conflict_do_update(
            index_elements=["id"], set_={name: statement.excluded[name] for name in columns}
        )
        self._many(statement, (row_of(group) for group in groups))
        return any(group.id not in present or group.policy != present[group.id].policy for group in groups)

    def change_members(self, changes: Iterable[ChangeMembers]) -> None:
        """Add and remove direct members."""
        adding = self._insert(policy_members).on_conflict_do_nothing()
        removing = delete(policy_members).where(
            policy_members.c.group_id == bindparam("gone_from"), policy_members.c.user_id == bindparam("gone")
        )
        for change in changes:
            self._many(adding, ({"group_id": change.group_id, "user_id": each} for each in sorted(change.added)))
            self._many(removing, ({"gone_from": change.group_id, "gone": each} for each in sorted(change.removed)))

    def remove_groups(self, group_ids: list[str]) -> None:
        """Forget groups and their memberships."""
        for chunk in pages(group_ids, PAGE):
            self._connection.execute(delete(policy_members).where(policy_members.c.group_id.in_(chunk)))
            self._connection.execute(delete(policy_groups).where(policy_groups.c.id.in_(chunk)))

    def remove_users(self, user_ids: list[str]) -> None:
        """Forget users and their memberships."""
        for chunk in pages(user_ids, PAGE):
            self._connection.execute(delete(policy_members).where(policy_members.c.user_id.in_(chunk)))
            self._connection.execute(delete(policy_users).where(policy_users.c.id.in_(chunk)))

    def _many(self, statement: Executable, rows: Iterable[dict[str, Any]]) -> None:
        for chunk in pages(rows, PAGE):
            self._connection.execute(statement, chunk)
