"""Values to columns and back: how records lie in the tables, the same for both databases."""

import json
from collections.abc import Sequence
from typing import Any, Final

from owui_budget.database import tables
from owui_budget.ledger.protocol import LedgerState
from owui_budget.ledger.records import EVENT_FIELDS, Event, Open, Row, call_from_json, call_to_json
from owui_budget.ledger.view import Writes

COUNTER_COLUMNS: Final = ("key", *tables.WINDOW_COLUMNS)
OPEN_COLUMNS: Final = tuple(column.name for column in tables.reservations.columns)
CHARGE_COLUMNS: Final = tuple(column.name for column in tables.usage_charges.columns)


def open_values(reservation: Open) -> tuple[Any, ...]:
    """Return a reservation as the columns of its row."""
    return (
        reservation.id,
        str(reservation.state),
        reservation.admitted_at,
        reservation.lease_until,
        reservation.process_id,
        reservation.amount,
        json.dumps(reservation.holds),
        json.dumps(reservation.starts),
        json.dumps(call_to_json(reservation.call)),
    )


def read_open(values: Sequence[Any]) -> Open:
    """Take a reservation's columns; its JSON columns may be text or read already."""
    identifier, state, admitted_at, lease_until, process_id, amount, *texts = values
    holds, starts, call = (json.loads(each) if isinstance(each, str) else each for each in texts)
    return Open(
        identifier,
        state,
        admitted_at,
        lease_until,
        process_id,
        amount,
        tuple(holds),
        tuple(starts),
        call_from_json(call),
    )


def event_values(event: Event) -> tuple[Any, ...]:
    """Return an event as the columns of its row."""
    values = [getattr(event, name) for name in EVENT_FIELDS]
    values[_COUNTERS] = json.dumps(event.counters)
    return tuple(values)


def read_event(values: Sequence[Any]) -> Event:
    """Take an event's columns; its counters may be text or read already."""
    read = list(values)
    counters = read[_COUNTERS]
    read[_COUNTERS] = tuple(json.loads(counters) if isinstance(counters, str) else counters)
    read[_ESTIMATED] = bool(read[_ESTIMATED])
    return Event(*read)


def read_state(revision: int, zone: str, clock_offset: float) -> LedgerState:
    """Take the columns of `meta`."""
    return LedgerState(revision=revision, zone=zone, clock_offset=clock_offset)


_COUNTERS: Final = EVENT_FIELDS.index("counters")
_ESTIMATED: Final = EVENT_FIELDS.index("estimated")


def rows_of(writes: Writes) -> tuple[tuple[str, list[tuple[Any, ...]]], ...]:
    """Return what a batch writes, by part, leaving out the parts that are empty."""
    parts: tuple[tuple[str, list[tuple[Any, ...]]], ...] = (
        ("counters", [row.columns() for row in writes.rows.values()]),
        ("reserved", [open_values(each) for each in writes.reserved.values()]),
        ("deleted", [(each,) for each in writes.deleted]),
        ("released", [(each, writes.now) for each in writes.released]),
        ("renewed", [(each, writes.lease_until) for each in writes.renewed]),
        ("events", [event_values(each) for each in writes.events]),
        ("charges", [charge for each in writes.events for charge in each.charges()]),
    )
    return tuple((name, rows) for name, rows in parts if rows)


def rows_by_key(rows: Sequence[Sequence[Any]]) -> dict[str, Row]:
    """Take counter rows as they were selected."""
    return {values[0]: Row.read(values) for values in rows}
