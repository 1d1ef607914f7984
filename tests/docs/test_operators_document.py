"""docs/operators.md: its SQL works on a real PostgreSQL, its names are the programs' own."""

import json
import re
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest
import yaml
from docs.pages import ROOT, blocks, codes, rows, text_of
from prometheus_client import Counter
from prometheus_client.metrics import MetricWrapperBase
from pydantic import SecretStr
from support.postgres import Postgres

from owui_budget.config import LedgerSettings, known_names
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget_hooks import metrics
from owui_budget_sync.checks.openwebui import HEADERS
from owui_budget_sync.health import Metrics

TEXT = text_of("docs/operators.md")
ROLES = ("owui_budget_sync", "owui_budget_hooks", "owui_budget_owner")


@pytest.fixture
def prepared(postgres: Postgres) -> Iterator[str]:
    """A database on which the document's SQL has been run."""
    with postgres.database("template0") as url:
        name = re.search(r"/(test_\d+)\?", url)
        assert name is not None
        [sql] = blocks(TEXT, "sql")
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute(sql.replace("DATABASE litellm", f"DATABASE {name[1]}").encode())
            try:
                yield url
            finally:
                for role in ROLES:
                    connection.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}".encode())


def test_its_sql_gives_each_role_what_it_needs_and_no_more(prepared: str) -> None:
    with psycopg.connect(prepared, autocommit=True) as connection:
        connection.execute("CREATE TABLE public.theirs (id int)")
    engine = make_engine(LedgerSettings(database_url=SecretStr(_as(prepared, "owui_budget_owner"))))
    migrate.upgrade(engine)
    engine.dispose()
    for role in ("owui_budget_hooks", "owui_budget_sync"):
        engine = make_engine(LedgerSettings(database_url=SecretStr(_as(prepared, role))))
        migrate.check(engine)
        engine.dispose()
        with psycopg.connect(prepared, autocommit=True) as connection:
            connection.execute(f"SET ROLE {role}".encode())
            connection.execute("UPDATE owui_budget.meta SET revision = revision + 1")
            connection.execute("DELETE FROM owui_budget.notices")
            for forbidden in (
                "DROP TABLE owui_budget.meta",
                "ALTER TABLE owui_budget.meta ADD x int",
                "CREATE TABLE owui_budget.mine (id int)",
                "SELECT * FROM public.theirs",
            ):
                with pytest.raises(psycopg.errors.InsufficientPrivilege):
                    connection.execute(forbidden.encode())


def _as(url: str, role: str) -> str:
    """The same database as another role; the test server trusts its socket."""
    return re.sub(r"//[^@/]*@", f"//{role}:@", url, count=1)


def test_its_variables_exist() -> None:
    named = set(re.findall(r"OWUI_BUDGET_[A-Z_]+", TEXT))
    assert named <= known_names()
    compose = (ROOT / "docker-compose.yml").read_text(encoding="utf-8")
    others = set(re.findall(r"\b((?:ENABLE|USER_PERMISSIONS|FORWARD|LITELLM_WORKER)_[A-Z_]+)", TEXT))
    assert {name for name in others if name not in compose} == set()


def test_its_litellm_configuration_is_that_of_the_stack() -> None:
    shipped = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text(encoding="utf-8"))
    [shown] = blocks(TEXT, "yaml")
    for part, settings in yaml.safe_load(shown).items():
        for name, value in settings.items():
            assert shipped[part][name] == value


def test_its_connection_headers_are_those_of_the_stack() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))
    options = json.loads(compose["services"]["openwebui"]["environment"]["OPENAI_API_CONFIGS"])
    [shown] = blocks(TEXT, "json")
    assert json.loads(shown) == options["0"]["headers"]
    assert json.loads(shown).items() >= HEADERS.items()


def _documented(header: str) -> set[str]:
    return {name for row in rows(TEXT, header) for name in codes(row[0])}


def test_every_metric_of_the_hooks_is_documented() -> None:
    used = "\n".join(path.read_text(encoding="utf-8") for path in Path(metrics.__file__).parent.glob("*.py"))
    # A metric that nothing feeds is always 0: it is left out until something does.
    fed = {name for name in vars(metrics) if re.search(rf"metrics\.{name}\b", used)}
    assert _documented("| metric of LiteLLM") == {_exposed(getattr(metrics, name)) for name in fed}


def test_every_metric_of_sync_is_documented() -> None:
    made = {_exposed(each) for each in vars(Metrics()).values() if isinstance(each, MetricWrapperBase)}
    assert _documented("| metric of sync") == made


def _exposed(metric: MetricWrapperBase) -> str:
    name: str = metric._name  # type: ignore[attr-defined]  # the client library has no public name
    return f"{name}_total" if isinstance(metric, Counter) else name
