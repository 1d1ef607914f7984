"""One batch of operations, decided: rows and requests in, outcomes and writes out. Pure, the same for every store.

A store locks and reads the rows (`View`), `Batch` decides each operation in order on those rows and collects `Writes`,
the store writes them in the same transaction. An operation either finishes or raises before it changed anything.
"""

from collections.abc import Iterable, Sequence
from zoneinfo import ZoneInfo

from owui_budget.domain.decisions import Refused, Standing, decide
from owui_budget.domain.identity import Counter
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Span, span_of
from owui_budget.ledger import events
from owui_budget.ledger.operations import (
    Abandon,
    Adjust,
    Expire,
    Look,
    Operation,
    Release,
    Renew,
    Reset,
    Result,
    Unopened,
)
from owui_budget.ledger.protocol import (
    Admitted,
    Declined,
    LedgerOptions,
    Reserve,
    ReserveOutcome,
    Settlement,
    Stale,
)
from owui_budget.ledger.records import WINDOWS, Event, EventType, Open, Row, State, cleaned, is_pool, pools_of
from owui_budget.ledger.view import View, Writes

MAX_CHARGE = 10**15
"""The largest charge or estimate one operation may carry, in tokens: sums of thousands still fit 64 bits."""


class Batch:
    """Decides operations one after the other on the rows of one view."""

    def __init__(self, view: View, now: float, options: LedgerOptions) -> None:
        """Take `now` in ledger time (epoch seconds)."""
        self._view = view
        self._now = now
        self._options = options
        self._zone = ZoneInfo(view.state.zone)
        self.writes = Writes(now=now, lease_until=now + options.lease)

    def run(self, operation: Operation) -> Result:  # noqa: PLR0911 - one line per kind of operation
        """Decide one operation.

        Raises:
            ValueError, OverflowError: the operation cannot be meant; nothing was changed.

        """
        match operation:
            case Reserve():
                return self._reserve(operation)
            case Settlement():
                return self._settle(operation)
            case Release():
                return self._give_back(operation.id, remember=True)
            case Abandon():
                return self._give_back(operation.id, remember=False)
            case Expire():
                return self._expire(operation.id)
            case Renew():
                self._renew(operation.ids)
                return None
            case Adjust():
                return self._adjust(operation)
            case Reset():
                return self._reset(operation)
            case Look():
                return self._look(operation)

    def _reserve(self, request: Reserve) -> ReserveOutcome | Unopened:
        if request.revision != self._view.state.revision:
            return Stale(self._view.state.revision)
        _check(request.estimate, "estimate", least=0)
        required = [counter.key for counter in request.counters]
        if strays := {limit.counter.key for limit in request.limits}.difference(required):
            msg = f"limits on counters that are not reserved: {', '.join(sorted(strays))}"
            raise ValueError(msg)
        if unopened := self._absent(required):
            return Unopened(unopened)
        # A pool without a limit may have had one: its row, if there is one, follows its events all the same.
        rows = self._rows([*required, *pools_of(request.call)])
        moment = self._moment(rows)
        spans = self._spans(moment)
        standings = [self._standing(limit, spans) for limit in request.limits]
        decision = decide(standings, request.estimate, request.admission)
        if isinstance(decision, Refused):
            return Declined(decision)
        starts = tuple(span.start for span in spans)
        for row in self._changing(rows):
            row.roll(starts)
            row.move(starts, held=request.estimate)
        self._view.open[request.id] = self.writes.reserved[request.id] = Open(
            id=request.id,
            state=State.HELD,
            admitted_at=moment,
            lease_until=self.writes.lease_until,
            process_id=self._options.process_id,
            amount=request.estimate,
            holds=tuple(row.key for row in rows),
            starts=starts,
            call=cleaned(request.call),
        )
        return Admitted(decision, moment)

    def _look(self, operation: Look) -> tuple[Standing, ...] | Unopened:
        keys = [limit.counter.key for limit in operation.limits]
        # A user without a row has used nothing; a pool without one has its events to count.
        if unopened := tuple(key for key in self._absent(keys) if is_pool(key)):
            return Unopened(unopened)
        spans = self._spans(self._moment(self._rows(keys)))
        return tuple(self._standing(limit, spans) for limit in operation.limits)

    def _standing(self, limit: LimitInForce, spans: Sequence[Span]) -> Standing:
        span = spans[WINDOWS.index(limit.window)]
        row = self._view.rows.get(limit.counter.key)
        used, held = row.standing(limit.window, span.start) if row else (0, 0)
        return Standing(limit, span, used, held)

    def _settle(self, settlement: Settlement) -> bool:
        _check(settlement.charge, "charge", least=0)
        identifier = settlement.reservation_id
        reservation = self._view.open.get(identifier)
        if reservation is not None:
            if reservation.state != State.HELD:
                return False
            call, at, holds = reservation.call, reservation.admitted_at, reservation.holds
            event = events.usage(settlement, call, at, holds, self._now)
            self._close(reservation, event, used=event.charge)
            return True
        history = self._history(identifier)
        if EventType.USAGE in history or EventType.CORRECTION in history:
            return False
        if EventType.ESTIMATE in history and EventType.ADJUSTMENT not in history:
            self._record(events.correction(history[EventType.ESTIMATE], settlement, self._now))
            return True
        # Admitted while the ledger was out of reach. Never in the future: a wrong clock must not open windows early.
        at = min(settlement.admitted_at, self._now)
        holds = tuple(counter.key for counter in settlement.counters)
        self._record(events.usage(settlement, cleaned(settlement.call), at, holds, self._now))
        return True

    def _give_back(self, identifier: str, *, remember: bool) -> bool:
        """Undo a hold, or the estimate it has become. What was released (`remember`) can never be settled."""
        reservation = self._view.open.get(identifier)
        if reservation is not None:
            if reservation.state != State.HELD:
                return False
            self._close(reservation, None, remember=remember)
            return True
        history = self._history(identifier)
        if history.keys() != {EventType.ESTIMATE}:
            return False
        kind = EventType.CORRECTION if remember else EventType.ADJUSTMENT
        reason = "released after its lease ran out" if remember else "its admission was never answered"
        self._record(events.taken_back(history[EventType.ESTIMATE], kind, reason, self._now))
        return True

    def _expire(self, identifier: str) -> bool:
        reservation = self._view.open.get(identifier)
        if reservation is None or reservation.state != State.HELD or reservation.lease_until > self._now:
            return False
        self._close(reservation, events.estimate(reservation, self._now), used=reservation.amount)
        return True

    def _renew(self, identifiers: Iterable[str]) -> None:
        for identifier in identifiers:
            reservation = self._view.open.get(identifier)
            if reservation is not None and reservation.state == State.HELD:
                reservation.lease_until = self.writes.lease_until
                if identifier not in self.writes.reserved:
                    self.writes.renewed[identifier] = None

    def _adjust(self, operation: Adjust) -> bool | Unopened:
        _check(abs(operation.charge), "charge", least=0)
        if unopened := self._absent([operation.counter.key]):
            return Unopened(unopened)
        at = self._moment(self._rows([operation.counter.key]))
        self._record(self._adjustment(operation.id, operation.counter, operation.charge, operation.reason, at))
        return True

    def _reset(self, operation: Reset) -> dict[str, int] | Unopened:
        """Write one adjustment per window that still has something used, each where the longer ones see it too.

        Windows nest by their starts: what lies at the start of a window lies in all that began earlier, and in none
        that began later. So going from the latest start to the earliest, each adjustment finishes its window.
        """
        key = operation.counter.key
        if unopened := self._absent([key]):
            return Unopened(unopened)
        [row] = self._changing(self._rows([key]))
        row.roll(self._starts(self._moment([row])))
        before = {window.value: used for window, used in zip(WINDOWS, row.used, strict=True)}
        for index in sorted(range(len(WINDOWS)), key=lambda each: (-row.starts[each], each)):
            if row.used[index]:
                step = (f"{operation.id}-{WINDOWS[index]}", -row.used[index], row.starts[index])
                self._record(self._adjustment(step[0], operation.counter, step[1], operation.reason, step[2]))
        return before

    def _adjustment(self, identifier: str, counter: Counter, charge: int, reason: str, at: float) -> Event:
        return events.adjustment(identifier, counter, charge, reason, (at, self._now))

    # -- what all of them share

    def _close(self, reservation: Open, event: Event | None, *, used: int = 0, remember: bool = False) -> None:
        """End a held reservation: its hold goes, `used` tokens come, in the windows it was admitted in."""
        for row in self._changing(self._rows(reservation.holds)):
            row.move(reservation.starts, used=used, held=-reservation.amount)
        if event is not None:
            self._append(event)
        self.writes.renewed.pop(reservation.id, None)
        if remember:
            reservation.state = State.RELEASED
            reservation.lease_until = self._now
            if reservation.id not in self.writes.reserved:
                self.writes.released.append(reservation.id)
            return
        del self._view.open[reservation.id]
        if self.writes.reserved.pop(reservation.id, None) is None:
            self.writes.deleted.append(reservation.id)

    def _record(self, event: Event) -> None:
        """Write an event that no hold stands for, and move the counters whose window it lies in."""
        starts = self._starts(event.at)
        for row in self._changing(self._rows(event.counters)):
            row.roll(starts)
            row.move(starts, used=event.charge)
        self._append(event)

    def _append(self, event: Event) -> None:
        self.writes.events.append(event)
        self._view.history.setdefault(event.reservation_id, []).append(event)

    def _history(self, identifier: str) -> dict[str, Event]:
        return {event.type: event for event in self._view.history.get(identifier, ())}

    def _absent(self, keys: Iterable[str]) -> tuple[str, ...]:
        return tuple(key for key in keys if key not in self._view.rows)

    def _rows(self, keys: Iterable[str]) -> list[Row]:
        """Return the rows there are for `keys`, each once."""
        return [self._view.rows[key] for key in dict.fromkeys(keys) if key in self._view.rows]

    def _changing(self, rows: list[Row]) -> list[Row]:
        self.writes.rows.update((row.key, row) for row in rows)
        return rows

    def _moment(self, rows: Iterable[Row]) -> float:
        """Return the ledger's time, or the start of the newest window of `rows` where another clock is ahead of ours.

        So every event lies in the windows it is counted in, and windows never move back.
        """
        return float(max([self._now, *(start for row in rows for start in row.starts)]))

    def _spans(self, moment: float) -> tuple[Span, ...]:
        return tuple(span_of(window, moment, self._zone) for window in WINDOWS)

    def _starts(self, moment: float) -> tuple[int, ...]:
        return tuple(span.start for span in self._spans(moment))


def _check(tokens: int, name: str, *, least: int) -> None:
    if not least <= tokens <= MAX_CHARGE:
        msg = f"{name} must be from {least} to {MAX_CHARGE:,} tokens, not {tokens}"
        raise ValueError(msg)
