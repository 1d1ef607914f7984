"""Open WebUI's database as a source, for large installations: SQLite or PostgreSQL, read-only.

Its tables are Open WebUI's own business and may change with any release; these columns are those of 0.12. Nothing is
ever written: SQLite files are opened read-only, PostgreSQL sessions are set so. Read rights on three tables suffice.
"""

import asyncio
import json
import sys
from collections.abc import AsyncIterator, Callable, Collection
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Engine,
    MetaData,
    Row,
    Table,
    Text,
    cast,
    create_engine,
    func,
    outerjoin,
    select,
)
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, OperationalError

from owui_budget.clock import Clock, SystemClock
from owui_budget.config import SyncSettings
from owui_budget.domain.identity import Role
from owui_budget.errors import ConfigurationError, SourceRefusedError, SourceUnavailableError
from owui_budget.policy_store import StoredUser
from owui_budget_sync.openwebui.protocol import GroupList, SourceGroup

PAGE = 5_000
"""Users read at once."""
GROUPS_AT_ONCE = 50
"""Groups whose members are read at once."""

_METADATA = MetaData()
_GROUPS = Table(
    "group",
    _METADATA,
    Column("id", Text),
    Column("name", Text),
    Column("parent_group_id", Text),
    Column("data", Text),
    Column("updated_at", BigInteger),
)
_MEMBERS = Table("group_member", _METADATA, Column("group_id", Text), Column("user_id", Text))
_USERS = Table("user", _METADATA, Column("id", Text), Column("email", Text), Column("name", Text), Column("role", Text))

T = TypeVar("T")


def open_database(settings: SyncSettings) -> Engine:
    """Return a read-only engine on Open WebUI's database.

    Raises:
        ConfigurationError: the URL cannot be read, or names a file that is not there.

    """
    name = "OWUI_BUDGET_OPENWEBUI_DATABASE_URL"
    assert settings.openwebui_database_url is not None  # noqa: S101 - callers choose this source by its being set
    text = settings.openwebui_database_url.get_secret_value()
    try:
        url = make_url(text.replace("postgres://", "postgresql://", 1) if text.startswith("postgres://") else text)
    except (ArgumentError, ValueError) as error:
        msg = f"{name} is no URL; use sqlite:////PATH/webui.db or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        raise ConfigurationError(msg) from error
    if url.get_backend_name() == "postgresql":
        options = "-c default_transaction_read_only=on -c statement_timeout=60000"
        return create_engine(
            url.set(drivername="postgresql+psycopg"),
            pool_size=1,
            pool_pre_ping=True,
            connect_args={"connect_timeout": 5, "application_name": "owui-budget-sync", "options": options},
        )
    path = Path(url.database or "")
    if not path.is_file():
        msg = f"{name} names the file {path}, which is not there; it is webui.db in Open WebUI's DATA_DIR"
        raise ConfigurationError(msg)
    return create_engine(f"sqlite:///file:{path.resolve()}?mode=ro&uri=true", connect_args={"timeout": 5})


class DatabaseSource:
    """Reads groups, members and users with plain SELECTs."""

    def __init__(self, engine: Engine, clock: Clock | None = None) -> None:
        """Read through `engine`, which is disposed of with the source."""
        self._engine = engine
        self._clock = clock or SystemClock()

    async def groups(self) -> GroupList:
        """List all groups, with the number of their direct members: one statement."""
        now = self._clock.now()
        rows = await self._read(_list_groups)
        return GroupList({row.id: _group(row) for row in rows}, now)

    async def members(self, group_ids: Collection[str]) -> AsyncIterator[tuple[str, frozenset[str]]]:
        """Read the direct members of the given groups, some groups at a time."""
        wanted = sorted(group_ids)
        for start in range(0, len(wanted), GROUPS_AT_ONCE):
            some = wanted[start : start + GROUPS_AT_ONCE]
            for group_id, members in (await self._read(partial(_list_members, group_ids=some))).items():
                yield group_id, frozenset(members)

    async def users(self) -> AsyncIterator[StoredUser]:
        """Read all users, a page at a time."""
        last = ""
        while True:
            rows = await self._read(partial(_list_users, after=last))
            for row in rows:
                yield StoredUser(sys.intern(row.id), (row.email or "").lower(), row.name or "", Role.parse(row.role))
            if len(rows) < PAGE:
                return
            last = rows[-1].id

    async def close(self) -> None:
        """Close the connections."""
        self._engine.dispose()

    async def _read(self, query: Callable[[Connection], T]) -> T:
        return await asyncio.to_thread(self._blocking_read, query)

    def _blocking_read(self, query: Callable[[Connection], T]) -> T:
        try:
            with self._engine.connect() as connection:
                return query(connection)
        except DBAPIError as error:
            where = f"Open WebUI's database ({self._engine.dialect.name})"
            if isinstance(error, OperationalError) and "no such " not in str(error.orig):
                msg = f"{where} did not answer: {type(error.orig).__name__}"
                raise SourceUnavailableError(msg) from error
            msg = (
                f"{where} has not the tables and columns of Open WebUI 0.12, or they may not be read "
                f"({type(error.orig).__name__}); check OWUI_BUDGET_OPENWEBUI_DATABASE_URL, the rights, and the version"
            )
            raise SourceRefusedError(msg) from error


def _list_groups(connection: Connection) -> list[Row[*tuple[Any, ...]]]:
    counts = select(_MEMBERS.c.group_id, func.count().label("members")).group_by(_MEMBERS.c.group_id).subquery()
    statement = select(
        _GROUPS.c.id,
        _GROUPS.c.name,
        _GROUPS.c.parent_group_id,
        # As text on both databases, so that one damaged value is one group's problem and not the whole list's.
        cast(_GROUPS.c.data, Text).label("data"),
        _GROUPS.c.updated_at,
        func.coalesce(counts.c.members, 0).label("members"),
    ).select_from(outerjoin(_GROUPS, counts, _GROUPS.c.id == counts.c.group_id))
    return list(connection.execute(statement))


def _list_members(connection: Connection, group_ids: list[str]) -> dict[str, set[str]]:
    # Starting from the group's own row tells an empty group from one that was deleted meanwhile.
    found: dict[str, set[str]] = {}
    joined = outerjoin(_GROUPS, _MEMBERS, _GROUPS.c.id == _MEMBERS.c.group_id)
    statement = select(_GROUPS.c.id, _MEMBERS.c.user_id).select_from(joined).where(_GROUPS.c.id.in_(group_ids))
    for row in connection.execute(statement):
        members = found.setdefault(row.id, set())
        if row.user_id is not None:
            members.add(sys.intern(row.user_id))  # named once per group: one string in memory serves all
    return found


def _list_users(connection: Connection, after: str) -> list[Row[*tuple[Any, ...]]]:
    return list(connection.execute(select(_USERS).where(_USERS.c.id > after).order_by(_USERS.c.id).limit(PAGE)))


def _group(row: Row[*tuple[Any, ...]]) -> SourceGroup:
    return SourceGroup(
        id=row.id,
        name=row.name or "",
        parent_id=row.parent_group_id,
        usage_limits=_usage_limits(row.data),
        updated_at=row.updated_at or 0,
        member_count=row.members,
    )


def _usage_limits(data: str | None) -> Any:
    if data is None:
        return None
    try:
        parsed = json.loads(data)
    except ValueError:
        return data  # not JSON: reported as this group's bad limits
    return parsed.get("usage_limits") if isinstance(parsed, dict) else None
