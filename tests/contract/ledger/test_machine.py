"""The ledger against a plain list model, over every store; and mutants that this must catch."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from support.ledger_machine import machine_on
from support.ledgers import Store

from owui_budget.database.migrate import upgrade
from owui_budget.ledger.batch import Batch
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.operations import Result, Unopened
from owui_budget.ledger.protocol import Reserve, Settlement
from owui_budget.ledger.records import Row

EXAMPLES = {"memory": 60, "sqlite": 12, "postgres": 6}


def walk(store: Store, examples: int, *, shrink: bool = True) -> None:
    run_state_machine_as_test(
        machine_on(store),
        settings=settings(
            max_examples=examples,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=list(HealthCheck),
            phases=tuple(Phase) if shrink else (Phase.generate,),
            derandomize=not shrink,
            database=None,
            report_multiple_bugs=False,
        ),
    )


@pytest.mark.parametrize("kind", list(EXAMPLES))
def test_invariants_1_to_3_hold_over_any_walk(kind: str, tmp_path: Path, request: pytest.FixtureRequest) -> None:
    urls: dict[str, Callable[[], str | None]] = {
        "memory": lambda: None,
        "sqlite": lambda: f"sqlite:///{tmp_path}/ledger.db",
        "postgres": lambda: request.getfixturevalue("postgres_url"),
    }
    store = Store(kind, urls[kind]())
    if store.engine is not None:
        upgrade(store.engine)
    try:
        walk(store, EXAMPLES[kind])
    finally:
        asyncio.run(store.close())


_move, _settle, _reserve = Row.move, Batch._settle, Batch._reserve


def move_whatever_the_window(self: Row, starts: Any, *, used: int = 0, held: int = 0) -> None:
    for index in range(len(starts)):
        self.used[index] += used
        self.held[index] += held


def settle_as_often_as_asked(self: Batch, settlement: Settlement) -> bool:
    self._view.history.pop(settlement.reservation_id, None)
    return _settle(self, settlement)


def reserve_without_holding(self: Batch, request: Reserve) -> Result:
    outcome = _reserve(self, request)
    for row in self.writes.rows.values():
        row.held = [max(0, each - request.estimate) for each in row.held]
    return outcome


def reserve_forgetting_pools(self: Batch, request: Reserve) -> Result:
    outcome = _reserve(self, request)
    if not isinstance(outcome, Unopened) and request.id in self.writes.reserved:
        reservation = self.writes.reserved[request.id]
        reservation.holds = tuple(key for key in reservation.holds if key.startswith("user:"))
    return outcome


def rebuild_from_nothing(self: MemoryLedger, key: str) -> Row:
    return Row(key, starts=list(self._starts(self._now())))


@pytest.mark.parametrize(
    ("owner", "name", "mutant"),
    [
        (Row, "move", move_whatever_the_window),
        (Batch, "_settle", settle_as_often_as_asked),
        (Batch, "_reserve", reserve_without_holding),
        (Batch, "_reserve", reserve_forgetting_pools),
        (MemoryLedger, "_rebuilt", rebuild_from_nothing),
    ],
)
def test_the_walk_catches_a_broken_ledger(
    owner: type, name: str, mutant: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(owner, name, mutant)
    with pytest.raises(AssertionError):
        walk(Store("memory", None), 300, shrink=False)
