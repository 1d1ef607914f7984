"""The SQLAlchemy engine: psycopg for PostgreSQL, sqlite3 (WAL, fully synchronous) for SQLite.

The hot path of the ledger uses its own connection (`owui_budget.ledger.postgres`, `.sqlite`); everything else, reports
and policy included, goes through this engine.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import sqlalchemy as sa
from sqlalchemy.engine import URL, make_url

from owui_budget.config import LedgerSettings
from owui_budget.errors import ConfigurationError

BUSY_TIMEOUT_MS: Final = 5_000
"""How long a SQLite writer waits for another one."""

SQLITE_PRAGMAS: Final = (
    "PRAGMA journal_mode=WAL",
    "PRAGMA synchronous=FULL",
    f"PRAGMA busy_timeout={BUSY_TIMEOUT_MS}",
    "PRAGMA foreign_keys=ON",
)


def database_url(settings: LedgerSettings) -> URL:
    """Return the database's URL with the driver we use.

    Raises:
        ConfigurationError: the URL cannot be read. The message does not repeat it: it may hold a password.

    """
    text = settings.database_url.get_secret_value()
    try:
        url = make_url(text.replace("postgres://", "postgresql://", 1) if text.startswith("postgres://") else text)
    except (sa.exc.ArgumentError, ValueError) as error:
        msg = "OWUI_BUDGET_DATABASE_URL is no URL; use sqlite:///PATH or postgresql://USER:PASSWORD@HOST:PORT/DATABASE"
        raise ConfigurationError(msg) from error
    if url.get_backend_name() == "postgresql":
        return url.set(drivername="postgresql+psycopg")
    if url.database in (None, "", ":memory:"):
        msg = "OWUI_BUDGET_DATABASE_URL must name a file: sqlite:///PATH"
        raise ConfigurationError(msg)
    return url.set(drivername="sqlite+pysqlite")


def sqlite_path(url: URL) -> Path:
    """Return the file behind a SQLite URL."""
    return Path(url.database or "")


def make_engine(settings: LedgerSettings) -> sa.Engine:
    """Return an engine whose tables are those of `tables.metadata`, in the configured schema on PostgreSQL.

    Raises:
        ConfigurationError: the URL cannot be read, or the SQLite file's folder is missing.

    """
    url = database_url(settings)
    if url.get_backend_name() == "sqlite":
        return _sqlite_engine(url)
    engine = sa.create_engine(
        url,
        pool_size=4,
        pool_pre_ping=True,
        connect_args={"application_name": "owui-budget", **({} if "connect_timeout" in url.query else _TIMEOUT)},
    )
    return engine.execution_options(schema_translate_map={None: settings.database_schema})


_TIMEOUT: Final = {"connect_timeout": 5}


def schema_of(engine: sa.Engine) -> str | None:
    """Return the PostgreSQL schema `engine` works in, None on SQLite."""
    mapped: dict[str | None, str] = engine.get_execution_options().get("schema_translate_map", {})
    return mapped.get(None)


@contextmanager
def reading(engine: sa.Engine) -> Iterator[sa.Connection]:
    """Open a connection that only reads, from one consistent snapshot, and makes no writer wait.

    On SQLite a plain `engine.begin()` takes the write lock at once; whoever only reads belongs in here.
    """
    with engine.connect() as connection:
        if engine.dialect.name == "postgresql":
            options = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
        else:
            options = connection.execution_options(read_only=True)
        with options.begin():
            yield options


def _sqlite_engine(url: URL) -> sa.Engine:
    folder = sqlite_path(url).parent
    if not folder.is_dir():
        msg = f"the folder {folder} of OWUI_BUDGET_DATABASE_URL does not exist; make it, or name another file"
        raise ConfigurationError(msg)
    engine = sa.create_engine(url, connect_args={"timeout": BUSY_TIMEOUT_MS / 1000})
    sa.event.listen(engine, "connect", _prepare_sqlite)
    sa.event.listen(engine, "begin", _begin_immediately)
    return engine


def _prepare_sqlite(connection: sqlite3.Connection, _record: object) -> None:
    # The driver must not open transactions by itself: it would start them as readers, and a reader that turns writer
    # under WAL fails at once instead of waiting.
    connection.isolation_level = None
    for pragma in SQLITE_PRAGMAS:
        connection.execute(pragma)


def _begin_immediately(connection: sa.Connection) -> None:
    read_only = connection.get_execution_options().get("read_only", False)
    connection.exec_driver_sql("BEGIN" if read_only else "BEGIN IMMEDIATE")
