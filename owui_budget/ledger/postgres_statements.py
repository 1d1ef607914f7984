# ruff: noqa: S608 - only names of our own tables, and the schema, which the settings check, become part of the SQL
"""The SQL of the hot path on PostgreSQL: a whole batch is written with one statement of array parameters (`unnest`)."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Final

from sqlalchemy import JSON, BigInteger, Boolean, Double, Integer, Table

from owui_budget.database import tables
from owui_budget.ledger.columns import CHARGE_COLUMNS, COUNTER_COLUMNS, OPEN_COLUMNS
from owui_budget.ledger.records import EVENT_FIELDS, State

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
