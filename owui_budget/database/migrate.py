"""Bring the database to the schema this version needs, and say when it is not there.

The Alembic tree lies inside the package, so an installed wheel migrates without the repository. Two upgrades at once
are safe: the second one waits for the first and then finds nothing to do.
"""

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import blake2b
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from alembic import command
from alembic.autogenerate import compare_metadata
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory

from owui_budget.database.engine import schema_of
from owui_budget.database.tables import metadata
from owui_budget.errors import LedgerUnavailableError, SchemaError

VERSION_TABLE: Final = "owui_budget_version"
_WAY_OUT: Final = "run `owui-budget db upgrade`"


def lock_key(purpose: str, schema: str | None) -> int:
    """Return the 64-bit PostgreSQL advisory lock for `purpose` in one schema; the same in every process."""
    digest = blake2b(f"owui-budget/{purpose}/{schema or ''}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big", signed=True)


def upgrade(engine: sa.Engine) -> None:
    """Migrate to this version's schema; nothing happens where it is there already.

    Raises:
        SchemaError: the database was migrated by a newer version.
        LedgerUnavailableError: the database cannot be reached.

    """
    script = ScriptDirectory.from_config(_config())
    with _transaction(engine) as connection:
        current = _current(connection)
        if current is not None and current not in {each.revision for each in script.walk_revisions()}:
            raise SchemaError(_too_new(current))
        command.upgrade(_config(connection), "head")


def check(engine: sa.Engine) -> None:
    """Check that the schema is this version's.

    Raises:
        SchemaError: it is missing, older or newer; the message names the way out.
        LedgerUnavailableError: the database cannot be reached.

    """
    script = ScriptDirectory.from_config(_config())
    with _transaction(engine, changes=False) as connection:
        current = _current(connection)
    if current == script.get_current_head():
        return
    if current is None:
        msg = f"the database has no owui-budget tables yet; {_WAY_OUT}"
    elif current in {each.revision for each in script.walk_revisions()}:
        msg = f"the database schema is {current}, this version needs {script.get_current_head()}; {_WAY_OUT}"
    else:
        msg = _too_new(current)
    raise SchemaError(msg)


def drift(engine: sa.Engine) -> list[Any]:
    """Return how the migrated schema differs from `tables.metadata`; empty when it does not."""
    options = {"version_table": VERSION_TABLE, "compare_type": True, "compare_server_default": True}
    with _transaction(engine, changes=False) as connection, warnings.catch_warnings():
        # SQLite cannot reflect the index on lower(email), so nothing can compare it there; PostgreSQL does.
        warnings.filterwarnings("ignore", message=".*expression-based index")
        context = MigrationContext.configure(connection, opts=options)
        return list(compare_metadata(context, metadata))


def _too_new(current: str) -> str:
    return f"the database schema is {current}, which this version does not know; install the newer owui-budget again"


def _config(connection: sa.Connection | None = None) -> Config:
    config = Config()
    config.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    config.attributes["connection"] = connection
    return config


def _current(connection: sa.Connection) -> str | None:
    context = MigrationContext.configure(connection, opts={"version_table": VERSION_TABLE})
    return context.get_current_revision()


@contextmanager
def _transaction(engine: sa.Engine, *, changes: bool = True) -> Iterator[sa.Connection]:
    """Open a transaction in which unqualified names mean our schema."""
    schema = schema_of(engine)
    try:
        with engine.connect() as plain:
            options: dict[str, Any] = {"schema_translate_map": None, "read_only": not changes}
            connection = plain.execution_options(**options)
            with connection.begin():
                if schema is not None:
                    _enter_schema(connection, schema, create=changes)
                yield connection
    except sa.exc.OperationalError as error:
        msg = f"the database cannot be reached: {error.orig}"
        raise LedgerUnavailableError(msg) from error


def _enter_schema(connection: sa.Connection, schema: str, *, create: bool) -> None:
    if create:
        connection.execute(sa.select(sa.func.pg_advisory_xact_lock(lock_key("migrate", schema))))
        connection.execute(sa.schema.CreateSchema(schema, if_not_exists=True))
    quoted = connection.dialect.identifier_preparer.quote_schema(schema)
    connection.execute(sa.text(f"SET LOCAL search_path TO {quoted}"))
    # Alembic looks for its tables in the dialect's default schema, which was read when the engine first connected.
    connection.dialect.default_schema_name = schema
