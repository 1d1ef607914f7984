"""What a newcomer types: up, status, demo, budget, logs, down, clean."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from stack.state import ROOT

pytestmark = pytest.mark.stack


def command(folder: Path, name: str, *arguments: str, code: int = 0) -> str:
    argv = [sys.executable, "-m", "stack", name, "--state-dir", str(folder), *arguments]
    done = subprocess.run(  # noqa: S603 - our own command line
        argv, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=False, timeout=600
    )
    assert done.returncode == code, done.stdout
    return done.stdout


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("stack") / "state"
    try:
        yield folder
    finally:
        command(folder, "clean")


@pytest.fixture(scope="module")
def welcome(folder: Path) -> str:
    return command(folder, "up", "--detach")


def test_up_says_where_everything_is_and_what_to_try(folder: Path, welcome: str) -> None:
    endpoints = json.loads((folder / "endpoints.json").read_text())
    for url in (endpoints["openwebui"]["url"], endpoints["litellm"]["url"], endpoints["sync"]["url"]):
        assert url in welcome
    assert len(endpoints["users"]) == 3
    for login in endpoints["users"]:
        assert login["email"] in welcome
        assert login["password"] in welcome
    assert "three things to try" in welcome


def test_every_seeded_user_can_chat(folder: Path, welcome: str) -> None:
    endpoints = json.loads((folder / "endpoints.json").read_text())
    for login in endpoints["users"]:
        with httpx.Client(base_url=endpoints["openwebui"]["url"], timeout=60) as client:
            person = {"email": login["email"], "password": login["password"]}
            token = client.post("/api/v1/auths/signin", json=person).json()["token"]
            client.headers["Authorization"] = f"Bearer {token}"
            models = {model["id"] for model in client.get("/api/models").json()["data"]}
            assert set(endpoints["models"]) <= models
            body = {"model": "sim-gpt", "messages": [{"role": "user", "content": "hi"}]}
            assert "simulated" in client.post("/api/chat/completions", json=body).text


def test_status_shows_every_process(folder: Path, welcome: str) -> None:
    shown = command(folder, "status")
    assert shown.count("running") == 5
    assert "ended" not in shown


def test_the_demo_comes_true(folder: Path, welcome: str) -> None:
    assert "The whole story came true." in command(folder, "demo")


def test_the_command_line_works_on_it(folder: Path, welcome: str) -> None:
    assert "Interns" in command(folder, "budget", "explain", "bob@example.com", "--json")


def test_logs(folder: Path, welcome: str) -> None:
    assert "LiteLLM" in command(folder, "logs", "litellm", "-n", "200")
    assert "there are: litellm" in command(folder, "logs", "nobody", code=1)


def test_down_stops_everything_and_up_again_keeps_the_data(folder: Path, welcome: str) -> None:
    before = json.loads((folder / "endpoints.json").read_text())
    used = json.loads(command(folder, "budget", "usage", "bob@example.com", "--json"))
    assert used["total"]["charge"] > 0
    command(folder, "down")
    assert "Nothing runs" in command(folder, "status", code=1)
    command(folder, "up", "--detach")
    assert json.loads((folder / "endpoints.json").read_text()) == before
    assert json.loads(command(folder, "budget", "usage", "bob@example.com", "--json")) == used
