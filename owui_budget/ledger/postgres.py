"""The hot path on PostgreSQL: one asyncpg connection, prepared statements, one transaction per batch.

A lone admission takes four round trips: begin (with the shared lock that keeps rebuilds out), lock and read, write,
commit.
"""

from __future__ import annotations  # asyncpg's classes are generic to the type checker only

import asyncio
import json
import logging
from collections.abc import Sequence
from typing import Any, Final

import asyncpg
from asyncpg.prepared_stmt import PreparedStatement
from sqlalchemy.engine import URL

from owui_budget.database.migrate import lock_key
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.columns import read_event, read_open, read_state, rows_by_key, rows_of
from owui_budget.ledger.flusher import CommitUnknownError
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.operations import Operation
from owui_budget.ledger.postgres_statements import PostgresStatements
from owui_budget.ledger.protocol import LedgerOptions
from owui_budget.ledger.transaction import Commit, Create, Lock, Locked, LookUp, Outcome, Step, Undo, transact

STATEMENT_TIMEOUT: Final = 10.0
"""Seconds after which a statement that hangs counts as an outage."""
_FIRST_PAUSE: Final = 0.1
_LONGEST_PAUSE: Final = 5.0
_RETRIES: Final = 3

_log = logging.getLogger(__name__)

_REFUSED: Final = (ValueError, OverflowError, asyncpg.DataError, asyncpg.IntegrityConstraintViolationError)
"""Bad data, PostgreSQL's word for it and asyncpg's own. Anything else counts as an outage: usage is then kept and
tried again, where a refusal would drop it."""
_UNREACHABLE: Final = (OSError, asyncpg.PostgresError, asyncpg.InterfaceError, asyncpg.InternalClientError)
_COLLIDED: Final = (asyncpg.DeadlockDetectedError, asyncpg.SerializationError)


class PostgresDoor:
    """Carries batches out on its own connection, and connects again with growing pauses when that breaks."""

    def __init__(self, url: URL, schema: str, clock: LedgerClock, options: LedgerOptions) -> None:
        """Take the SQLAlchemy URL; nothing is opened yet."""
        self._dsn = asyncpg_dsn(url)
        self._sql = PostgresStatements(schema, lock_key("counters", schema))
        self._clock = clock
        self._options = options
        self._connection: asyncpg.Connection[asyncpg.Record] | None = None
        self._prepared: dict[str, PreparedStatement[asyncpg.Record]] = {}
        self._pause = 0.0
        self._not_before = 0.0

    async def close(self) -> None:
        """Close the connection."""
        await self._drop(gently=True)

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out one batch in one transaction.

        Raises:
            LedgerUnavailableError: PostgreSQL cannot be reached. CommitUnknownError when that shows at the commit.
            asyncpg.PostgresError: it refused the batch.

        """
        for attempt in range(1, _RETRIES + 1):
            try:
                return await self._attempt(operations)
            except _COLLIDED as error:
                _log.warning("a ledger transaction collided with another one (%s), attempt %d", error, attempt)
        msg = "the ledger's transactions kept colliding"
        raise LedgerUnavailableError(msg)

    async def _attempt(self, operations: Sequence[Operation]) -> list[Outcome]:
        try:
            await self._connect()
            script = transact(operations, self._options)
            step = next(script)
            while True:
                step = script.send(await self._carry_out(step))
        except StopIteration as done:
            outcomes: list[Outcome] = done.value
            return outcomes
        except LedgerUnavailableError:
            await self._drop()
            raise
        except (*_REFUSED, *_COLLIDED):
            await self._roll_back()
            raise
        except _UNREACHABLE as error:
            await self._drop()
            self._back_off()
            msg = f"PostgreSQL cannot be used: {str(error) or type(error).__name__}"
            raise LedgerUnavailableError(msg) from error
        except BaseException:  # cancelled or a bug: the connection must not keep the transaction
            await self._roll_back()
            raise

    async def _carry_out(self, step: Step) -> Any:
        match step:
            case Lock():
                return await self._lock(step)
            case LookUp():
                rows = await (await self._prepare(self._sql.history)).fetch(step.reservations)
                history: dict[str, list[Any]] = {}
                for row in rows:
                    history.setdefault(row[0], []).append(read_event(tuple(row)))
                return history
            case Undo():
                return await self._held().execute("ROLLBACK")
            case Create():
                return await (await self._prepare(self._sql.create)).fetch(step.keys)
            case Commit():
                parts = rows_of(step.writes)
                arrays = [list(column) for _, rows in parts for column in zip(*rows, strict=True)]
                await (await self._prepare(self._sql.write(tuple(name for name, _ in parts)))).fetch(*arrays)
                return await self._commit()

    async def _lock(self, step: Lock) -> Locked:
        await self._held().execute(self._sql.begin)
        if step.reservations:
            found = await (await self._prepare(self._sql.read_all)).fetchrow(step.keys, step.reservations)
        else:
            found = await (await self._prepare(self._sql.read_counters)).fetchrow(step.keys)
        if found is None:
            msg = "the table meta is empty; run `owui-budget db upgrade`"
            raise LedgerUnavailableError(msg)
        revision, zone, offset, counters, reservations = found
        opened = [read_open(values) for values in json.loads(reservations or "[]")]
        state = read_state(revision, zone, offset)
        return Locked(
            state=state,
            now=self._clock.learn(state),
            rows=rows_by_key(json.loads(counters or "[]")),
            open={each.id: each for each in opened},
        )

    async def _commit(self) -> None:
        try:
            await self._held().execute("COMMIT")
        except _UNREACHABLE as error:
            await self._drop()
            msg = f"PostgreSQL went away during a commit: {str(error) or type(error).__name__}"
            raise CommitUnknownError(msg) from error

    async def _prepare(self, sql: str) -> PreparedStatement[asyncpg.Record]:
        statement = self._prepared.get(sql)
        if statement is None:
            statement = self._prepared[sql] = await self._held().prepare(sql)
        return statement

    def _held(self) -> asyncpg.Connection[asyncpg.Record]:
        if self._connection is None:
            msg = "there is no connection to PostgreSQL"
            raise LedgerUnavailableError(msg)
        return self._connection

    async def _connect(self) -> None:
        if self._connection is not None and not self._connection.is_closed():
            return
        await self._drop()
        if asyncio.get_running_loop().time() < self._not_before:
            msg = "PostgreSQL could not be reached a moment ago"
            raise LedgerUnavailableError(msg)
        self._connection = await asyncpg.connect(
            self._dsn,
            timeout=5.0,
            command_timeout=STATEMENT_TIMEOUT,
            server_settings={
                "application_name": "owui-budget ledger",
                "statement_timeout": str(int(STATEMENT_TIMEOUT * 1000)),
                # A process that stops in the middle of a transaction must not keep everybody's rows locked.
                "idle_in_transaction_session_timeout": str(int(STATEMENT_TIMEOUT * 1000)),
                "jit": "off",
            },
        )
        self._pause = 0.0

    def _back_off(self) -> None:
        self._pause = min(max(self._pause * 2, _FIRST_PAUSE), _LONGEST_PAUSE)
        self._not_before = asyncio.get_running_loop().time() + self._pause

    async def _roll_back(self) -> None:
        connection = self._connection
        if connection is None or connection.is_closed():
            return
        try:
            await connection.execute("ROLLBACK")
        except (*_UNREACHABLE, asyncpg.PostgresError):
            await self._drop()

    async def _drop(self, *, gently: bool = False) -> None:
        connection, self._connection, self._prepared = self._connection, None, {}
        if connection is None or connection.is_closed():
            return
        try:
            if gently:
                await connection.close(timeout=2.0)
            else:
                connection.terminate()
        except _UNREACHABLE:
            connection.terminate()


def asyncpg_dsn(url: URL) -> str:
    """Return the URL as asyncpg takes it: without a driver, and without options that only libpq knows."""
    query = {name: value for name, value in url.query.items() if name not in ("connect_timeout", "gssencmode")}
    return url.set(drivername="postgresql", query=query).render_as_string(hide_password=False)
