"""The database: reachable, migrated, readable and writable by the role in use, on the machine's time."""

import sqlalchemy as sa

from owui_budget import wording
from owui_budget.config import SyncSettings
from owui_budget.database import migrate
from owui_budget.database.engine import database_url, make_engine, schema_of, sqlite_path
from owui_budget.database.tables import metadata
from owui_budget.errors import BudgetError, ConfigurationError, LedgerUnavailableError
from owui_budget.ledger.access import read_meta, snapshot
from owui_budget.ledger.protocol import LedgerState
from owui_budget.limits_file import Limits
from owui_budget_sync.checks.findings import Area, Finding, Notes

_NOTES = Notes(Area.DATABASE)
_RIGHTS = ("SELECT", "INSERT", "UPDATE", "DELETE")
_SUPER = sa.text("SELECT rolsuper FROM pg_roles WHERE rolname = current_user")
_MISSING = sa.text("SELECT has_table_privilege(current_user, CAST(:name AS text), CAST(:right AS text))")


def existing_engine(settings: SyncSettings) -> sa.Engine:
    """Return an engine on a database that is there: merely looking must not create an empty SQLite file.

    Raises:
        ConfigurationError: the URL is unusable, or its SQLite file is missing.

    """
    url = database_url(settings)
    if url.get_backend_name() == "sqlite" and not sqlite_path(url).exists():
        msg = (
            f"there is no ledger at {sqlite_path(url)}; set OWUI_BUDGET_DATABASE_URL to the one the LiteLLM process"
            " uses, or create it with `owui-budget db upgrade`"
        )
        raise ConfigurationError(msg)
    return make_engine(settings)


def look(engine: sa.Engine) -> tuple[LedgerState | None, list[Finding]]:
    """Return the ledger's state, None where it cannot be read, and findings."""
    try:
        migrate.check(engine)
    except LedgerUnavailableError as error:
        fix = "start the database, or mend OWUI_BUDGET_DATABASE_URL"
        return None, [_NOTES.error(str(error), "nothing can be counted or read", fix)]
    except BudgetError as error:
        why = "the programs refuse to start on another schema than their own"
        return None, [_NOTES.error(str(error), why, "owui-budget db upgrade")]
    found = [_NOTES.ok("reachable, schema current"), *_drift(engine), *_roles(engine)]
    with snapshot(engine) as connection:
        state = read_meta(connection)
    return state, [*found, *_clock(state)]


def zone(state: LedgerState, limits: Limits) -> list[Finding]:
    """Compare the ledger's time zone with that of limits.yaml."""
    if state.zone == limits.timezone:
        return []
    return [
        _NOTES.warning(
            f"the ledger counts by {state.zone}, limits.yaml says {limits.timezone}",
            "windows begin by the ledger's zone until a LiteLLM process with this limits.yaml starts",
            "restart the LiteLLM processes with this limits.yaml",
        )
    ]


def embedded(engine: sa.Engine, settings: SyncSettings) -> list[Finding]:
    """Say what SQLite does not do."""
    if engine.dialect.name != "sqlite":
        return []
    return [_NOTES.ok(f"SQLite ({settings.database_url.get_secret_value().rpartition('/')[2]}): one LiteLLM process")]


def _drift(engine: sa.Engine) -> list[Finding]:
    differences = migrate.drift(engine)
    if not differences:
        return []
    return [
        _NOTES.warning(
            f"{len(differences):,} differences between the database's tables and this version's",
            "somebody changed tables by hand; queries may be slow or fail",
            "`owui-budget db check` lists them; undo them",
        )
    ]


def _clock(state: LedgerState) -> list[Finding]:
    if not state.clock_offset:
        return []
    return [
        _NOTES.warning(
            f"the test clock is on, {wording.duration(abs(state.clock_offset))} off the machine's",
            "everybody's limits are counted by the moved time",
            "owui-budget test-clock reset",
        )
    ]


def _roles(engine: sa.Engine) -> list[Finding]:
    schema = schema_of(engine)
    if schema is None:
        return []
    with snapshot(engine) as connection:
        superuser = bool(connection.scalar(_SUPER))
        missing = [
            f"{right} on {table.name}"
            for table in metadata.sorted_tables
            for right in _RIGHTS
            if not connection.scalar(_MISSING, {"name": f'"{schema}"."{table.name}"', "right": right})
        ]
    found = []
    if missing:
        more = f" and {len(missing) - 3} more" if len(missing) > 3 else ""  # noqa: PLR2004
        found.append(
            _NOTES.error(
                f"the database role lacks {', '.join(missing[:3])}{more}",
                "sync could not write what it reads",
                f'GRANT {", ".join(_RIGHTS)} ON ALL TABLES IN SCHEMA "{schema}" TO that role',
            )
        )
    if superuser:
        found.append(
            _NOTES.warning(
                "the database role is a superuser",
                "a leak of this password would open every database of the server",
                "use a role that owns nothing (docker/postgres-init.sql creates one)",
            )
        )
    return found or [_NOTES.ok("role")]
