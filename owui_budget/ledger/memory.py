"""A ledger in memory, for tests and for trying things out: the same batches on dictionaries, gone with the process."""

import copy
from collections.abc import Iterable, Sequence
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

from owui_budget.clock import Clock
from owui_budget.domain.decisions import Standing
from owui_budget.domain.identity import Counter
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import span_of
from owui_budget.ledger.flusher import Flusher
from owui_budget.ledger.operations import Adjust, Expire, Operation, Release, Renew, Reset, Result, Unopened
from owui_budget.ledger.protocol import (
    Admitted,
    Declined,
    Discrepancy,
    LedgerOptions,
    LedgerState,
    NoticeClaim,
    OperationRejectedError,
    Reserve,
    ReserveOutcome,
    Settlement,
    Stale,
    Swept,
)
from owui_budget.ledger.records import WINDOWS, Event, Open, Row, State, is_pool, pools_of
from owui_budget.ledger.transaction import Commit, Create, Lock, Locked, LookUp, Outcome, Step, Undo, transact
from owui_budget.ledger.upkeep import TOMBSTONE_SECONDS
from owui_budget.ledger.view import Writes


class MemoryLedger:
    """See `owui_budget.ledger.protocol.Ledger` for each method's contract."""

    def __init__(self, clock: Clock, options: LedgerOptions, revision: int = 0) -> None:
        """Begin empty, at the policy's `revision`."""
        self._clock = clock
        self._options = options
        self._meta = LedgerState(revision, options.zone, 0.0)
        self._rows: dict[str, Row] = {}
        self._open: dict[str, Open] = {}
        self._events: dict[tuple[str, str], Event] = {}
        self._notices: set[NoticeClaim] = set()
        self._flusher = Flusher(self._execute)
        self._numbers = count(1)

    @property
    def events(self) -> list[Event]:
        """All events, in the order they were written."""
        return list(self._events.values())

    def set_state(self, *, revision: int | None = None, zone: str | None = None, offset: float | None = None) -> None:
        """Play the policy store, another process' zone, or the test clock."""
        self._meta = LedgerState(
            self._meta.revision if revision is None else revision,
            self._meta.zone,
            self._meta.clock_offset if offset is None else offset,
        )
        if zone is not None and zone != self._meta.zone:
            self._meta = LedgerState(self._meta.revision + 1, zone, self._meta.clock_offset)
            for reservation in self._open.values():
                reservation.starts = self._starts(reservation.admitted_at)
            for key in self._rows:
                self._rows[key] = self._rebuilt(key)

    async def start(self) -> None:
        """Nothing is to be opened."""

    async def close(self) -> None:
        """Finish what is queued."""
        await self._flusher.drain()

    async def state(self) -> LedgerState:
        """Return revision, zone and test clock."""
        return self._meta

    def known_state(self) -> LedgerState | None:
        """Return revision, zone and test clock."""
        return self._meta

    def now(self) -> float:
        """Return the ledger's time in epoch seconds."""
        return self._now()

    async def reserve(self, request: Reserve) -> ReserveOutcome:
        """Decide and hold."""
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
        now = self._now()
        overdue = [each.id for each in self._open.values() if each.state == State.HELD and each.lease_until <= now]
        expired = [await self._submit(Expire(each)) for each in overdue]
        old = [
            each.id
            for each in self._open.values()
            if each.state == State.RELEASED and each.lease_until < now - TOMBSTONE_SECONDS
        ]
        for identifier in old:
            del self._open[identifier]
        return Swept(expired=sum(each is True for each in expired), purged=len(old))

    async def claim_notice(self, claims: Sequence[NoticeClaim]) -> Sequence[NoticeClaim]:
        """Claim warnings; return those nobody had claimed."""
        fresh = [claim for claim in dict.fromkeys(claims) if claim not in self._notices]
        self._notices.update(fresh)
        return fresh

    async def standings(self, limits: Iterable[LimitInForce]) -> tuple[Standing, ...]:
        """Read where limits stand."""
        found = []
        for limit in limits:
            key = limit.counter.key
            row = self._rows.get(key) or (self._rebuilt(key) if is_pool(key) else Row(key))
            span = span_of(limit.window, max([self._now(), *row.starts]), ZoneInfo(self._meta.zone))
            used, held = row.standing(limit.window, span.start)
            found.append(Standing(limit, span, used, held if key in self._rows else 0))
        return tuple(found)

    async def adjust(self, counter: Counter, charge: int, reason: str) -> None:
        """Add a charge by hand."""
        await self._submit(Adjust(f"adjustment-{next(self._numbers)}", counter, charge, reason))

    async def reset(self, counter: Counter, reason: str) -> dict[str, int]:
        """Bring a counter's current windows to zero."""
        result = await self._submit(Reset(f"reset-{next(self._numbers)}", counter, reason))
        assert isinstance(result, dict)  # noqa: S101 - what a Reset is answered with
        return result

    async def verify(self) -> Sequence[Discrepancy]:
        """Compare counters with events."""
        found = []
        for key, row in sorted(self._rows.items()):
            truth = self._summed(key, row.starts)
            for index, window in enumerate(WINDOWS):
                for what in ("held", "used"):
                    counted, expected = getattr(row, what)[index], getattr(truth, what)[index]
                    if counted != expected:
                        found.append(Discrepancy(key, window.value, what, counted, expected))
        return found

    async def repair(self) -> Sequence[Discrepancy]:
        """Mend what `verify` finds."""
        found = await self.verify()
        for each in found:
            self._rows[each.counter] = self._summed(each.counter, self._rows[each.counter].starts)
        return found

    async def _submit(self, operation: Operation) -> Result:
        while True:
            result = await self._flusher.submit(operation)
            if not isinstance(result, Unopened):
                return result
            for key in result.keys:
                for reservation in self._open.values():
                    if key in pools_of(reservation.call) and key not in reservation.holds:
                        reservation.holds = (*reservation.holds, key)
                self._rows[key] = self._rebuilt(key)

    async def _execute(self, operations: Sequence[Operation]) -> list[Outcome]:
        script = transact(operations, self._options)
        try:
            step = next(script)
            while True:
                step = script.send(self._carry_out(step))
        except StopIteration as done:
            outcomes: list[Outcome] = done.value
            return outcomes

    def _carry_out(self, step: Step) -> Any:
        match step:
            case Lock():
                rows = {key: copy.deepcopy(self._rows[key]) for key in step.keys if key in self._rows}
                opened = {each: copy.copy(self._open[each]) for each in step.reservations if each in self._open}
                return Locked(self._meta, self._now(), rows, opened)
            case LookUp():
                return {
                    each: [event for (owner, _), event in self._events.items() if owner == each]
                    for each in step.reservations
                }
            case Create():
                self._rows.update({key: Row(key) for key in step.keys if key not in self._rows})
            case Commit():
                self._write(step.writes)
            case Undo():
                pass
        return None

    def _write(self, writes: Writes) -> None:
        if twice := writes.reserved.keys() & self._open.keys():
            msg = f"reservation {min(twice)} exists already"
            raise OperationRejectedError(msg)
        self._rows.update(writes.rows)
        self._open.update(writes.reserved)
        for identifier in writes.deleted:
            del self._open[identifier]
        for identifier in writes.released:
            self._open[identifier].state = State.RELEASED
            self._open[identifier].lease_until = writes.now
        for identifier in writes.renewed:
            self._open[identifier].lease_until = writes.lease_until
        self._events.update({(event.reservation_id, event.type): event for event in writes.events})

    def _now(self) -> float:
        return self._clock.now() + self._meta.clock_offset

    def _starts(self, moment: float) -> tuple[int, ...]:
        return tuple(span_of(window, moment, ZoneInfo(self._meta.zone)).start for window in WINDOWS)

    def _rebuilt(self, key: str) -> Row:
        latest = max([self._now(), *(event.at for event in self._events.values() if key in event.counters)])
        return self._summed(key, self._starts(latest))

    def _summed(self, key: str, starts: Sequence[int]) -> Row:
        row = Row(key, starts=list(starts))
        for event in self._events.values():
            if key in event.counters:
                for index, start in enumerate(starts):
                    row.used[index] += event.charge if event.at >= start else 0
        for reservation in self._open.values():
            if reservation.state == State.HELD and key in reservation.holds:
                row.move(reservation.starts, held=reservation.amount)
        return row
