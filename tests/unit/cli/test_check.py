import copy
import hashlib
from collections.abc import Callable
from typing import Any

import httpx
import pytest
import respx
import sqlalchemy as sa

from owui_budget.database.tables import metadata
from owui_budget.limits_file import load_limits
from owui_budget_sync.checks.openwebui import HEADERS

from .conftest import EVIL, LITELLM, OWUI, Outcome, Run, World

KEY = "sk-connection-secret"
MASTER = "sk-master-secret"
SECRETS = (KEY, MASTER, "sk-admin-secret")

GOOD: dict[str, Any] = {
    "owui": {
        "/api/version": {"version": "0.12.4"},
        "/api/v1/auths/": {"id": "u-root", "role": "admin"},
        "/openai/config": {
            "ENABLE_OPENAI_API": True,
            "OPENAI_API_BASE_URLS": [f"{LITELLM}/v1"],
            "OPENAI_API_KEYS": [KEY],
            "OPENAI_API_CONFIGS": {"0": {"enable": True, "headers": dict(HEADERS)}},
        },
        "/ollama/config": {"ENABLE_OLLAMA_API": False},
        "/api/v1/configs/connections": {"ENABLE_DIRECT_CONNECTIONS": False},
        "/api/v1/audio/config": {
            "tts": {"ENGINE": "openai", "OPENAI_API_KEY": KEY},
            "stt": {"ENGINE": "", "OPENAI_API_KEY": ""},
            "realtime": {"ENABLED": False},
        },
        "/api/v1/images/config": {"ENABLE_IMAGE_GENERATION": False, "IMAGE_GENERATION_ENGINE": "openai"},
        "/api/v1/retrieval/embedding": {"RAG_EMBEDDING_ENGINE": "openai", "openai_config": {"key": KEY}},
        "/api/v1/functions/": [{"id": "owui_budget_trigger", "type": "event", "is_active": True}],
        "/api/v1/users/default/permissions": {"workspace": {"tools": False, "tools_import": False}},
    },
    "passthrough": (403, {"detail": "Direct API passthrough is disabled. Set …"}),
    "litellm": {
        "/health/readiness/details": {"litellm_version": "1.106.2", "db": "connected"},
        "/callbacks/list": {"success": [], "failure": [], "success_and_failure": ["BudgetCallback"]},
        "/config/field/info": {
            "field_value": [{"header_name": "X-OpenWebUI-User-Id", "litellm_user_role": "customer"}]
        },
        "/key/info": {"info": {"allowed_routes": ["/v1/chat/completions", "/models"], "blocked": None}},
    },
}


@pytest.fixture
def wired(bare: None, world: World, with_openwebui: None, monkeypatch: pytest.MonkeyPatch) -> World:
    """All settings are there, sync and a hook process are alive."""
    monkeypatch.setenv("OWUI_BUDGET_LITELLM_URL", LITELLM)
    monkeypatch.setenv("OWUI_BUDGET_LITELLM_MASTER_KEY", MASTER)
    monkeypatch.setenv("OWUI_BUDGET_CONNECTION_KEYS", KEY)
    monkeypatch.setattr("owui_budget_sync.openwebui.client.ATTEMPTS", 1)
    world.synced()
    world.beat(policy_revision=3, limits_digest=load_limits(world.limits_file).digest)
    return world


Check = Callable[..., Outcome]


@pytest.fixture
def check(cli: Run) -> Check:
    """`check` against both programs, which answer as in GOOD but for what `change` does to it."""

    def run_check(*options: str, change: Callable[[Any], Any] = lambda _: None) -> Outcome:
        answers = copy.deepcopy(GOOD)
        change(answers)
        with respx.mock(assert_all_called=False) as router:
            for path, body in answers["owui"].items():
                _answer(router.get(f"{OWUI}{path}"), body)
            status, body = answers["passthrough"]
            router.get(f"{OWUI}/openai/owui-budget-check").respond(status, json=body)
            for path, body in answers["litellm"].items():
                _answer(router.get(f"{LITELLM}{path}"), body)
            done = cli("check", *options)
        assert not any(secret in done.out + done.err for secret in SECRETS)
        return done

    return run_check


def _answer(route: respx.Route, body: Any) -> None:
    if isinstance(body, Exception):
        route.mock(side_effect=body)
    elif isinstance(body, httpx.Response):
        route.mock(return_value=body)
    else:
        route.respond(200, json=body)


def amiss(done: Outcome) -> list[tuple[str, str, str]]:
    """Area, severity and what of each finding that is not well."""
    return [
        (each["area"], each["severity"], each["what"]) for each in done.json["findings"] if each["severity"] != "ok"
    ]


def test_all_is_well(check: Check, wired: World) -> None:
    done = check("--json")
    assert amiss(done) == []
    assert done.code == 0
    assert done.json["counts"] == {"error": 0, "warning": 0, "skipped": 0, "ok": len(done.json["findings"])}
    assert check().out == f"{done.json['counts']['ok']} well, 0 warnings, 0 errors, 0 could not be looked at\n"
    assert "✓ ok in LiteLLM: version 1.106.2" in check("--verbose").out


# --- one thing amiss at a time: what is changed, and the one finding


def put(*path: Any) -> Callable[[Any], Callable[[Any], None]]:
    """`put("owui", "/api/version", "version")(value)`: a change of GOOD."""

    def to(value: Any) -> Callable[[Any], None]:
        def change(answers: Any) -> None:
            place = answers
            for name in path[:-1]:
                place = place[name]
            place[path[-1]] = value

        return change

    return to


openai, audio = ("owui", "/openai/config"), ("owui", "/api/v1/audio/config")
images, key = ("owui", "/api/v1/images/config"), ("litellm", "/key/info", "info")
headers = (*openai, "OPENAI_API_CONFIGS", "0", "headers")

AMISS = [
    # Open WebUI
    (put("owui", "/api/version", "version")("0.13.0"), "warning", "Open WebUI is 0.13.0; this release was made for 0.12.x"),
    (put("owui", "/api/v1/auths/", "role")("user"), "error", "the account that sync uses has the role user"),
    (put("owui", "/api/version")(httpx.ConnectError("x")), "error", "did not answer GET /api/version: ConnectError"),
    (put("owui", "/api/v1/auths/")(httpx.Response(401)), "error", "OWUI_BUDGET_OPENWEBUI_API_KEY is no admin's"),
    (put("owui", "/ollama/config")(httpx.Response(500)), "skipped", "/ollama/config"),
    (put("owui", "/ollama/config")("nonsense"), "skipped", "/ollama/config"),
    (put(*openai, "ENABLE_OPENAI_API")(False), "error", "the OpenAI API is switched off in Open WebUI"),
    (put(*openai, "OPENAI_API_KEYS")(["sk-other"]), "error", "leads to LiteLLM with a key that is not in OWUI_BUDGET_CONNEC"),
    (put(*headers, "X-OpenWebUI-Task")(""), "warning", "sends '' as the header X-OpenWebUI-Task"),
    (put(*headers, "X-OpenWebUI-Group-Ids")("{{USER_GROUPS}}"), "error", "sends '{{USER_GROUPS}}' as the header X-OpenWebUI-Gr"),
    (put(*headers)({k.lower(): v for k, v in HEADERS.items() if "Chat" not in k}), "warning", "does not send the header X-OpenWebUI-Chat-Id"),
    (put(*openai, "OPENAI_API_BASE_URLS")(["http://elsewhere:4000/v1"]), "skipped", "names another address than sync does"),
    (put("owui", "/ollama/config", "ENABLE_OLLAMA_API")(True), "error", "the Ollama API is on"),
    (put("owui", "/api/v1/configs/connections", "ENABLE_DIRECT_CONNECTIONS")(True), "warning", "users may add direct connections"),
    (put(*audio, "tts", "OPENAI_API_KEY")("sk-else"), "warning", "speech output does not go through LiteLLM"),
    (put(*audio, "stt", "ENGINE")("deepgram"), "warning", "speech recognition does not go through LiteLLM"),
    (put(*audio, "realtime", "ENABLED")(True), "warning", "realtime voice calls do not go through LiteLLM"),
    (put(*images)({"ENABLE_IMAGE_GENERATION": True, "IMAGE_GENERATION_ENGINE": "openai"}), "warning", "image generation does not go"),
    (put(*images)({"ENABLE_IMAGE_EDIT": True, "IMAGE_EDIT_ENGINE": "gemini"}), "warning", "image editing does not go"),
    (put("owui", "/api/v1/retrieval/embedding", "RAG_EMBEDDING_ENGINE")("ollama"), "warning", "embedding of documents does not go"),
    (put("owui", "/api/v1/functions/")([*GOOD["owui"]["/api/v1/functions/"], {"id": "p", "type": "pipe", "name": EVIL, "is_active": True}]),
     "warning", "1 pipe functions are active: [bold red]x[/] gnp.exe second line"),
    (put("owui", "/api/v1/functions/")([]), "warning", "no event function tells sync of changes"),
    (put("owui", "/api/v1/users/default/permissions", "workspace", "tools")(True), "warning", "by default users may write or import tools"),
    (put("passthrough")((404, {"error": "no such page"})), "error", "the OpenAI passthrough is on"),
    # LiteLLM
    (put("litellm", "/health/readiness/details")(httpx.ConnectTimeout("x")), "error", f"LiteLLM at {LITELLM} does not answer: ConnectTimeout"),
    (put("litellm", "/health/readiness/details")(httpx.Response(401, json={})), "error", f"LiteLLM at {LITELLM} refuses the master key"),
    (put("litellm", "/health/readiness/details")(httpx.Response(200, text="<html>")), "error", "answered 200, and not as LiteLLM does"),
    (put("litellm", "/health/readiness/details", "litellm_version")("1.107.0"), "error", "LiteLLM is 1.107.0, a compromised release"),
    (put("litellm", "/health/readiness/details", "litellm_version")("1.107.1"), "warning", "LiteLLM is 1.107.1; this release was made for 1.106.x"),
    (put("litellm", "/health/readiness/details", "db")("Not connected"), "error", "LiteLLM's database is Not connected"),
    (put("litellm", "/callbacks/list", "success_and_failure")(["langfuse"]), "error", "the budget callback is not registered"),
    (put("litellm", "/config/field/info", "field_value")([{"header_name": "X-U", "litellm_user_role": "internal_user"}]),
     "error", "user_header_mappings maps the header X-U to internal_user"),
    (put("litellm", "/config/field/info")(httpx.Response(400, json={"detail": {"error": "not set"}})), "warning", "names no customer header"),
    (put("litellm", "/key/info")(httpx.Response(404, json={})), "error", "LiteLLM does not know connection key 1 (hash "),
    (put(*key, "blocked")(True), "error", "is blocked"),
    (put(*key, "allowed_routes")([]), "warning", "may call any route"),
    (put(*key, "allowed_routes")(["llm_api_routes"]), "warning", "may call llm_api_routes"),
    (put(*key, "allowed_routes")(["/models", "management_routes"]), "warning", "may call /models, management_routes"),
]  # fmt: skip


@pytest.mark.parametrize(("change", "severity", "what"), AMISS, ids=[f"{each[1]} {each[2][:40]}" for each in AMISS])
def test_one_thing_amiss(check: Check, wired: World, change: Any, severity: str, what: str) -> None:
    done = check("--json", change=change)
    found = [each for each in amiss(done) if "no connection of Open WebUI uses" not in each[2]]
    assert len(found) == 1, found
    assert found[0][1] == severity
    assert what in found[0][2]
    assert done.code == (0 if severity == "skipped" else 2)
    [finding] = [each for each in done.json["findings"] if each["what"] == found[0][2]]
    assert finding["why"]
    assert finding["fix"] or severity == "skipped"


def test_a_second_connection_goes_round_litellm(check: Check, wired: World) -> None:
    def change(answers: Any) -> None:
        config = answers["owui"]["/openai/config"]
        config["OPENAI_API_BASE_URLS"] += ["https://user:pass@api.openai.com/v1", "https://off.example/v1"]
        config["OPENAI_API_KEYS"] += ["sk-openai"]
        config["OPENAI_API_CONFIGS"]["2"] = {"enable": False}

    [found] = amiss(check("--json", change=change))
    assert found == (
        "Open WebUI", "error", "connection 2 (https://api.openai.com/v1) does not lead through LiteLLM",
    )  # fmt: skip


def test_the_key_is_looked_up_by_its_hash(wired: World, cli: Run) -> None:
    """Addresses end up in access logs."""
    asked: list[httpx.Request] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        return httpx.Response(200, json=GOOD["litellm"]["/key/info"])

    with respx.mock(assert_all_called=False) as router:
        for path, body in GOOD["litellm"].items():
            router.get(f"{LITELLM}{path}").respond(200, json=body)
        router.get(f"{LITELLM}/key/info").mock(side_effect=answer)
        router.get(url__startswith=OWUI).respond(503)
        cli("check")
    assert [request.url.params["key"] for request in asked] == [hashlib.sha256(KEY.encode()).hexdigest()]


def test_the_text_names_why_and_fix(check: Check, wired: World) -> None:
    lines = check(change=put("owui", "/ollama/config", "ENABLE_OLLAMA_API")(True)).out.splitlines()
    assert lines == [
        "✗ error in Open WebUI: the Ollama API is on",
        "    why: Ollama's models are reached directly: what it takes is neither counted nor limited",
        "    fix: ENABLE_OLLAMA_API=false; put Ollama behind LiteLLM (model: ollama_chat/…)",
        lines[-1],
    ]


# --- settings


def test_every_mistake_of_the_settings_at_once(check: Check, wired: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_LITELM_URL", "x")
    monkeypatch.setenv("OWUI_BUDGET_SERVICE_PORT", "70000")
    wired.policy({"timezone": "CEST", "lease": 5})
    done = check("--json")
    assert done.code == 2
    assert [what for _, _, what in amiss(done)] == [
        "OWUI_BUDGET_LITELM_URL: unknown name; did you mean OWUI_BUDGET_LITELLM_URL?",
        "OWUI_BUDGET_SERVICE_PORT: Input should be less than or equal to 65535",
    ]
    monkeypatch.delenv("OWUI_BUDGET_SERVICE_PORT")
    found = [what for _, _, what in amiss(check("--json"))]
    assert found == [
        "OWUI_BUDGET_LITELM_URL: unknown name; did you mean OWUI_BUDGET_LITELLM_URL?",
        "limits.yaml: timezone: 'CEST' is no IANA time zone; use a name like Europe/Berlin or UTC",
        "limits.yaml: lease: Input should be greater than or equal to 10",
    ]


def test_a_limits_file_that_is_missing(check: Check, wired: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_LIMITS_FILE", "gone.yaml")
    [found] = amiss(check("--json"))
    assert found[2].startswith("gone.yaml: cannot read gone.yaml: No such file or directory")


def test_keys_that_are_missing_or_too_mighty(check: Check, wired: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_CONNECTION_KEYS", MASTER)
    assert ("settings", "error", "OWUI_BUDGET_CONNECTION_KEYS holds LiteLLM's master key") in amiss(check("--json"))
    monkeypatch.delenv("OWUI_BUDGET_CONNECTION_KEYS")
    assert ("settings", "error", "OWUI_BUDGET_CONNECTION_KEYS is not set") in amiss(check("--json"))


def test_what_is_not_set_cannot_be_looked_at(cli: Run, world: World) -> None:
    world.synced()
    done = cli("check", "--json")
    skipped = [(area, what) for area, severity, what in amiss(done) if severity == "skipped"]
    assert skipped == [("LiteLLM", "its configuration"), ("Open WebUI", "its configuration")]


# --- database, hooks, sync, groups


def test_no_database(check: Check, wired: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", "sqlite:///none.db")
    [found] = amiss(check("--json"))
    assert found[:2] == ("database", "error")
    assert "there is no ledger at none.db" in found[2]
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", "postgresql://user:pw-secret@127.0.0.1:1/none")
    done = check("--json")
    [found] = amiss(done)
    assert found[2].startswith("the database cannot be reached")
    assert "pw-secret" not in done.out


def test_no_schema_and_a_strange_one(check: Check, wired: World) -> None:
    wired.execute(sa.text("DROP INDEX ix_usage_events_at"))
    [found] = amiss(check("--json"))
    assert found == ("database", "warning", "1 differences between the database's tables and this version's")
    metadata.drop_all(wired.engine)
    wired.execute(sa.text("DROP TABLE owui_budget_version"))
    [found] = amiss(check("--json"))
    assert found[2] == "the database has no owui-budget tables yet; run `owui-budget db upgrade`"


@pytest.mark.parametrize(
    ("beat", "severity", "what"),
    [
        ({"version": "0.0.9"}, "warning", "box:77 runs version 0.0.9, this command is 0.1.0"),
        ({"limits_digest": "other"}, "error", "box:77 reads another limits.yaml than this command"),
        ({"policy_revision": -1}, "error", "box:77 has not read the policy yet"),
        ({"spool_depth": 3}, "warning", "box:77 keeps 3 records in its spool"),
        ({"open_since": 1_784_548_680.0}, "error", "box:77 has admitted without the ledger for 2 min"),
        ({"problems": ("a header is forged",)}, "error", "box:77 refuses every call: a header is forged"),
        ({"seen_at": 1_784_540_000.0}, "error", "no LiteLLM process with the budget hooks is alive"),
    ],
)
def test_hooks_amiss(check: Check, wired: World, beat: dict[str, Any], severity: str, what: str) -> None:
    wired.beat(**{"policy_revision": 3, "limits_digest": load_limits(wired.limits_file).digest, **beat})
    assert amiss(check("--json")) == [("hooks", severity, what)]


def test_sync_and_groups_amiss(check: Check, wired: World) -> None:
    wired.synced(last_success_at=1_784_548_000.0, last_error="503", problems=["a customer is strange"])
    wired.group("g-plain", "Plain", problem="version is missing")
    wired.beat(policy_revision=4, limits_digest=load_limits(wired.limits_file).digest)
    found = check("--json")
    assert [each for each in amiss(found) if each[0] in ("sync", "groups")] == [
        ("groups", "error", "group Plain (g-plain): version is missing"),
        ("sync", "error", "sync last succeeded 13 min ago"),
        ("sync", "error", "the last sync failed: 503"),
        ("sync", "warning", "a customer is strange"),
    ]


def test_a_zone_and_a_clock_that_are_off(check: Check, wired: World) -> None:
    wired.policy({"timezone": "Europe/Berlin"})
    wired.move_clock(3_600)
    wired.beat(policy_revision=3, limits_digest=load_limits(wired.limits_file).digest)
    assert amiss(check("--json")) == [
        ("database", "warning", "the test clock is on, 1 h off the machine's"),
        ("database", "warning", "the ledger counts by UTC, limits.yaml says Europe/Berlin"),
    ]


def test_the_role_on_postgresql(check: Check, wired: World, postgres_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", postgres_url)
    found = [each for each in amiss(check("--json")) if each[0] == "database"]
    assert found == [("database", "warning", "the database role is a superuser")]
