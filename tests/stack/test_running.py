"""The stack itself on the real programs, LiteLLM without our hooks: what other tests build on."""

import time
from collections.abc import Iterator
from pathlib import Path

import httpx
import psycopg
import pytest
import yaml

import stack
from stack.state import ROOT

pytestmark = pytest.mark.stack


@pytest.fixture(scope="module")
def bare_config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("proxy_config")
    config = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text())
    del config["litellm_settings"]["callbacks"]
    (folder / "config.yaml").write_text(yaml.safe_dump(config))
    (folder / "limits.yaml").write_text("timezone: UTC\n")
    return folder


@pytest.fixture(scope="module")
def proxies(tmp_path_factory: pytest.TempPathFactory, bare_config: Path) -> Iterator[stack.Stack]:
    with stack.running(
        tmp_path_factory.mktemp("stack"),
        services=("postgres", "provider", "litellm"),
        mounts={"./proxy_config": bare_config},
        overrides={"litellm": {"LITELLM_WORKER_STARTUP_HOOKS": None}},
        litellm=2,
    ) as running:
        yield running


def complete(url: str, key: str, model: str = "sim-gpt") -> httpx.Response:
    body = {"model": model, "messages": [{"role": "user", "content": "[[sim tokens=5]] hi"}]}
    headers = {"Authorization": f"Bearer {key}"}
    return httpx.post(f"{url}/v1/chat/completions", json=body, headers=headers, timeout=60)


def admin(proxies: stack.Stack, method: str, path: str, **content: object) -> httpx.Response:
    litellm = proxies.endpoints.litellm
    headers = {"Authorization": f"Bearer {litellm.master_key}"}
    return httpx.request(method, f"{litellm.url}{path}", headers=headers, timeout=60, **content)  # type: ignore[arg-type]


def test_every_proxy_process_answers_on_open_webuis_key(proxies: stack.Stack) -> None:
    litellm = proxies.endpoints.litellm
    assert len(litellm.urls) == 2
    for url in litellm.urls:
        answer = complete(url, litellm.openwebui_key)
        assert answer.json()["usage"]["completion_tokens"] == 5, answer.text


@pytest.mark.parametrize("model", ["sim-gpt-mini", "sim-free", "sim-claude", "sim-gpt@tokens=5"])
def test_every_chat_model_is_wired(proxies: stack.Stack, model: str) -> None:
    litellm = proxies.endpoints.litellm
    answer = complete(litellm.url, litellm.openwebui_key, model)
    assert answer.json()["usage"]["completion_tokens"] == 5, answer.text


@pytest.mark.parametrize(
    ("route", "body"),
    [
        ("completions", {"model": "sim-gpt", "prompt": "hi"}),
        ("responses", {"model": "sim-gpt", "input": "hi"}),
        ("messages", {"model": "sim-claude", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 5}),
        ("embeddings", {"model": "sim-embed", "input": "hi"}),
        ("images/generations", {"model": "sim-image", "prompt": "hi"}),
        ("audio/speech", {"model": "sim-tts", "input": "hi", "voice": "alloy"}),
        ("rerank", {"model": "sim-rerank", "query": "hi", "documents": ["hi", "ho"]}),
        ("moderations", {"model": "sim-moderation", "input": "hi"}),
    ],
)
def test_every_route_is_wired(proxies: stack.Stack, route: str, body: dict[str, object]) -> None:
    answer = admin(proxies, "POST", f"/v1/{route}", json=body)
    assert answer.status_code == 200, answer.text


def test_transcriptions_and_edits_are_wired(proxies: stack.Stack) -> None:
    sound = admin(proxies, "POST", "/v1/audio/speech", json={"model": "sim-tts", "input": "hi", "voice": "alloy"})
    files = {"file": ("a.wav", sound.content, "audio/wav")}
    answer = admin(proxies, "POST", "/v1/audio/transcriptions", data={"model": "sim-stt"}, files=files)
    assert answer.status_code == 200, answer.text
    assert "simulated" in answer.json()["text"]
    image = {"image": ("a.png", b"\x89PNG\r\n\x1a\n", "image/png")}
    answer = admin(proxies, "POST", "/v1/images/edits", data={"model": "sim-image", "prompt": "hi"}, files=image)
    assert answer.status_code == 200, answer.text


def test_litellms_database_keeps_what_it_is_given(proxies: stack.Stack) -> None:
    """Types, relations and JSON survive the way through the query engine."""
    metadata = {"owui_budget": {"group": "g-1", "limits": {"daily": 1000}, "note": 'quo"te, ünïcode, {braces}'}}
    team = {"team_id": "owui-g-1", "team_alias": "Staff", "metadata": metadata, "members_with_roles": []}
    assert admin(proxies, "POST", "/team/new", json=team).status_code == 200
    found = admin(proxies, "GET", "/team/info", params={"team_id": "owui-g-1"}).json()["team_info"]
    assert found["metadata"]["owui_budget"] == metadata["owui_budget"]
    assert admin(proxies, "POST", "/team/update", json={"team_id": "owui-g-1", "team_alias": "All"}).status_code == 200
    found = admin(proxies, "GET", "/team/info", params={"team_id": "owui-g-1"}).json()["team_info"]
    assert found["team_alias"] == "All"
    budget = {"budget_id": "owui-g-1", "budget_duration": "1d", "tpd_limit": 10**12}
    assert admin(proxies, "POST", "/budget/new", json=budget).json()["tpd_limit"] == 10**12
    customer = {"user_id": "u-1", "alias": "Alice", "budget_id": "owui-g-1"}
    assert admin(proxies, "POST", "/customer/new", json=customer).status_code == 200
    listed = admin(proxies, "GET", "/customer/list").json()
    assert [(one["user_id"], one["litellm_budget_table"]["tpd_limit"]) for one in listed] == [("u-1", 10**12)]
    key = admin(proxies, "POST", "/key/generate", json={"team_id": "owui-g-1"}).json()["key"]
    assert complete(proxies.endpoints.litellm.url, key).status_code == 200


def test_litellm_makes_its_spend_views(proxies: stack.Stack) -> None:
    """It asks PostgreSQL's catalogs, whose types Prisma's adapter alone would refuse."""
    deadline = time.monotonic() + 60
    with psycopg.connect(proxies.environment("litellm")["DATABASE_URL"], autocommit=True) as connection:
        while True:
            found = {
                name for (name,) in connection.execute("SELECT viewname FROM pg_views WHERE schemaname = 'public'")
            }
            if {"MonthlyGlobalSpend", "Last30dTopEndUsersSpend", "DailyTagSpend"} <= found:
                break
            assert time.monotonic() < deadline, proxies.log("litellm").read_text()[-2000:]
            time.sleep(0.5)


def test_a_process_is_killed_and_comes_back(proxies: stack.Stack) -> None:
    litellm, first = proxies.endpoints.litellm, proxies.pid("litellm")
    proxies.kill("litellm-2")
    assert proxies.pid("litellm-2") is None
    assert complete(litellm.urls[0], litellm.openwebui_key).status_code == 200
    proxies.start_one("litellm-2", {"LITELLM_LOG": "ERROR"})
    assert complete(litellm.urls[1], litellm.openwebui_key).status_code == 200
    assert proxies.pid("litellm") == first


def test_roles_may_do_what_they_must_and_no_more(proxies: stack.Stack) -> None:
    def connect(instance: str) -> "psycopg.Connection[tuple[object, ...]]":
        return psycopg.connect(proxies.environment(instance)["OWUI_BUDGET_DATABASE_URL"], autocommit=True)

    with connect("migrate") as owner, connect("litellm") as hooks, connect("sync") as sync:
        owner.execute("CREATE SCHEMA IF NOT EXISTS owui_budget")
        owner.execute("CREATE TABLE owui_budget.stack_test (id bigserial PRIMARY KEY, value int)")
        try:
            for role in (hooks, sync):
                role.execute("INSERT INTO owui_budget.stack_test (value) VALUES (1)")
                role.execute("UPDATE owui_budget.stack_test SET value = 2")
                for forbidden in (
                    "DROP TABLE owui_budget.stack_test",
                    "TRUNCATE owui_budget.stack_test",
                    "CREATE TABLE owui_budget.other (id int)",
                    "CREATE TABLE public.other (id int)",
                    'SELECT * FROM public."LiteLLM_VerificationToken"',
                ):
                    with pytest.raises(psycopg.errors.InsufficientPrivilege):
                        role.execute(forbidden)
        finally:
            owner.execute("DROP TABLE owui_budget.stack_test")


def test_nothing_listens_beyond_this_machine(proxies: stack.Stack) -> None:
    import psutil  # type: ignore[import-untyped]

    for instance in ("postgres", "provider", "litellm", "litellm-2"):
        pid = proxies.pid(instance)
        assert pid is not None
        family = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
        listening = {c.laddr.ip for p in family for c in p.net_connections("inet") if c.status == psutil.CONN_LISTEN}
        assert listening <= {"127.0.0.1", "::1"}, instance
        assert listening


def test_data_survive_a_stop_of_everything(proxies: stack.Stack) -> None:
    admin(proxies, "POST", "/budget/new", json={"budget_id": "stays", "max_budget": 1.5})
    proxies.stop_all()
    proxies.start()
    budgets = admin(proxies, "POST", "/budget/info", json={"budgets": ["stays"]}).json()
    assert [budget["max_budget"] for budget in budgets] == [1.5]
