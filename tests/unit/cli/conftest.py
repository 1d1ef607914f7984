"""A small installation on a migrated SQLite database, with known events, and a runner of the command line."""

import asyncio
import json
import os
from collections.abc import Callable, Coroutine, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from support.ledgers import NOON, admit, call, limit, pool, reserve, settled
from support.sqlite import migrated
from typer.testing import CliRunner

from owui_budget.clock import ManualClock
from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.tables import sync_state
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import parse_limits
from owui_budget.ledger import upkeep
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.processes import Heartbeat, write_heartbeat
from owui_budget.ledger.sql import SqlLedger
from owui_budget.limits_file import Limits
from owui_budget.policy_store import ChangeMembers, Fence, PutGroup, PutUser, SqlPolicyStore, StoredGroup, StoredUser
from owui_budget_sync.cli import app

EVIL = "[bold red]x[/] \u202egnp.exe\nsecond line"
"""A name with rich's markup, a direction override and a line feed."""

OWUI = "http://openwebui.test"
LITELLM = "http://litellm.test"


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)

    @property
    def rows(self) -> list[list[str]]:
        return [line.split("\t") for line in self.out.splitlines()]


Run = Callable[..., Outcome]


class World:
    """The installation: alice is staff, bob an intern (interns are below staff), carol nothing, root an admin."""

    def __init__(self, folder: Path) -> None:
        self.clock = ManualClock(NOON)
        self.limits_file = folder / "limits.yaml"
        self.url = f"sqlite:///{folder}/ledger.db"
        self.settings = LedgerSettings(database_url=SecretStr(self.url))
        migrated(folder / "ledger.db")
        self.engine = make_engine(self.settings)
        self.store = SqlPolicyStore(self.engine)
        self.policy({})

    def policy(self, content: dict[str, Any]) -> None:
        self.limits_file.write_text(json.dumps(content), encoding="utf-8")

    def group(self, group_id: str, name: str, limits: dict[str, Any] | None = None, **known: Any) -> None:
        parsed = parse_limits({"version": 1, **limits} if limits else None)
        self.write(PutGroup(StoredGroup(group_id, name, limits=parsed, **known)))

    def user(self, user_id: str, name: str, *groups: str, role: Role = Role.USER) -> None:
        put = PutUser(StoredUser(user_id, f"{user_id.removeprefix('u-')}@example.com", name, role))
        self.write(put, *(ChangeMembers(group, frozenset({user_id})) for group in groups))

    def write(self, *changes: Any) -> None:
        self.store.write(changes, Fence(0))

    def spend(self, user_id: str, charge: int, *groups: str, **known: Any) -> None:
        async def work(ledger: SqlLedger) -> None:
            limits = [limit(pool(group), None) for group in groups]
            state = await ledger.state()
            asked = reserve(*limits, call=call(user_id, groups, **known), estimate=charge, revision=state.revision)
            admitted = await admit(ledger, asked)
            await ledger.settle(settled(asked, charge, admitted.admitted_at, model=asked.call.model))

        self.with_ledger(work)

    def with_ledger(self, work: Callable[[SqlLedger], Coroutine[Any, Any, None]]) -> None:
        async def opened() -> None:
            ledger = open_ledger(self.settings, Limits(), self.clock, "test", serve=False)
            await ledger.start()
            try:
                await work(ledger)
            finally:
                await ledger.close()

        asyncio.run(opened())

    def synced(self, **values: Any) -> None:
        """The last sync succeeded three seconds ago."""
        known = {"leader_id": "sync-1", "lease_until": NOON + 20, "last_started_at": NOON - 4,
                 "last_success_at": NOON - 3, "last_error": None, "problems": []}  # fmt: skip
        with self.engine.begin() as connection:
            connection.execute(sa.update(sync_state).values(**{**known, **values}))

    def beat(self, kind: str = "hooks", **values: Any) -> None:
        known = {"id": f"{kind}-1", "kind": kind, "host": "box", "pid": 77, "version": "0.1.0",
                 "started_at": NOON - 3_600, "seen_at": NOON - 2}  # fmt: skip
        write_heartbeat(self.engine, Heartbeat(**{**known, **values}))

    def move_clock(self, seconds: float) -> None:
        upkeep.set_clock_offset(self.engine, seconds)

    def execute(self, statement: sa.Executable) -> None:
        with self.engine.begin() as connection:
            connection.execute(statement)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    made = World(tmp_path)
    made.group("g-staff", "Staff", {"priority": 20, "member": {"daily": {"soft": 800, "hard": 1000}},
                                    "pool": {"daily": {"hard": 5000}}})  # fmt: skip
    made.group("g-interns", "Interns", {"priority": 10, "member": {"daily": {"hard": 100}}}, parent_id="g-staff")
    made.group("g-plain", "Plain")
    made.user("u-alice", "Alice", "g-staff")
    made.user("u-bob", "Bob", "g-interns")
    made.user("u-carol", "Carol")
    made.user("u-root", "Root", "g-staff", role=Role.ADMIN)
    yield made
    made.engine.dispose()


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No setting of ours in the environment, and an empty folder to stand in."""
    for name in list(os.environ):
        if name.startswith("OWUI_BUDGET_"):
            monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "400")


@pytest.fixture
def run(bare: None) -> Run:
    def invoke(*arguments: str, stdin: str | None = None) -> Outcome:
        result = CliRunner().invoke(app, list(arguments), input=stdin)
        if result.exception is not None and not isinstance(result.exception, SystemExit):
            raise result.exception
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return invoke


@pytest.fixture
def cli(run: Run, world: World, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The command line on `world`, whose clock stands at noon."""
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", world.url)
    monkeypatch.setenv("OWUI_BUDGET_LIMITS_FILE", str(world.limits_file))
    monkeypatch.setattr("owui_budget_sync.cli.doors.SystemClock", lambda: world.clock)
    monkeypatch.setattr("owui_budget_sync.checks.examination.SystemClock", lambda: world.clock)
    return run


@pytest.fixture
def with_openwebui(bare: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_OPENWEBUI_URL", OWUI)
    monkeypatch.setenv("OWUI_BUDGET_OPENWEBUI_API_KEY", "sk-admin-secret")
