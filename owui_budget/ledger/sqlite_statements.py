# ruff: noqa: S608 - only names of our own tables become part of the SQL
"""The SQL of the hot path on SQLite: one `executemany` per kind of row."""

from typing import Any, Final

from owui_budget.database import tables
from owui_budget.ledger.columns import CHARGE_COLUMNS, COUNTER_COLUMNS, OPEN_COLUMNS
from owui_budget.ledger.records import EVENT_FIELDS, State


def _marks(count: int) -> str:
    return ", ".join("?" * count)


WRITES: Final = {
    "counters": f"UPDATE counters SET {', '.join(f'{name} = ?' for name in tables.WINDOW_COLUMNS)} WHERE key = ?",
    "reserved": f"INSERT INTO reservations ({', '.join(OPEN_COLUMNS)}) VALUES ({_marks(len(OPEN_COLUMNS))})",
    "deleted": "DELETE FROM reservations WHERE id = ?",
    "released": f"UPDATE reservations SET state = '{State.RELEASED}', lease_until = ? WHERE id = ?",
    "renewed": "UPDATE reservations SET lease_until = ? WHERE id = ?",
    "events": f"INSERT INTO usage_events ({', '.join(EVENT_FIELDS)}) VALUES ({_marks(len(EVENT_FIELDS))})",
    "charges": f"INSERT INTO usage_charges ({', '.join(CHARGE_COLUMNS)}) VALUES ({_marks(len(CHARGE_COLUMNS))})",
}
"""Updates take their key last: `values` turns the row round."""

STATE: Final = "SELECT revision, zone, clock_offset FROM meta"


def select(what: str, count: int) -> str:
    """Return the query for `count` rows of `what` (counters, reservations or usage_events) by key."""
    columns, key = _SELECTS[what]
    return f"SELECT {', '.join(columns)} FROM {what} WHERE {key} IN ({_marks(count)})"


_SELECTS: Final = {
    "counters": (COUNTER_COLUMNS, "key"),
    "reservations": (OPEN_COLUMNS, "id"),
    "usage_events": (EVENT_FIELDS, "reservation_id"),
}


def values(part: str, rows: list[tuple[Any, ...]]) -> list[tuple[Any, ...]]:
    """Return `rows` as the statement of `part` takes them."""
    if part in ("counters", "released", "renewed"):
        return [(*row[1:], row[0]) for row in rows]
    return rows
