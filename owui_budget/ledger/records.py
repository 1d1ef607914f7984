"""Rows as values: what the batch planner works on, and how each value maps to a table's columns."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import StrEnum
from typing import Any, Final, Self

from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.domain.windows import Window
from owui_budget.ledger.protocol import Call

WINDOWS: Final = tuple(Window)
_TEXT_MAX: Final = 512


class State(StrEnum):
    """The states a reservation row can have; a settled or expired one has no row, its event is the record."""

    HELD = "held"
    RELEASED = "released"


class EventType(StrEnum):
    """What a usage event is. Unique per reservation, which is what makes a charge happen once."""

    USAGE = "usage"
    ESTIMATE = "estimate"
    """The lease ran out: charged as held, until the real figure arrives."""
    CORRECTION = "correction"
    """The difference between an estimate and what the call really took."""
    ADJUSTMENT = "adjustment"
    """By a person, or the return of an estimate whose call never ran."""


@dataclass(slots=True)
class Row:
    """One counter row: start (epoch seconds), used and held (tokens) of its four current windows, shortest first."""

    key: str
    starts: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    used: list[int] = field(default_factory=lambda: [0, 0, 0, 0])
    held: list[int] = field(default_factory=lambda: [0, 0, 0, 0])

    @classmethod
    def read(cls, values: Sequence[Any]) -> Self:
        """Take the columns of `counters` in the order of the table."""
        return cls(values[0], list(values[1::3]), list(values[2::3]), list(values[3::3]))

    def columns(self) -> tuple[Any, ...]:
        """Return the columns of `counters` in the order of the table."""
        (a, b, c, d), (e, f, g, h), (i, j, k, m) = self.starts, self.used, self.held
        return (self.key, a, e, i, b, f, j, c, g, k, d, h, m)

    def roll(self, starts: Sequence[int]) -> None:
        """Move windows that are over forward to `starts`, empty; windows never move back."""
        for index, start in enumerate(starts):
            if self.starts[index] < start:
                self.starts[index], self.used[index], self.held[index] = start, 0, 0

    def standing(self, window: Window, start: int) -> tuple[int, int]:
        """Return used and held of the window of kind `window` that began at `start`; nothing if the row is behind."""
        index = WINDOWS.index(window)
        return (self.used[index], self.held[index]) if self.starts[index] == start else (0, 0)

    def move(self, starts: Sequence[int], *, used: int = 0, held: int = 0) -> None:
        """Add to the windows that are still those of `starts`; a window that is over is left alone."""
        for index, start in enumerate(starts):
            if self.starts[index] == start:
                self.used[index] += used
                self.held[index] += held


@dataclass(slots=True)
class Open:
    """One reservation row: what it holds (tokens), on which counters, in which windows."""

    id: str
    state: str
    admitted_at: float
    lease_until: float
    process_id: str
    amount: int
    holds: tuple[str, ...]
    starts: tuple[int, ...]
    call: Call


@dataclass(frozen=True, slots=True)
class Event:
    """One usage event; the fields are the columns of `usage_events` in the order of the table."""

    reservation_id: str
    type: str
    at: float
    recorded_at: float
    user_id: str | None
    service_id: str | None
    caller: str
    kind: str
    route: str
    model: str
    deciding_group_id: str | None
    counters: tuple[str, ...]
    prompt: int
    completion: int
    cached: int
    reasoning: int
    weight: str
    charge: int
    ending: str
    estimated: bool
    reason: str | None = None

    def charges(self) -> list[tuple[str, float, str, str, int]]:
        """Return its rows of `usage_charges`."""
        return [(counter, self.at, self.reservation_id, self.type, self.charge) for counter in self.counters]


EVENT_FIELDS: Final = tuple(each.name for each in fields(Event))


def clean(text: str) -> str:
    """Make text from outside storable: no NUL, no lone surrogate, at most 512 characters."""
    if len(text) > _TEXT_MAX:
        text = text[:_TEXT_MAX]
    if text.isascii() and "\x00" not in text:
        return text
    return text.replace("\x00", "\ufffd").encode("utf-8", "replace").decode()


def cleaned(call: Call) -> Call:
    """Return `call` with its route and model storable: both are the client's words."""
    route, model = clean(call.route), clean(call.model)
    return call if (route, model) == (call.route, call.model) else replace(call, route=route, model=model)


_CALL_FIELDS: Final = tuple(each.name for each in fields(Call))


def call_to_json(call: Call) -> dict[str, Any]:
    """Print a call for its reservation row or the spool."""
    return {name: getattr(call, name) for name in _CALL_FIELDS}


def call_from_json(value: Mapping[str, Any]) -> Call:
    """Read back what `call_to_json` printed."""
    known = {
        **value,
        "caller": Caller(value["caller"]),
        "kind": Kind(value["kind"]),
        "pool_group_ids": tuple(value["pool_group_ids"]),
    }
    return Call(**known)


def pool_key(group_id: str) -> str:
    """Return the key of a group's pool counter."""
    return Counter(CounterKind.POOL, group_id).key


def pools_of(call: Call) -> list[str]:
    """Return the keys of every pool the call counts in, limited today or not."""
    return [pool_key(group_id) for group_id in call.pool_group_ids]


def is_pool(key: str) -> bool:
    """Whether `key` names a pool's counter: its row is opened from events, not empty."""
    return key.startswith(f"{CounterKind.POOL}:")


def lock_order(keys: set[str]) -> list[str]:
    """Sort counter keys into the one order in which every transaction locks them."""
    return sorted(keys, key=lambda key: Counter.parse(key).lock_position)
