"""`owui-budget run` as a process of its own: serves, gives its lease back on SIGTERM, and refuses wrong settings."""

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import select

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade
from owui_budget.database.tables import processes, sync_state

SECRET = "a-trigger-secret-0123456789"
PASSWORD = "the-admins-password"


def free_port() -> int:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        return int(sock.getsockname()[1])


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    url = f"sqlite:///{tmp_path}/ledger.db"
    engine = make_engine(LedgerSettings(database_url=SecretStr(url)))
    upgrade(engine)
    engine.dispose()
    kept = {name: value for name, value in os.environ.items() if not name.startswith("OWUI_BUDGET_")}
    return kept | {
        "OWUI_BUDGET_DATABASE_URL": url,
        "OWUI_BUDGET_OPENWEBUI_URL": "http://127.0.0.1:9",  # nobody answers there
        "OWUI_BUDGET_OPENWEBUI_ADMIN_EMAIL": "admin@example.com",
        "OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD": PASSWORD,
        "OWUI_BUDGET_TRIGGER_SECRET": SECRET,
        "OWUI_BUDGET_SERVICE_PORT": str(free_port()),
    }


def run(environment: dict[str, str]) -> "subprocess.Popen[str]":
    code = "from owui_budget_sync.cli import main; main()"
    return subprocess.Popen(  # noqa: S603 - ourselves
        [sys.executable, "-c", code, "run"], env=environment, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def test_it_serves_and_gives_its_lease_back(environment: dict[str, str]) -> None:
    url = f"http://127.0.0.1:{environment['OWUI_BUDGET_SERVICE_PORT']}"
    with run(environment) as process:
        deadline = time.monotonic() + 30
        health: dict[str, object] = {}
        while time.monotonic() < deadline and health.get("status") != "degraded":
            try:
                health = httpx.get(f"{url}/health").json()
            except httpx.TransportError:
                assert process.poll() is None
            time.sleep(0.1)
        assert health["status"] == "degraded"
        assert "did not answer" in str(health["openwebui"])
        assert health["role"] == "leader"
        process.send_signal(signal.SIGTERM)
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0
    assert out == ""
    lines = [json.loads(line) for line in err.splitlines()]
    assert lines[0]["message"] == "sync starts"
    assert lines[-1]["message"] == "sync ends"
    assert any("the last good policy stays in force" in line["message"] for line in lines)
    assert PASSWORD not in err
    assert SECRET not in err
    engine = make_engine(LedgerSettings(database_url=SecretStr(environment["OWUI_BUDGET_DATABASE_URL"])))
    with engine.connect() as connection:
        assert connection.execute(select(sync_state.c.leader_id)).scalar_one() is None
        assert connection.execute(select(processes)).all() == []
    engine.dispose()


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        ({"OWUI_BUDGET_SYNC_INTERVALL": "5"}, "did you mean OWUI_BUDGET_SYNC_INTERVAL?"),
        ({"OWUI_BUDGET_SYNC_INTERVAL": "soon"}, "OWUI_BUDGET_SYNC_INTERVAL"),
        ({"OWUI_BUDGET_OPENWEBUI_URL": ""}, "OWUI_BUDGET_OPENWEBUI_URL is not set"),
        ({"OWUI_BUDGET_LIMITS_FILE": "/nowhere/limits.yaml"}, "OWUI_BUDGET_LIMITS_FILE"),
    ],
)
def test_wrong_settings_end_it_at_once(environment: dict[str, str], wrong: dict[str, str], says: str) -> None:
    with run(environment | wrong) as process:
        _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert says in err
    assert "Traceback" not in err


def test_a_port_that_is_taken_is_named(environment: dict[str, str]) -> None:
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        sock.listen()
        with run(environment | {"OWUI_BUDGET_SERVICE_PORT": str(sock.getsockname()[1])}) as process:
            _, err = process.communicate(timeout=30)
    assert process.returncode == 1
    assert "OWUI_BUDGET_SERVICE_PORT" in err
