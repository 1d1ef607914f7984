"""The policy store on the ledger's database: limits, users and memberships, written by sync and read by the hooks.

Blocking; the hooks and the sync job call it in a thread. A change of groups moves `meta.revision` in the same
transaction, which makes every hook process reload within its next call. Users and memberships do not move it: a chat
carries its group ids with the request, and what is read here by user (for audio, images, embeddings and users' own
keys) is cached for seconds only.
"""

import sys
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from sqlalchemy import Connection, Engine, Row, func, select, true, update
from sqlalchemy.exc import DBAPIError, OperationalError, ProgrammingError

from owui_budget.database.tables import meta, policy_groups, policy_members, policy_users, sync_state
from owui_budget.errors import LedgerUnavailableError, SchemaError, TransientError
from owui_budget.policy_store.rows import GROUP, group_of, pages, user_of
from owui_budget.policy_store.values import (
    ChangeMembers,
    Fence,
    PolicyChange,
    PolicyUser,
    PutGroup,
    PutUser,
    RemoveGroup,
    RemoveUser,
    Snapshot,
    StoredGroup,
    StoredUser,
)
from owui_budget.policy_store.writing import Writer

PAGE = 5_000
"""Rows read at a time: memory stays bounded whatever the size of the installation."""


class FenceLostError(TransientError):
    """Another sync process leads now; nothing was written."""


class SqlPolicyStore:
    """Reads and writes the policy. Every method raises `LedgerUnavailableError` when the database does not answer."""

    def __init__(self, engine: Engine) -> None:
        """Use `engine` (owui_budget.database.engine.make_engine), which the caller owns."""
        self._engine = engine

    # What the hooks read

    def snapshot(self) -> Snapshot:
        """Read all groups and the revision they belong to, in one statement and so at one moment."""
        with self._reading() as connection:
            statement = select(meta.c.revision, *GROUP).select_from(meta.outerjoin(policy_groups, true()))
            rows = connection.execute(statement).all()
        return Snapshot(
            revision=rows[0].revision if rows else 0,
            groups={row.id: group_of(row).policy for row in rows if row.id is not None},
        )

    def user(self, user_id: str) -> PolicyUser | None:
        """Return a user with his direct groups; None if sync has not seen him."""
        with self._reading() as connection:
            row = connection.execute(select(policy_users).where(policy_users.c.id == user_id)).one_or_none()
            return self._with_groups(connection, row) if row else None

    def user_by_email(self, email: str) -> PolicyUser | None:
        """Return the user with this address, in whatever case; None if there is none or more than one."""
        with self._reading() as connection:
            statement = select(policy_users).where(func.lower(policy_users.c.email) == email.strip().lower()).limit(2)
            rows = connection.execute(statement).all()
            return self._with_groups(connection, rows[0]) if len(rows) == 1 else None

    # What sync reads

    def groups(self) -> dict[str, StoredGroup]:
        """Return all groups with what sync remembers of them."""
        with self._reading() as connection:
            return {row.id: group_of(row) for row in connection.execute(select(*GROUP))}

    def revision(self) -> int:
        """Return the revision that the groups are at."""
        with self._reading() as connection:
            return int(connection.execute(select(meta.c.revision)).scalar_one())

    def member_counts(self) -> dict[str, int]:
        """Return how many direct members each group has; groups without any are left out."""
        statement = select(policy_members.c.group_id, func.count()).group_by(policy_members.c.group_id)
        with self._reading() as connection:
            return {row[0]: row[1] for row in connection.execute(statement)}

    def members(self, group_ids: Collection[str]) -> dict[str, frozenset[str]]:
        """Return the direct members of the given groups, all in memory; groups without any get an empty set."""
        found: dict[str, set[str]] = {group_id: set() for group_id in group_ids}
        with self._reading() as connection:
            for chunk in pages(sorted(group_ids), PAGE):
                statement = select(policy_members.c.group_id, policy_members.c.user_id)
                for row in connection.execute(statement.where(policy_members.c.group_id.in_(chunk))):
                    # Named once per group: one string in memory serves all of them.
                    found[row.group_id].add(sys.intern(row.user_id))
        return {group_id: frozenset(members) for group_id, members in found.items()}

    def users(self) -> Iterator[StoredUser]:
        """Yield all users, a page at a time; a change between two pages may or may not be seen."""
        last = ""
        while True:
            statement = select(policy_users).where(policy_users.c.id > last).order_by(policy_users.c.id).limit(PAGE)
            with self._reading() as connection:
                rows = connection.execute(statement).all()
            yield from (user_of(row) for row in rows)
            if len(rows) < PAGE:
                return
            last = rows[-1].id

    def user_count(self) -> int:
        """Return how many users there are."""
        with self._reading() as connection:
            return connection.execute(select(func.count()).select_from(policy_users)).scalar_one()

    # What sync writes

    def write(self, changes: Iterable[PolicyChange], fence: Fence) -> int:
        """Apply `changes` in one transaction and return the revision after it.

        Each object may be named once. The revision moves if what decisions follow has changed: groups, their names,
        limits and parents; not their stamps and problems, nor users and memberships.

        Raises:
            FenceLostError: another process leads; nothing was written.

        """
        by_kind: dict[type[PolicyChange], list[Any]] = {}
        for change in changes:
            by_kind.setdefault(type(change), []).append(change)
        with self._writing() as connection:
            held = update(sync_state).where(sync_state.c.id == 1, sync_state.c.fence == fence.number)
            if connection.execute(held.values(fence=sync_state.c.fence)).rowcount != 1:
                msg = "another sync process leads now; this one wrote nothing"
                raise FenceLostError(msg)
            write = Writer(connection)
            write.put_users([change.user for change in by_kind.get(PutUser, ())])
            changed = write.put_groups([change.group for change in by_kind.get(PutGroup, ())])
            write.change_members(by_kind.get(ChangeMembers, ()))
            gone = [change.group_id for change in by_kind.get(RemoveGroup, ())]
            write.remove_groups(gone)
            write.remove_users([change.user_id for change in by_kind.get(RemoveUser, ())])
            if changed or gone:
                connection.execute(update(meta).values(revision=meta.c.revision + 1))
            return int(connection.execute(select(meta.c.revision)).scalar_one())

    @staticmethod
    def _with_groups(connection: Connection, row: Row[*tuple[Any, ...]]) -> PolicyUser:
        statement = select(policy_members.c.group_id).where(policy_members.c.user_id == row.id)
        user = user_of(row)
        group_ids = frozenset(connection.execute(statement).scalars())
        return PolicyUser(user.id, user.email, user.name, user.role, group_ids)

    @contextmanager
    def _reading(self) -> Iterator[Connection]:
        with _translated(), self._engine.connect().execution_options(read_only=True) as connection:
            yield connection

    @contextmanager
    def _writing(self) -> Iterator[Connection]:
        with _translated(), self._engine.begin() as connection:
            yield connection


@contextmanager
def _translated() -> Iterator[None]:
    """Turn the driver's errors into ours; the texts of theirs may hold addresses and values, so they stay causes."""
    try:
        yield
    except (OperationalError, ProgrammingError) as error:
        # SQLite reports a missing table as an operational error, PostgreSQL (42P01, 3F000, 42703) as a programming one.
        if isinstance(error, ProgrammingError) or "no such " in str(error.orig):
            msg = "the policy tables are missing or of another version; run `owui-budget db upgrade`"
            raise SchemaError(msg) from error
        msg = "the policy store's database does not answer"
        raise LedgerUnavailableError(msg) from error
    except DBAPIError as error:
        if not error.connection_invalidated:
            raise
        msg = "the policy store's database broke off the connection"
        raise LedgerUnavailableError(msg) from error
