from pathlib import Path

import pytest
import sqlalchemy as sa
from support.ledgers import DAY

from owui_budget.database.tables import counters

from .conftest import Run, World


def spoil(world: World) -> None:
    world.spend("u-bob", 50)
    world.execute(sa.update(counters).where(counters.c.key == "user:u-bob").values(daily_used=7))


WRONG = {"counter": "user:u-bob", "window": "daily", "what": "used", "counted": 7, "expected": 50}


def test_verify(cli: Run, world: World) -> None:
    world.spend("u-bob", 50)
    done = cli("ledger", "verify")
    assert (done.code, done.out) == (0, "every counter equals the sum of its events\n")


def test_verify_finds_what_is_wrong(cli: Run, world: World) -> None:
    spoil(world)
    done = cli("ledger", "verify", "--json")
    assert (done.code, done.json) == (2, {"discrepancies": [WRONG]})
    assert ["user:u-bob", "daily", "used", "7", "50"] in cli("ledger", "verify").rows


def test_repair(cli: Run, world: World) -> None:
    spoil(world)
    assert cli("ledger", "repair", stdin="n\n").code == 1
    done = cli("ledger", "repair", "--yes", "--json")
    assert (done.code, done.json) == (0, {"mended": [WRONG]})
    assert cli("ledger", "verify").code == 0
    done = cli("ledger", "repair")
    assert done.out == "every counter equals the sum of its events; nothing was changed\n"


def test_retention(cli: Run, world: World) -> None:
    world.spend("u-bob", 50)
    world.clock.advance(63 * DAY)
    world.spend("u-bob", 5)
    assert cli("ledger", "retention", "--json").json == {"kept_days": 400, "days": 0, "events": 0, "counters": 0}
    assert cli("ledger", "retention", "--days", "62", stdin="n\n").code == 1
    done = cli("ledger", "retention", "--days", "62", "--yes")
    assert (done.code, done.out) == (0, "1 events of 1 days are rolled up; 0 unused counters are removed\n")
    assert cli("usage", "Bob", "--from", "2026-07-01", "--json").json["total"]["charge"] == 55


def test_retention_keeps_at_least_what_windows_need(cli: Run, world: World) -> None:
    done = cli("ledger", "retention", "--days", "61")
    assert done.code == 2
    assert "greater than or equal to 62" in done.err


def test_without_a_ledger_no_file_is_made(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", "sqlite:///none.db")
    done = run("ledger", "verify")
    assert done.code == 1
    assert "there is no ledger at none.db" in done.err
    assert not Path("none.db").exists()
