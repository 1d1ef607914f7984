"""The hot path on SQLite: one thread with one connection, one immediate transaction per batch.

SQLite serves one hook process. A lock on a file beside the database says so at start instead of letting two processes
queue for the same file; the sync job and the command line still read and write while it serves.
"""

import asyncio
import fcntl
import os
import sqlite3
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, Final

from owui_budget.database.engine import BUSY_TIMEOUT_MS, SQLITE_PRAGMAS
from owui_budget.errors import LedgerBusyError, LedgerUnavailableError
from owui_budget.ledger import sqlite_statements as sql
from owui_budget.ledger.columns import read_event, read_open, read_state, rows_by_key, rows_of
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.operations import Operation
from owui_budget.ledger.protocol import LedgerOptions
from owui_budget.ledger.transaction import Commit, Create, Lock, Locked, LookUp, Outcome, Step, Undo, transact

_REFUSED: Final = (sqlite3.IntegrityError, sqlite3.DataError, sqlite3.InterfaceError, sqlite3.ProgrammingError)
"""Bad data. Any other error counts as an outage: usage is then kept and tried again, a refusal would drop it."""
_PARAMETERS: Final = 900
"""Values per query; SQLite's old limit is 999."""


class ServeLock:
    """Says that one process serves a SQLite ledger; the operating system lets go of it when the process ends."""

    def __init__(self, database: Path) -> None:
        """Lock the file `DATABASE.lock`; nothing is opened yet."""
        self._path = database.with_name(f"{database.name}.lock")
        self._file: int | None = None

    def acquire(self) -> None:
        """Take the lock.

        Raises:
            LedgerBusyError: another process has it.

        """
        file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            holder = os.read(file, 32).decode(errors="replace").strip() or "unknown"
            os.close(file)
            msg = (
                f"process {holder} already serves the ledger {self._path.with_suffix('')}: SQLite serves one LiteLLM "
                "process. Run one worker, or set OWUI_BUDGET_DATABASE_URL to a PostgreSQL database"
            )
            raise LedgerBusyError(msg) from error
        os.ftruncate(file, 0)
        os.pwrite(file, str(os.getpid()).encode(), 0)
        self._file = file

    def release(self) -> None:
        """Let go of it."""
        if self._file is not None:
            os.close(self._file)
            self._file = None


class SqliteDoor:
    """Carries batches out in its own thread."""

    def __init__(self, database: Path, clock: LedgerClock, options: LedgerOptions) -> None:
        """Take the database file; nothing is opened yet."""
        self._database = database
        self._clock = clock
        self._options = options
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="owui-budget-ledger")
        self._connection: sqlite3.Connection | None = None

    async def close(self) -> None:
        """Close the connection and end the thread."""
        if self._connection is not None:
            await asyncio.get_running_loop().run_in_executor(self._thread, self._connection.close)
            self._connection = None
        self._thread.shutdown(wait=False)

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out one batch in one transaction.

        Raises:
            LedgerUnavailableError: the file cannot be opened or used, or another writer kept it locked.
            sqlite3.Error: SQLite refused the batch's data.

        """
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._run, operations)

    def _run(self, operations: Sequence[Operation]) -> list[Outcome]:
        connection: sqlite3.Connection | None = None
        try:
            connection = self._connect()
            script = transact(operations, self._options)
            step = next(script)
            while True:
                step = script.send(self._carry_out(connection, step))
        except StopIteration as done:
            outcomes: list[Outcome] = done.value
            return outcomes
        except _REFUSED:
            _roll_back(connection)
            raise
        except sqlite3.Error as error:
            _roll_back(connection)
            msg = f"the ledger {self._database} cannot be used: {error}"
            raise LedgerUnavailableError(msg) from error
        except BaseException:  # a bug: the connection must not keep the transaction
            _roll_back(connection)
            raise

    def _connect(self) -> sqlite3.Connection:
        if self._connection is None:
            connection = sqlite3.connect(
                f"file:{self._database}?mode=rw",
                uri=True,
                timeout=BUSY_TIMEOUT_MS / 1000,
                isolation_level=None,
                check_same_thread=False,
            )
            for pragma in SQLITE_PRAGMAS:
                connection.execute(pragma)
            self._connection = connection
        return self._connection

    def _carry_out(self, connection: sqlite3.Connection, step: Step) -> Any:
        match step:
            case Lock():
                connection.execute("BEGIN IMMEDIATE")
                state = read_state(*connection.execute(sql.STATE).fetchone())
                opened = [read_open(values) for values in _select(connection, "reservations", step.reservations)]
                return Locked(
                    state=state,
                    now=self._clock.learn(state),
                    rows=rows_by_key(_select(connection, "counters", step.keys)),
                    open={each.id: each for each in opened},
                )
            case LookUp():
                history: dict[str, list[Any]] = {}
                for values in _select(connection, "usage_events", step.reservations):
                    history.setdefault(values[0], []).append(read_event(values))
                return history
            case Undo():
                connection.execute("ROLLBACK")
            case Create():
                connection.executemany("INSERT OR IGNORE INTO counters (key) VALUES (?)", [(key,) for key in step.keys])
            case Commit():
                for part, rows in rows_of(step.writes):
                    connection.executemany(sql.WRITES[part], sql.values(part, rows))
                connection.execute("COMMIT")
        return None


def _select(connection: sqlite3.Connection, what: str, keys: list[str]) -> list[tuple[Any, ...]]:
    found: list[tuple[Any, ...]] = []
    for start in range(0, len(keys), _PARAMETERS):
        some = keys[start : start + _PARAMETERS]
        found.extend(connection.execute(sql.select(what, len(some)), some).fetchall())
    return found


def _roll_back(connection: sqlite3.Connection | None) -> None:
    if connection is not None and connection.in_transaction:
        with suppress(sqlite3.Error):  # the error that led here is the one to tell
            connection.execute("ROLLBACK")
