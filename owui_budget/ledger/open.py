"""Choose the store that the settings name and put its ledger together."""

from owui_budget.clock import Clock, SystemClock
from owui_budget.config import LedgerSettings
from owui_budget.database.engine import database_url, make_engine, sqlite_path
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.postgres import PostgresDoor
from owui_budget.ledger.protocol import LedgerOptions
from owui_budget.ledger.sql import SqlLedger
from owui_budget.ledger.sqlite import ServeLock, SqliteDoor
from owui_budget.limits_file import Limits


def open_ledger(
    settings: LedgerSettings,
    limits: Limits,
    clock: Clock | None = None,
    process_id: str = "local",
    *,
    serve: bool = True,
) -> SqlLedger:
    """Return the ledger of `settings`, not started yet.

    `serve=False` is for reading and mending beside a hook process: it takes no lock on a SQLite file and leaves the
    ledger's time zone alone.

    Raises:
        ConfigurationError: the database URL cannot be used.

    """
    chosen = LedgerClock(clock or SystemClock())
    options = LedgerOptions(zone=limits.timezone, lease=float(limits.lease), process_id=process_id)
    url, engine = database_url(settings), make_engine(settings)
    if url.get_backend_name() == "postgresql":
        door = PostgresDoor(url, settings.database_schema, chosen, options)
        return SqlLedger(engine, door, chosen, options, serve=serve)
    file = sqlite_path(url)
    lock = ServeLock(file) if serve else None
    return SqlLedger(engine, SqliteDoor(file, chosen, options), chosen, options, lock, serve=serve)
