"""Opens what a command works on: settings, limits.yaml, the ledger's database and Open WebUI."""

from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass

import sqlalchemy as sa

from owui_budget.clock import Clock, SystemClock
from owui_budget.config import SyncSettings, load_sync_settings
from owui_budget.database import migrate
from owui_budget.ledger import upkeep
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.protocol import LedgerState
from owui_budget.ledger.sql import SqlLedger
from owui_budget.limits_file import Limits
from owui_budget.policy_store import SqlPolicyStore
from owui_budget_sync.checks.database import existing_engine


@dataclass(frozen=True, slots=True)
class Desk:
    """The database as a command sees it."""

    settings: SyncSettings
    limits: Limits
    engine: sa.Engine
    store: SqlPolicyStore
    clock: Clock
    state: LedgerState

    @property
    def now(self) -> float:
        """The ledger's time in epoch seconds: the machine's plus the test clock's offset."""
        return self.clock.now() + self.state.clock_offset


@contextmanager
def desk() -> Iterator[Desk]:
    """Open the ledger's database.

    Raises:
        ConfigurationError: settings or limits.yaml are unusable, or the SQLite file is missing.
        SchemaError: its tables are missing or of another version.
        LedgerUnavailableError: it cannot be reached.

    """
    settings = load_sync_settings()
    limits = settings.limits()
    engine = existing_engine(settings)
    clock = SystemClock()
    try:
        migrate.check(engine)
        yield Desk(settings, limits, engine, SqlPolicyStore(engine), clock, upkeep.state(engine, LedgerClock(clock)))
    finally:
        engine.dispose()


@asynccontextmanager
async def ledger(desk: Desk) -> AsyncIterator[SqlLedger]:
    """Open the ledger for mending beside the processes that serve calls."""
    opened = open_ledger(desk.settings, desk.limits, desk.clock, "command line", serve=False)
    await opened.start()
    try:
        yield opened
    finally:
        await opened.close()
