"""Processes are started, found, and stopped, and only our own."""

import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from stack import processes
from stack.errors import NotHealthyError
from stack.processes import Program
from stack.state import State

SLEEP = "import time; time.sleep(60)"
STUBBORN = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('up', flush=True); time.sleep(60)"
PARENT = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {SLEEP!r}])"


@pytest.fixture
def state(tmp_path: Path) -> Iterator[State]:
    state = State(tmp_path)
    state.prepare()
    yield state
    for name in processes.names(state):
        processes.stop(state, name, kill=True)


def program(code: str, *, healthy: bool = True, deadline: float = 5, grace: float = 5, name: str = "one") -> Program:
    return Program(name, [sys.executable, "-c", code], {}, lambda: healthy, deadline=deadline, grace=grace)


def test_started_found_and_stopped(state: State) -> None:
    assert processes.start(state, program(SLEEP))
    found = processes.find(state, "one")
    assert found is not None
    processes.stop(state, "one")
    assert processes.find(state, "one") is None
    assert not psutil.pid_exists(found.pid)
    assert processes.names(state) == []


def test_a_second_start_leaves_it_running(state: State) -> None:
    processes.start(state, program(SLEEP))
    pid = processes.find(state, "one")
    assert not processes.start(state, program(SLEEP))
    assert processes.find(state, "one") == pid


def test_another_command_line_restarts_it(state: State) -> None:
    processes.start(state, program(SLEEP))
    first = processes.find(state, "one")
    assert processes.start(state, program(SLEEP + "; 1"))
    assert processes.find(state, "one") != first


def test_one_that_ignores_sigterm_is_killed_after_its_grace(state: State) -> None:
    processes.start(state, program(STUBBORN, grace=0.3))
    log = state.logs / "one.log"
    while "up" not in log.read_text():
        time.sleep(0.05)
    started = time.monotonic()
    processes.stop(state, "one")
    assert 0.3 <= time.monotonic() - started < 5
    assert processes.find(state, "one") is None


def test_what_it_started_ends_with_it(state: State) -> None:
    processes.start(state, program(PARENT))
    parent = processes.find(state, "one")
    assert parent is not None
    while not (children := parent.children()):
        time.sleep(0.05)
    processes.stop(state, "one", kill=True)
    assert not [child for child in children if child.is_running() and child.status() != psutil.STATUS_ZOMBIE]


def test_a_pid_that_now_belongs_to_another_is_left_alone(state: State) -> None:
    processes.start(state, program(SLEEP, name="other"))
    other = processes.find(state, "other")
    assert other is not None
    record = {"pid": other.pid, "born": other.create_time() - 100, "fingerprint": "", "grace": 1, "stop_signal": 15}
    (state.run / "one.json").write_text(json.dumps(record))
    assert processes.find(state, "one") is None
    processes.stop(state, "one")
    assert processes.find(state, "other") == other


def test_one_that_ends_is_reported_with_the_end_of_its_log(state: State) -> None:
    broken = program("raise SystemExit('no database')", healthy=False)
    processes.start(state, broken)
    with pytest.raises(NotHealthyError, match=r"(?s)the process ended.*no database"):
        processes.wait_healthy(state, broken)


def test_one_that_never_answers_is_reported(state: State) -> None:
    silent = program(SLEEP, healthy=False, deadline=0.2)
    processes.start(state, silent)
    with pytest.raises(NotHealthyError, match="no good answer within"):
        processes.wait_healthy(state, silent)


def test_programs_do_not_see_the_users_shell(state: State, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "from the shell")
    processes.start(state, program("import os; print(sorted(os.environ), flush=True); import time; time.sleep(60)"))
    log = state.logs / "one.log"
    while "HOME" not in log.read_text():
        time.sleep(0.05)
    assert "OPENAI_API_KEY" not in log.read_text()
