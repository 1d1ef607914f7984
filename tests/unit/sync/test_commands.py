"""`plan`, `apply` and `openwebui` on a fake Open WebUI and a fake LiteLLM: output, exit codes, the way out."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx
from click.testing import Result
from support.fake_litellm import MASTER_KEY, FakeLitellm
from support.fake_openwebui import API_KEY, FakeOpenWebui
from typer.testing import CliRunner

from owui_budget_sync.cli import app

DAILY = {"version": 1, "priority": 20, "member": {"daily": {"soft": 80, "hard": 100}}}


class Desk:
    def __init__(self, openwebui: FakeOpenWebui, litellm: FakeLitellm) -> None:
        self.openwebui = openwebui
        self.litellm = litellm

    def run(self, *arguments: str, code: int = 0) -> Result:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code == code, (result.output, result.exception)
        return result

    def json(self, *arguments: str, code: int = 0) -> Any:
        return json.loads(self.run(*arguments, "--json", code=code).stdout)


@pytest.fixture
def desk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, openwebui: FakeOpenWebui, litellm: FakeLitellm
) -> Iterator[Desk]:
    values = {
        "DATABASE_URL": f"sqlite:///{tmp_path}/ledger.db",
        "OPENWEBUI_URL": "http://openwebui",
        "OPENWEBUI_API_KEY": API_KEY,
        "LITELLM_URL": "http://litellm",
        "LITELLM_MASTER_KEY": MASTER_KEY,
        "CONNECTION_KEYS": f"sk-connection-1,{MASTER_KEY}",
    }
    for name, value in values.items():
        monkeypatch.setenv(f"OWUI_BUDGET_{name}", value)
    for number in range(12):
        openwebui.user(f"u{number}", f"User {number}")
    openwebui.group("g1", "Students", DAILY, members=[f"u{number}" for number in range(12)])
    openwebui.group("g2", "Staff", {"version": 1, "priority": "high"})
    with respx.mock(assert_all_called=False) as router:
        router.route(host="openwebui").mock(side_effect=openwebui)
        router.route(host="litellm").mock(side_effect=litellm)
        made = Desk(openwebui, litellm)
        made.run("db", "upgrade")
        made.run("db", "check")
        yield made


def test_plan_shows_everything_and_changes_nothing(desk: Desk) -> None:
    text = desk.run("plan", code=2).stdout
    assert "+ Students (g1): limits priority 20, member daily 80/100" in text
    assert "group Staff (g2) has limits that cannot be used: priority must be a whole number" in text
    assert "it carries no limits until they are mended" in text
    assert not any(each.startswith(("POST /team", "POST /customer")) for each in desk.litellm.requests)
    assert desk.json("plan", code=2)["would_change"] is True


def test_the_second_plan_is_empty(desk: Desk) -> None:
    desk.run("apply")
    assert desk.litellm.teams.keys() == {"owui-g1"}
    assert len(desk.litellm.customers) == 12
    assert len(desk.litellm.keys) == 1
    document = desk.json("plan")
    assert (document["would_change"], document["changes"]) == (False, [])
    assert [note["kind"] for note in document["notes"]] == ["limits"]
    assert "Nothing would change." in desk.run("plan").stdout
    assert desk.run("plan", "--format", "markdown").stdout.startswith("**Nothing would change.**")


def test_every_format_says_the_same(desk: Desk) -> None:
    document = desk.json("plan", code=2)
    text = desk.run("plan", code=2).stdout
    markdown = desk.run("plan", "--format", "markdown", code=2).stdout
    assert document["summary"] in text
    assert document["summary"] in markdown
    kinds = {change["kind"] for change in document["changes"]}
    assert kinds == {"user", "group", "members", "LiteLLM key", "LiteLLM budget", "LiteLLM team", "LiteLLM customer"}
    for change in document["changes"]:
        assert change["name"] in text
        assert change["name"] in markdown


def test_an_unsafe_plan_names_the_way_out(desk: Desk) -> None:
    desk.run("apply")
    desk.openwebui.members["g1"] = ["u0"]
    refused = desk.run("apply", code=1)
    assert "11 of 12 memberships (91 %, allowed are 30 %)" in refused.stderr
    assert "warning" in desk.run("plan", code=2).stderr
    digest = desk.json("plan", code=2)["digest"]
    assert f"apply --accept {digest}" in refused.stderr
    assert len(desk.litellm.customers) == 12
    desk.run("apply", "--accept", "000000000000", code=1)
    desk.run("apply", "--accept", digest)
    assert desk.json("plan")["changes"] == []


def test_an_empty_open_webui_is_not_believed(desk: Desk) -> None:
    desk.run("apply")
    desk.openwebui.groups.clear()
    assert "all 2 groups" in desk.run("apply", code=1).stderr


def test_prune_deletes_what_was_only_retired(desk: Desk) -> None:
    desk.run("apply")
    desk.openwebui.groups["g1"]["data"]["usage_limits"] = None
    desk.run("apply")
    assert desk.litellm.teams["owui-g1"]["metadata"]["owui_budget"]["retired"] is True
    desk.run("plan")
    assert {change["action"] for change in desk.json("plan", "--prune", code=2)["changes"]} == {"remove"}
    desk.run("apply", "--prune")
    assert desk.litellm.teams == {}
    assert desk.litellm.customers == {}


def test_trouble_is_one_clear_message(desk: Desk) -> None:
    desk.openwebui.fail = lambda _: httpx.Response(401, json={"detail": "expired"})
    assert "OWUI_BUDGET_OPENWEBUI_API_KEY is no admin's, was deleted or has expired" in desk.run("plan", code=1).stderr
    desk.openwebui.fail = lambda _: None
    desk.litellm.fail = lambda _: httpx.Response(500, text="secret stack trace")
    failed = desk.run("apply", code=1)
    assert failed.stderr.count("error:") == 1
    assert "LiteLLM at http://litellm answered GET /v2/team/list with 500" in failed.stderr
    assert MASTER_KEY not in failed.output
    desk.litellm.fail = lambda _: None
    desk.run("apply")
    assert desk.json("plan")["changes"] == []


def test_the_policy_is_written_even_if_litellm_then_refuses(desk: Desk) -> None:
    desk.litellm.fail = lambda request: httpx.Response(500) if request.url.path == "/team/new" else None
    desk.run("apply", code=1)
    left = {change["kind"] for change in desk.json("plan", code=2)["changes"]}
    assert left == {"LiteLLM team", "LiteLLM customer"}


def test_without_litellm_the_policy_alone_is_synced(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OWUI_BUDGET_LITELLM_URL")
    desk.run("apply")
    assert desk.json("plan")["changes"] == []
    assert desk.litellm.requests == []


def test_the_event_function_is_installed_and_deleted(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "OWUI_BUDGET_SERVICE_URL" in desk.run("openwebui", "install", code=1).stderr
    monkeypatch.setenv("OWUI_BUDGET_SERVICE_URL", "http://sync:8090/")
    monkeypatch.setenv("OWUI_BUDGET_TRIGGER_SECRET", "the-secret")
    assert len(desk.json("openwebui", "install", "--dry-run", code=2)["done"]) == 3
    assert desk.openwebui.functions == {}
    assert "done: switch it on" in desk.run("openwebui", "install").stdout
    assert desk.openwebui.valves["owui_budget_trigger"]["url"] == "http://sync:8090/trigger"
    assert "nothing to do" in desk.run("openwebui", "install").stdout
    assert "the-secret" not in desk.run("openwebui", "install", "--dry-run").output
    desk.run("openwebui", "uninstall", "--dry-run", code=2)
    desk.run("openwebui", "uninstall")
    assert desk.openwebui.functions == {}


def test_db_check_names_the_way_out(desk: Desk, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", f"sqlite:///{tmp_path}/other.db")
    for arguments in (["db", "check"], ["plan"]):
        assert "owui-budget db upgrade" in desk.run(*arguments, code=1).stderr
    assert not (tmp_path / "other.db").exists()
