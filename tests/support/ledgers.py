"""Ledgers for tests: one store each, a clock that stands still, and short words for calls."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from pydantic import SecretStr

from owui_budget.clock import ManualClock
from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade
from owui_budget.database.tables import counters, meta, reservations, usage_events
from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Admission
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window
from owui_budget.ledger import upkeep
from owui_budget.ledger.columns import read_event
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.protocol import Admitted, Call, Ending, LedgerOptions, Reserve, Settlement
from owui_budget.ledger.records import EVENT_FIELDS, Event
from owui_budget.ledger.sql import SqlLedger
from owui_budget.limits_file import Limits

NOON = 1_784_548_800.0
"""Monday 2026-07-20, 12:00 UTC."""
HOUR, DAY = 3_600.0, 86_400.0

_numbers = count(1)

TestedLedger = MemoryLedger | SqlLedger


class Store:
    """One store, the ledgers opened on it, and a look inside that needs no ledger."""

    def __init__(self, kind: str, url: str | None) -> None:
        self.kind = kind
        self.clock = ManualClock(NOON)
        self.settings = LedgerSettings(database_url=SecretStr(url)) if url else None
        self.engine = make_engine(self.settings) if self.settings else None
        self._memory: MemoryLedger | None = None
        self._opened: list[TestedLedger] = []

    async def open(
        self, process: str = "p1", zone: str = "UTC", *, clock: ManualClock | None = None, serve: bool = True
    ) -> TestedLedger:
        """Open one more ledger on the store, as another process would; SQLite lets only one of them serve."""
        ledger: TestedLedger
        if self.settings is None:
            self._memory = self._memory or MemoryLedger(self.clock, LedgerOptions(zone, 120.0, process))
            ledger = self._memory
            ledger.set_state(zone=zone)
        else:
            ledger = open_ledger(
                self.settings, Limits(timezone=zone, lease=120), clock or self.clock, process, serve=serve
            )
        await ledger.start()
        self._opened.append(ledger)
        return ledger

    async def close(self) -> None:
        for ledger in self._opened:
            await ledger.close()
        if self.engine is not None:
            self.engine.dispose()

    def events(self) -> list[Event]:
        if self._memory is not None:
            return self._memory.events
        columns = [usage_events.c[name] for name in EVENT_FIELDS]
        return [read_event(tuple(row)) for row in self._rows(sa.select(*columns).order_by(usage_events.c.recorded_at))]

    def rows(self) -> dict[str, tuple[int, ...]]:
        """Every counter row as it is stored."""
        if self._memory is not None:
            return {key: row.columns()[1:] for key, row in self._memory._rows.items()}
        return {row[0]: tuple(row[1:]) for row in self._rows(sa.select(counters))}

    def open_ids(self) -> set[str]:
        if self._memory is not None:
            return {each.id for each in self._memory._open.values() if each.state == "held"}
        return {row[0] for row in self._rows(sa.select(reservations.c.id).where(reservations.c.state == "held"))}

    def set_revision(self, revision: int) -> None:
        if self._memory is not None:
            self._memory.set_state(revision=revision)
        else:
            self.execute(sa.update(meta).values(revision=revision))

    def set_offset(self, seconds: float) -> None:
        if self._memory is not None:
            self._memory.set_state(offset=seconds)
        else:
            assert self.engine is not None
            upkeep.set_clock_offset(self.engine, seconds)

    def spoil(self, key: str, window: Window, used: int) -> None:
        """Write a wrong figure into a counter."""
        if self._memory is not None:
            self._memory._rows[key].used[list(Window).index(window)] = used
        else:
            self.execute(sa.update(counters).where(counters.c.key == key).values({f"{window}_used": used}))

    def execute(self, statement: sa.Executable) -> None:
        assert self.engine is not None
        with self.engine.begin() as connection:
            connection.execute(statement)

    def _rows(self, statement: sa.Select[*tuple[Any, ...]]) -> Sequence[sa.Row[*tuple[Any, ...]]]:
        assert self.engine is not None
        with self.engine.begin() as connection:
            return connection.execute(statement).all()


@asynccontextmanager
async def sqlite_store(folder: Path) -> AsyncIterator[Store]:
    store = Store("sqlite", f"sqlite:///{folder}/ledger.db")
    assert store.engine is not None
    await asyncio.to_thread(upgrade, store.engine)
    try:
        yield store
    finally:
        await store.close()


def user(identifier: str = "u1") -> Counter:
    return Counter(CounterKind.USER, identifier)


def pool(identifier: str = "g1") -> Counter:
    return Counter(CounterKind.POOL, identifier)


def limit(counter: Counter, hard: int | None, window: Window = Window.DAILY, soft: int | None = None) -> LimitInForce:
    scope = Scope.POOL if counter.kind is CounterKind.POOL else Scope.MEMBER
    return LimitInForce(scope, window, Bounds(soft, hard), counter)


def call(user_id: str | None = "u1", pools: tuple[str, ...] = (), **known: Any) -> Call:
    words = {"caller": Caller.OPENWEBUI, "kind": Kind.CHAT, "route": "acompletion", "model": "m1", **known}
    return Call(user_id=user_id, pool_group_ids=pools, **words)


def reserve(*limits: LimitInForce, estimate: int = 10, **known: Any) -> Reserve:
    """Ask for admission of u1 (or of `call`), counted for its user and in every limited counter."""
    asked: Call = known.pop("call", None) or call(pools=tuple(known.pop("pools", ())))
    own = () if asked.user_id is None else (user(asked.user_id),)
    values: dict[str, Any] = {
        "id": f"r{next(_numbers)}",
        "call": asked,
        "counters": tuple(dict.fromkeys([*own, *(each.counter for each in limits)])),
        "limits": limits,
        "estimate": estimate,
        "admission": Admission.LAST_REQUEST,
        "revision": 0,
        **known,
    }
    return Reserve(**values)


def settled(request: Reserve, charge: int, admitted_at: float = NOON, **known: Any) -> Settlement:
    """The end of a call that took `charge` tokens, half of them for the prompt."""
    values: dict[str, Any] = {
        "reservation_id": request.id,
        "call": request.call,
        "counters": request.counters,
        "admitted_at": admitted_at,
        "usage": Usage(prompt=charge // 2, completion=charge - charge // 2),
        "model": "m1",
        "weight": Decimal(1),
        "charge": charge,
        "ending": Ending.COMPLETED,
        **known,
    }
    return Settlement(**values)


async def admit(ledger: TestedLedger, request: Reserve) -> Admitted:
    outcome = await ledger.reserve(request)
    assert isinstance(outcome, Admitted), outcome
    return outcome


async def spend(ledger: TestedLedger, charge: int, *limits: LimitInForce, **known: Any) -> Reserve:
    """A whole call: admitted and settled."""
    request = reserve(*limits, estimate=charge, **known)
    admitted = await admit(ledger, request)
    assert await ledger.settle(settled(request, charge, admitted.admitted_at))
    return request


async def figures(ledger: TestedLedger, counter: Counter, window: Window = Window.DAILY) -> tuple[int, int]:
    """Used and held of one counter's current window."""
    [standing] = await ledger.standings([limit(counter, None, window)])
    return standing.used, standing.held
