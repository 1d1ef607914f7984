# ruff: noqa: S608 - only names of our own tables, and the schema, which the settings check, become part of the SQL
"""The SQL of the hot path, made from the tables' own column names.

PostgreSQL writes a whole batch with one statement of array parameters (`unnest`), SQLite with `executemany`.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Final

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, Table

from owui_budget.database import tables
from owui_budget.ledger.batch import Writes
from owui_budget.ledger.protocol import LedgerState
from owui_budget.ledger.records import EVENT_FIELDS, Event, Open, Row, State, call_from_json, call_to_json

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


_SQL_TYPES: Final = ((BigInteger, "bigint"), (Integer, "integer"), (Double, "double precision"), (Boolean, "boolean"))


def _type_of(table: Table, column: str) -> str:
    kind = table.columns[column].type
    return next((name for python, name in _SQL_TYPES if isinstance(kind, python)), "text")


def _select(table: Table, columns: Sequence[str]) -> str:
    return ", ".join(
        f"n.{name}::json" if isinstance(table.columns[name].type, JSON) else f"n.{name}" for name in columns
    )


@dataclass(frozen=True)
class PostgresStatements:
    """The statements for one schema."""

    schema: str
    lock_key: int
    _written: dict[tuple[str, ...], str] = field(default_factory=dict)
    """Statements by their parts: a few dozen combinations at the most."""

    @cached_property
    def begin(self) -> str:
        """Begin, and keep out whoever rebuilds counters. Two statements, so that the next one sees what they did."""
        return f"BEGIN; SELECT pg_advisory_xact_lock_shared({self.lock_key})"

    @cached_property
    def read_counters(self) -> str:
        """Read meta and lock counters ($1: keys in lock order): revision, zone, offset, rows as JSON."""
        return f"""
            WITH c AS MATERIALIZED ({self._counters("$1")})
            SELECT m.revision, m.zone, m.clock_offset, (SELECT json_agg({_ROW}) FROM c), NULL::json
            FROM {self.schema}.meta m"""

    @cached_property
    def read_all(self) -> str:
        """As `read_counters`, locking reservations ($2: ids) first: the counters' query asks for them by name."""
        return f"""
            WITH r AS MATERIALIZED (
                SELECT {", ".join(OPEN_COLUMNS)} FROM {self.schema}.reservations
                WHERE id = ANY($2::text[]) ORDER BY id FOR UPDATE
            ), c AS MATERIALIZED ({self._counters("$1", "WHERE (SELECT count(*) FROM r) >= 0")})
            SELECT m.revision, m.zone, m.clock_offset, (SELECT json_agg({_ROW}) FROM c),
                   (SELECT json_agg(json_build_array({", ".join(OPEN_COLUMNS)})) FROM r)
            FROM {self.schema}.meta m"""

    def _counters(self, keys: str, where: str = "") -> str:
        return f"""
            SELECT c.* FROM unnest({keys}::text[]) WITH ORDINALITY AS k(key, n)
            JOIN {self.schema}.counters c ON c.key = k.key {where} ORDER BY k.n FOR UPDATE OF c"""

    @cached_property
    def history(self) -> str:
        """Read the events of reservations ($1: ids)."""
        return f"""
            SELECT {", ".join(EVENT_FIELDS)} FROM {self.schema}.usage_events
            WHERE reservation_id = ANY($1::text[])"""

    @cached_property
    def create(self) -> str:
        """Insert empty counter rows ($1: keys, sorted, so that two of these cannot wait for each other)."""
        return f"""
            INSERT INTO {self.schema}.counters (key) SELECT unnest($1::text[])
            ON CONFLICT DO NOTHING"""

    def write(self, parts: tuple[str, ...]) -> str:
        """Return one statement that writes all `parts`; their columns are its array parameters, in order."""
        if parts not in self._written:
            self._written[parts] = self._write(parts)
        return self._written[parts]

    def _write(self, parts: Sequence[str]) -> str:
        position = 0
        clauses = []
        for number, part in enumerate(parts):
            table, columns, template = _PARTS[part]
            arrays = ", ".join(
                f"${position + index}::{_type_of(table, name)}[]" for index, name in enumerate(columns, start=1)
            )
            position += len(columns)
            source = f"unnest({arrays}) AS n({', '.join(columns)})"
            sql = template.format(schema=self.schema, source=source, select=_select(table, columns), **_COLUMNS)
            clauses.append(f"w{number} AS ({sql})")
        return f"WITH {', '.join(clauses)} SELECT 1"


_ROW: Final = f"json_build_array({', '.join(f'c.{name}' for name in COUNTER_COLUMNS)})"
_COLUMNS: Final = {
    "set_counters": ", ".join(f"{name} = n.{name}" for name in tables.WINDOW_COLUMNS),
    "open": ", ".join(OPEN_COLUMNS),
    "event": ", ".join(EVENT_FIELDS),
    "charge": ", ".join(CHARGE_COLUMNS),
    "released": State.RELEASED.value,
}
_PARTS: Final[dict[str, tuple[Table, tuple[str, ...], str]]] = {
    "counters": (
        tables.counters,
        COUNTER_COLUMNS,
        "UPDATE {schema}.counters c SET {set_counters} FROM {source} WHERE c.key = n.key",
    ),
    "reserved": (
        tables.reservations,
        OPEN_COLUMNS,
        "INSERT INTO {schema}.reservations ({open}) SELECT {select} FROM {source}",
    ),
    "deleted": (
        tables.reservations,
        ("id",),
        "DELETE FROM {schema}.reservations r USING {source} WHERE r.id = n.id",
    ),
    "released": (
        tables.reservations,
        ("id", "lease_until"),
        "UPDATE {schema}.reservations r SET state = '{released}', lease_until = n.lease_until "
        "FROM {source} WHERE r.id = n.id",
    ),
    "renewed": (
        tables.reservations,
        ("id", "lease_until"),
        "UPDATE {schema}.reservations r SET lease_until = n.lease_until FROM {source} WHERE r.id = n.id",
    ),
    "events": (
        tables.usage_events,
        EVENT_FIELDS,
        "INSERT INTO {schema}.usage_events ({event}) SELECT {select} FROM {source}",
    ),
    "charges": (
        tables.usage_charges,
        CHARGE_COLUMNS,
        "INSERT INTO {schema}.usage_charges ({charge}) SELECT {select} FROM {source}",
    ),
}


def _marks(count: int) -> str:
    return ", ".join("?" * count)


SQLITE_WRITES: Final = {
    "counters": f"UPDATE counters SET {', '.join(f'{name} = ?' for name in tables.WINDOW_COLUMNS)} WHERE key = ?",
    "reserved": f"INSERT INTO reservations ({', '.join(OPEN_COLUMNS)}) VALUES ({_marks(len(OPEN_COLUMNS))})",
    "deleted": "DELETE FROM reservations WHERE id = ?",
    "released": f"UPDATE reservations SET state = '{State.RELEASED}', lease_until = ? WHERE id = ?",
    "renewed": "UPDATE reservations SET lease_until = ? WHERE id = ?",
    "events": f"INSERT INTO usage_events ({', '.join(EVENT_FIELDS)}) VALUES ({_marks(len(EVENT_FIELDS))})",
    "charges": f"INSERT INTO usage_charges ({', '.join(CHARGE_COLUMNS)}) VALUES ({_marks(len(CHARGE_COLUMNS))})",
}
"""Updates take their key last: `sqlite_values` turns the row round."""

SQLITE_STATE: Final = "SELECT revision, zone, clock_offset FROM meta"


def sqlite_select(what: str, count: int) -> str:
    """Return the query for `count` rows of `what` (counters, reservations or usage_events) by key."""
    columns, key = _SELECTS[what]
    return f"SELECT {', '.join(columns)} FROM {what} WHERE {key} IN ({_marks(count)})"


_SELECTS: Final = {
    "counters": (COUNTER_COLUMNS, "key"),
    "reservations": (OPEN_COLUMNS, "id"),
    "usage_events": (EVENT_FIELDS, "reservation_id"),
}


def sqlite_values(part: str, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return `rows` as the statement of `part` takes them."""
    if part in ("counters", "released", "renewed"):
        return [(*row[1:], row[0]) for row in rows]
    return rows


def rows_by_key(rows: Sequence[Sequence[Any]]) -> dict[str, Row]:
    """Take counter rows as they were selected."""
    return {values[0]: Row.read(values) for values in rows}
