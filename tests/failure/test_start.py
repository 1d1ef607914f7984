"""How LiteLLM starts, and refuses to: alone with SQLite, without a database, with mistakes in its settings."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from support.postgres import Postgres
from support.proxied import eventually

from failure.fleet import Bare, BareProxy
from owui_budget.config import LedgerSettings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget.database.tables import counters, usage_events
from owui_budget.domain.limits import parse_limits
from owui_budget.domain.policy import Group
from owui_budget.ledger import audit
from owui_budget.policy_store.snapshot_file import save_snapshot
from owui_budget.policy_store.values import Snapshot
from stack.errors import NotHealthyError

pytestmark = pytest.mark.stack

LIMITED = {"defaults": {"member": {"daily": {"hard": 60}}}}
SUBCLASS = """
from owui_budget_hooks.callback import BudgetCallback

class Ours(BudgetCallback):
    pass

budget = Ours()
"""


@dataclass
class Proxies:
    """All processes of this file, started side by side: each takes seconds of CPU to import LiteLLM."""

    bare: Bare
    ledger: str
    """The SQLite file of `sqlite`."""
    kept: Path
    """The spool's folder of `no_database`."""
    sqlite: BareProxy
    second: BareProxy
    """On the same file as `sqlite`."""
    misspelt: BareProxy
    no_schema: BareProxy
    newer_schema: BareProxy
    no_database: BareProxy
    internal_user: BareProxy
    subclass: BareProxy

    def token(self, user_id: str) -> str:
        return self.bare.token(user_id)

    def spooled(self, user_id: str) -> list[str]:
        def lines() -> list[str]:
            return [line for path in self.kept.glob("usage-*.jsonl") for line in path.read_text().splitlines()]

        return [line for line in eventually(lines, lambda found: len(found) > 0) if user_id in line]


@pytest.fixture(scope="module")
def nowhere() -> str:
    """A database that nothing listens for."""
    return "postgresql://owui_budget_hooks:pw@127.0.0.1:9/litellm"


@pytest.fixture(scope="module")
def proxies(
    bare: Bare, tmp_path_factory: pytest.TempPathFactory, postgres: Postgres, nowhere: str
) -> Iterator[Proxies]:
    folder: Path = tmp_path_factory.mktemp("start")
    ledger = f"sqlite:///{folder / 'ledger.db'}"
    (folder / "modules").mkdir()
    (folder / "modules" / "subclassed.py").write_text(SUBCLASS, encoding="utf-8")
    kept = folder / "kept"
    groups = {"g-small": 0, "g-roomy": 10**9}
    limits = {
        group: parse_limits({"version": 1, "priority": 1, "member": {"daily": {"hard": hard}}, "pool": None})
        for group, hard in groups.items()
    }
    snapshot = Snapshot(7, {group: Group(group, "Kept on disk", None, each) for group, each in limits.items()})
    save_snapshot(kept / "policy.json", snapshot)
    mapping = {"user_header_mappings": [{"header_name": "X-User", "litellm_user_role": "internal_user"}]}
    future = f"sqlite:///{folder / 'future.db'}"
    engine = make_engine(LedgerSettings(database_url=SecretStr(future)))
    migrate.upgrade(engine)
    with engine.begin() as connection:
        version = sa.table(migrate.VERSION_TABLE, sa.column("version_num"))
        connection.execute(sa.update(version).values(version_num="9999_future"))
    engine.dispose()
    with postgres.database("template0") as empty:
        sqlite = bare.start(ledger=ledger, limits=LIMITED)
        others = {
            "misspelt": bare.start(environment={"OWUI_BUDGET_CONECTION_KEYS": "sk-x"}),
            "no_schema": bare.start(ledger=empty),
            "newer_schema": bare.start(ledger=future),
            "no_database": bare.start(ledger=nowhere, spool=kept),
            "internal_user": bare.start(config=bare.config(general_settings=mapping)),
            "subclass": bare.start(
                config=bare.config(litellm_settings={"callbacks": ["subclassed.budget"]}),
                environment={"PYTHONPATH": str(folder / "modules")},
            ),
        }
        sqlite.wait()
        second = bare.start(ledger=ledger)
        yield Proxies(bare=bare, ledger=ledger, kept=kept, sqlite=sqlite, second=second, **others)


@pytest.fixture
def user(bare: Bare) -> str:
    return bare.token("user-of-sqlite")


def refusal_of(proxy: BareProxy) -> str:
    with pytest.raises(NotHealthyError) as refused:
        proxy.wait()
    assert "the process ended" in str(refused.value)
    return proxy.log


def test_a_second_process_on_the_same_sqlite_file_does_not_start_and_says_so(proxies: Proxies) -> None:
    log = refusal_of(proxies.second)
    assert "already serves the ledger" in log
    assert "SQLite serves one LiteLLM process. Run one worker, or set OWUI_BUDGET_DATABASE_URL" in log


def test_sqlite_is_a_whole_ledger_for_one_litellm_without_any_database(proxies: Proxies, user: str) -> None:
    proxy = proxies.sqlite.wait()
    first = proxy.chat(user, "[[sim tokens=30]] hi")
    assert first.status_code == 200, first.text
    assert first.headers["x-budget-status"] == "ok"
    engine = make_engine(LedgerSettings(database_url=SecretStr(proxies.ledger)))

    def events() -> list[dict[str, object]]:
        with engine.connect() as connection:
            return [dict(row) for row in connection.execute(sa.select(usage_events)).mappings()]

    assert len(eventually(events, lambda rows: len(rows) == 1)) == 1
    assert proxy.chat(user, "[[sim tokens=40]] hi", stream=True).text.rstrip().endswith("[DONE]")
    eventually(events, lambda rows: len(rows) == 2)
    refused = proxy.chat(user)
    assert refused.status_code == 429
    assert refused.json()["error"]["code"] == "budget_exceeded"
    assert refused.json()["error"]["budget"]["limit"] == 60

    other = "another-user-of-sqlite"
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(proxy.chat, proxies.token(other), "[[sim tokens=9 first=2]] hi")

        def held() -> int:
            with engine.connect() as connection:
                query = sa.select(counters.c.daily_held).where(counters.c.key == f"user:{other}")
                return connection.execute(query).scalar() or 0

        assert eventually(held, lambda tokens: tokens > 0) > 0
        proxy.stop()
        assert running.result(60).status_code == 200
    assert [row["completion"] for row in events()] == [30, 40, 9]
    assert {row["user_id"] for row in events()} == {"user-of-sqlite", other}
    assert held() == 0
    assert list(audit.verify(engine)) == []
    engine.dispose()


def test_a_misspelt_setting_is_refused_with_the_name_that_was_meant(proxies: Proxies) -> None:
    log = refusal_of(proxies.misspelt)
    assert "OWUI_BUDGET_CONECTION_KEYS: unknown name; did you mean OWUI_BUDGET_CONNECTION_KEYS?" in log
    assert "sk-x" not in log


def test_a_database_without_our_tables_is_refused_with_the_way_out(proxies: Proxies) -> None:
    log = refusal_of(proxies.no_schema)
    assert "the database has no owui-budget tables yet; run `owui-budget db upgrade`" in log


def test_a_schema_that_is_not_ours_is_refused_with_the_way_out(proxies: Proxies) -> None:
    log = refusal_of(proxies.newer_schema)
    assert "the database schema is 9999_future, which this version does not know" in log
    assert "install the newer owui-budget again" in log


def test_without_its_database_it_starts_with_the_limits_it_kept_on_disk(proxies: Proxies, user: str) -> None:
    proxy = proxies.no_database.wait()
    assert "the ledger cannot be opened yet" in proxy.log
    assert "the policy cannot be read: using revision 7" in proxy.log
    admitted = proxy.chat(user)
    assert admitted.status_code == 200, admitted.text
    blocked = proxy.chat(user, groups="g-small")
    assert blocked.status_code == 429, blocked.text
    assert blocked.json()["error"]["budget"]["group"] == "Kept on disk"
    batch = {"input_file_id": "file-1", "endpoint": "/v1/chat/completions", "completion_window": "24h"}
    refused = proxy.post("/v1/batches", user, batch, groups="g-roomy")
    assert refused.status_code == 400, refused.text
    assert "Batches cannot be counted" in refused.text
    assert len(proxies.spooled("user-of-sqlite")) == 1


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/v1/responses", "/v1/embeddings"])
@pytest.mark.parametrize(
    ("which", "reason"),
    [
        ("internal_user", "user_header_mappings maps a header to internal_user"),
        ("subclass", "LiteLLM skips hooks that a class inherits, and Ours inherits async_pre_call_hook"),
    ],
)
def test_wiring_that_makes_limits_worthless_refuses_every_call(
    proxies: Proxies, user: str, path: str, which: str, reason: str
) -> None:
    proxy: BareProxy = getattr(proxies, which).wait()
    model = "sim-embed" if path.endswith("embeddings") else "sim-gpt"
    messages = [{"role": "user", "content": "hi"}]
    answer = proxy.post(path, user, {"model": model, "messages": messages, "input": "hi"})
    assert answer.status_code == 503, answer.text
    assert reason in answer.json()["error"]["message"]
    assert int(answer.headers["retry-after"]) > 0
    assert f"every call is refused: {'general_settings.' if which == 'internal_user' else ''}{reason}" in proxy.log
