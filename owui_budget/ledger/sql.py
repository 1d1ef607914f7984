"""The ledger on a database: batches through a fast door, everything else through the engine in a worker thread."""

import asyncio
import logging
from collections.abc import Iterable, Sequence
from typing import ParamSpec, Protocol, TypeVar
from uuid import uuid4

import sqlalchemy as sa

from owui_budget.database import migrate
from owui_budget.domain.decisions import Standing
from owui_budget.domain.identity import Counter
from owui_budget.domain.policy import LimitInForce
from owui_budget.ledger import audit, upkeep
from owui_budget.ledger.flusher import Flusher
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.operations import Adjust, Expire, Look, Operation, Release, Renew, Reset, Result, Unopened
from owui_budget.ledger.protocol import (
    Admitted,
    Declined,
    Discrepancy,
    LedgerOptions,
    LedgerState,
    NoticeClaim,
    Reserve,
    ReserveOutcome,
    Settlement,
    Stale,
    Swept,
)
from owui_budget.ledger.sqlite import ServeLock
from owui_budget.ledger.transaction import Outcome

_log = logging.getLogger(__name__)

P = ParamSpec("P")
T = TypeVar("T")


class Door(Protocol):
    """What carries batches out."""

    async def execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        """Carry out one batch in one transaction."""
        ...

    async def close(self) -> None:
        """Let go of the store."""
        ...


class SqlLedger:
    """A ledger on SQLite or PostgreSQL. See `owui_budget.ledger.protocol.Ledger` for each method's contract."""

    def __init__(
        self,
        engine: sa.Engine,
        door: Door,
        clock: LedgerClock,
        options: LedgerOptions,
        serve_lock: ServeLock | None = None,
        *,
        serve: bool = True,
    ) -> None:
        """Take the parts; `serve` is False for those who read and mend beside the process that serves calls."""
        self._engine = engine
        self._door = door
        self._clock = clock
        self._options = options
        self._serve = serve
        self._serve_lock = serve_lock
        self._flusher = Flusher(door.execute)

    async def start(self) -> None:
        """Check the schema and, when serving, make the configured time zone the ledger's. May be tried again."""
        if self._serve_lock is not None:
            self._serve_lock.acquire()
        try:
            await asyncio.to_thread(migrate.check, self._engine)
            if self._serve and await asyncio.to_thread(upkeep.take_zone, self._engine, self._clock, self._options.zone):
                _log.warning("the ledger's time zone is %s now; its current windows were rebuilt", self._options.zone)
            await self._door.execute(())  # connects, so that the first call does not wait for that
        except BaseException:  # whatever stopped the start, the next one must find the file free
            if self._serve_lock is not None:
                self._serve_lock.release()
            raise

    async def close(self) -> None:
        """Finish what is queued and let go of the store."""
        await self._flusher.drain()
        await self._door.close()
        await asyncio.to_thread(self._engine.dispose)
        if self._serve_lock is not None:
            self._serve_lock.release()

    async def state(self) -> LedgerState:
        """Read revision, zone and test clock."""
        return await asyncio.to_thread(upkeep.state, self._engine, self._clock)

    def known_state(self) -> LedgerState | None:
        """Return the state as last read, without asking; None before the first read."""
        return self._clock.state

    def now(self) -> float:
        """Return the ledger's time in epoch seconds, as last read."""
        return self._clock.now()

    async def reserve(self, request: Reserve) -> ReserveOutcome:
        """Decide and hold in one transaction."""
        result = await self._submit(request)
        assert isinstance(result, Admitted | Declined | Stale)  # noqa: S101 - what a Reserve is answered with
        return result

    async def settle(self, settlement: Settlement) -> bool:
        """Charge a finished call once."""
        return await self._submit(settlement) is True

    async def release(self, reservation_id: str) -> bool:
        """Give a hold back."""
        return await self._submit(Release(reservation_id)) is True

    async def renew(self, reservation_ids: Sequence[str]) -> None:
        """Extend leases."""
        if reservation_ids:
            await self._submit(Renew(tuple(reservation_ids)))

    async def sweep(self) -> Swept:
        """Expire leases that ran out, and forget calls released long ago."""
        overdue = await asyncio.to_thread(upkeep.expired, self._engine, self._clock)
        ended = await asyncio.gather(*(self._submit(Expire(each)) for each in overdue))
        purged = await asyncio.to_thread(upkeep.purge_tombstones, self._engine, self._clock)
        return Swept(expired=sum(each is True for each in ended), purged=purged)

    async def claim_notice(self, claims: Sequence[NoticeClaim]) -> Sequence[NoticeClaim]:
        """Claim warnings; return those nobody had claimed."""
        return await asyncio.to_thread(upkeep.claim_notices, self._engine, self._clock, claims)

    async def standings(self, limits: Iterable[LimitInForce]) -> tuple[Standing, ...]:
        """Read where limits stand."""
        look = Look(tuple(limits))
        result = await self._flusher.submit(look)
        if isinstance(result, Unopened):  # a pool of which only events tell; looking must not open it
            return await asyncio.to_thread(upkeep.standings, self._engine, self._clock, look.limits)
        assert isinstance(result, tuple)  # noqa: S101 - what a Look is answered with
        return result

    async def adjust(self, counter: Counter, charge: int, reason: str) -> None:
        """Add a charge by hand."""
        await self._submit(Adjust(f"adjustment-{uuid4()}", counter, charge, reason))

    async def reset(self, counter: Counter, reason: str) -> dict[str, int]:
        """Bring a counter's current windows to zero."""
        result = await self._submit(Reset(f"reset-{uuid4()}", counter, reason))
        assert isinstance(result, dict)  # noqa: S101 - what a Reset is answered with
        return result

    async def verify(self) -> Sequence[Discrepancy]:
        """Compare counters with events."""
        return await asyncio.to_thread(audit.verify, self._engine)

    async def repair(self) -> Sequence[Discrepancy]:
        """Mend what `verify` finds."""
        return await asyncio.to_thread(audit.repair, self._engine)

    async def _submit(self, operation: Operation) -> Result:
        while True:
            result = await self._flusher.submit(operation)
            if not isinstance(result, Unopened):
                return result
            await asyncio.to_thread(upkeep.take_pools, self._engine, self._clock, result.keys)
