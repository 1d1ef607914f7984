"""The steps of one batch's transaction, without the store: what to lock, when to start again, what to write.

`transact` is a generator. It yields steps, a store carries each out and sends back what it read; so PostgreSQL's
asynchronous door, SQLite's thread and the memory ledger follow one script. Locks are taken in one order everywhere:
reservations by id, then counters by `Counter.lock_position`. Where the first look shows that more rows are needed, the
transaction is undone and begun again with all of them: rows locked late would break that order.
"""

from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.batch import Batch
from owui_budget.ledger.events import charged_counters
from owui_budget.ledger.operations import Adjust, Look, Operation, Reset, Result, reservation_ids
from owui_budget.ledger.protocol import LedgerOptions, LedgerState, OperationRejectedError, Reserve, Settlement
from owui_budget.ledger.records import Event, EventType, Open, Row, is_pool, lock_order, pools_of
from owui_budget.ledger.view import View, Writes

_ATTEMPTS: Final = 8


@dataclass(slots=True)
class Locked:
    """What a store read under its locks, with its clock: `now` is ledger time (epoch seconds)."""

    state: LedgerState
    now: float
    rows: dict[str, Row]
    open: dict[str, Open]


@dataclass(frozen=True, slots=True)
class Lock:
    """Begin, lock and read: answered by `Locked`."""

    reservations: list[str]
    keys: list[str]


@dataclass(frozen=True, slots=True)
class LookUp:
    """Read the events of reservations that have no row: answered by events by reservation id."""

    reservations: list[str]


@dataclass(frozen=True, slots=True)
class Undo:
    """Roll back: nothing is to be written."""


@dataclass(frozen=True, slots=True)
class Create:
    """Insert empty counter rows where there are none, in a transaction of their own."""

    keys: list[str]


@dataclass(frozen=True, slots=True)
class Commit:
    """Write and commit."""

    writes: Writes


Step = Lock | LookUp | Undo | Create | Commit
Outcome = Result | BaseException


@dataclass(slots=True)
class _Needs:
    """The counter rows a batch has to lock, and those among them that must exist."""

    keys: set[str] = field(default_factory=set)
    existing: set[str] = field(default_factory=set)


def transact(operations: Sequence[Operation], options: LedgerOptions) -> Generator[Step, Any, list[Outcome]]:
    """Carry out one batch; an operation that cannot be meant yields its error and leaves the others alone."""
    identifiers = sorted({each for operation in operations for each in reservation_ids(operation)})
    keys = {key for operation in operations for key in _guess(operation)}
    for _ in range(_ATTEMPTS):
        locked: Locked = yield Lock(identifiers, lock_order(keys))
        missing = [each for each in identifiers if each not in locked.open]
        history: dict[str, list[Event]] = (yield LookUp(missing)) if missing else {}
        needs = _needs(operations, locked, history)
        if not needs.keys <= keys:
            keys |= needs.keys
            yield Undo()
            continue
        if absent := needs.existing - locked.rows.keys():
            yield Undo()
            yield Create(sorted(absent))
            continue
        batch = Batch(View(locked.state, locked.rows, locked.open, history), locked.now, options)
        outcomes = [_run(batch, operation) for operation in operations]
        yield Commit(batch.writes) if batch.writes else Undo()
        return outcomes
    msg = f"the rows of a batch of {len(operations)} kept changing"
    raise LedgerUnavailableError(msg)


def _run(batch: Batch, operation: Operation) -> Outcome:
    try:
        return batch.run(operation)
    except (ValueError, OverflowError) as error:
        rejected = OperationRejectedError(str(error))
        rejected.__cause__ = error
        return rejected


def _guess(operation: Operation) -> Iterable[str]:
    """Return the rows an operation most likely touches; for a settled call these are what its reservation holds."""
    match operation:
        case Reserve():
            return [*(each.key for each in operation.counters), *pools_of(operation.call)]
        case Settlement():
            return [*(each.key for each in operation.counters), *pools_of(operation.call)]
        case Adjust() | Reset():
            return [operation.counter.key]
        case Look():
            return [limit.counter.key for limit in operation.limits]
        case _:
            return ()


def _needs(operations: Sequence[Operation], locked: Locked, history: dict[str, list[Event]]) -> _Needs:
    needs = _Needs()
    for operation in operations:
        match operation:
            case Reserve() if operation.revision == locked.state.revision:
                needs.existing.update(each.key for each in operation.counters if not is_pool(each.key))
            case Adjust() | Reset():
                needs.existing.update(key for key in [operation.counter.key] if not is_pool(key))
            case Settlement() if operation.reservation_id not in locked.open:
                charged = charged_counters((each.key for each in operation.counters), operation.call)
                needs.existing.update(key for key in charged if not is_pool(key))
            case _:
                pass
    for reservation in locked.open.values():
        needs.keys.update(reservation.holds)
    for past in history.values():
        needs.keys.update(key for event in past if event.type == EventType.ESTIMATE for key in event.counters)
    return needs
