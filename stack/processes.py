"""Start, watch and stop the stack's processes, and only those: each is known by its pid and the moment it was born."""

import hashlib
import json
import pwd
import signal
import subprocess
import time
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil  # type: ignore[import-untyped]

from stack.errors import NotHealthyError, StackError
from stack.state import State, write_json
from stack.surroundings import shell

_CHILDREN: dict[int, subprocess.Popen[bytes]] = {}
"""Processes that this Python started, so that it reaps them. A later command finds the others by their pid files."""

_KEPT = ("PATH", "LANG", "LC_ALL", "TMPDIR", "TZ")
_KEPT_PREFIXES = ("COVERAGE_", "SSL_CERT_", "REQUESTS_CA_", "NODE_EXTRA_CA_")
"""What of our own environment a program sees: enough to run, measure coverage and trust this machine's certificates.

The rest comes from docker-compose.yml alone; a variable of the user's shell must not make a difference.
"""


@dataclass(frozen=True, slots=True)
class Program:
    """What to run, and how to tell that it is ready."""

    name: str
    argv: Sequence[str | Path]
    environment: Mapping[str, str] = field(repr=False)
    healthy: Callable[[], bool]
    """Asked until it says yes. It may raise OSError or StackError, which count as no."""
    deadline: float = 60
    """Seconds until it must be healthy."""
    grace: float = 10
    """Seconds between the stop signal and SIGKILL."""
    stop_signal: signal.Signals = signal.SIGTERM
    cwd: Path | None = None
    """Where it runs; its HOME unless given."""
    user: str | None = None

    @property
    def fingerprint(self) -> str:
        """Changes when the program would be started differently."""
        text = json.dumps([[str(part) for part in self.argv], sorted(self.environment.items())])
        return hashlib.sha256(text.encode()).hexdigest()


def base_environment(home: Path) -> dict[str, str]:
    """Return the part of our own environment that programs get beside their own."""
    kept = {name: value for name, value in shell().items() if name in _KEPT or name.startswith(_KEPT_PREFIXES)}
    return {**kept, "HOME": str(home), "PYTHONUNBUFFERED": "1"}


def run_as(user: str | None) -> dict[str, Any]:
    """Return the arguments of `subprocess` for another user, None for our own.

    The group goes with it: folders that let "others" pass would still keep out whoever is in their group.
    """
    if user is None:
        return {}
    entry = pwd.getpwnam(user)
    return {"user": entry.pw_uid, "group": entry.pw_gid, "extra_groups": []}


def start(state: State, program: Program) -> bool:
    """Start `program` and return True; False if it runs already as wanted. One that runs otherwise is restarted."""
    record = _read(state, program.name)
    if record and find(state, program.name):
        if record.get("fingerprint") == program.fingerprint:
            return False
        stop(state, program.name)
    log = state.logs / f"{program.name}.log"
    with log.open("ab") as output:
        output.write(f"--- {time.strftime('%Y-%m-%d %H:%M:%S')} started\n".encode())
        output.flush()
        child = subprocess.Popen(
            [str(part) for part in program.argv],
            env={**base_environment(state.home), **program.environment},
            cwd=program.cwd or state.home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            # A session of its own: Ctrl-C in the terminal reaches us, and we stop them one after the other.
            start_new_session=True,
            **run_as(program.user),
        )
    _CHILDREN[child.pid] = child
    born = psutil.Process(child.pid).create_time()
    write_json(
        state.run / f"{program.name}.json",
        {
            "pid": child.pid,
            "born": born,
            "fingerprint": program.fingerprint,
            "grace": program.grace,
            "stop_signal": int(program.stop_signal),
        },
    )
    return True


def wait_healthy(state: State, program: Program) -> None:
    """Wait until `program` is healthy.

    Raises:
        NotHealthyError: it ended, or its deadline passed.

    """
    deadline = time.monotonic() + program.deadline
    pause = 0.05
    while not _asked(program):
        if find(state, program.name) is None:
            raise _unhealthy(state, program.name, "the process ended")
        if time.monotonic() > deadline:
            raise _unhealthy(state, program.name, f"no good answer within {program.deadline:.0f} seconds")
        time.sleep(pause)
        pause = min(pause * 1.5, 0.5)


def find(state: State, name: str) -> psutil.Process | None:
    """Return the running process of that name, None if it does not run (or its pid now belongs to something else)."""
    record = _read(state, name)
    if record is None:
        return None
    child = _CHILDREN.get(int(record["pid"]))
    if child is not None and child.poll() is not None:
        return None
    try:
        process = psutil.Process(int(record["pid"]))
        same = abs(process.create_time() - float(record["born"])) < 1
    except psutil.NoSuchProcess:
        return None
    return process if same and _running(process) else None


def stop(state: State, name: str, *, kill: bool = False) -> None:
    """Stop one process and what it started: its stop signal, then SIGKILL after its grace; `kill`: SIGKILL at once."""
    process = find(state, name)
    if process is not None:
        record = _read(state, name) or {}
        family = [*process.children(recursive=True), process]
        if kill:
            _signal(family, signal.SIGKILL)
        else:
            _signal([process], signal.Signals(int(record["stop_signal"])))
            _wait([process], float(record["grace"]))
        # Whatever is left, a helper that outlived its parent too.
        _signal(family, signal.SIGKILL)
        if _wait(family, 10):
            msg = f"{name} (pid {process.pid}) does not end, not even on SIGKILL; look at it with ps and end it by hand"
            raise StackError(msg)
    (state.run / f"{name}.json").unlink(missing_ok=True)


def names(state: State) -> list[str]:
    """Names of all processes on record, whether they still run or not."""
    return sorted(path.stem for path in state.run.glob("*.json"))


def tail(state: State, name: str, lines: int = 25) -> str:
    """Return the last lines of a process's log."""
    log = state.logs / f"{name}.log"
    if not log.exists():
        return "(no log)"
    with log.open(encoding="utf-8", errors="replace") as file:
        return "".join(deque(file, lines)).rstrip()


def _read(state: State, name: str) -> dict[str, str | float] | None:
    path = state.run / f"{name}.json"
    if not path.exists():
        return None
    record: dict[str, str | float] = json.loads(path.read_text(encoding="utf-8"))
    return record


def _asked(program: Program) -> bool:
    try:
        return program.healthy()
    except (OSError, StackError):
        return False


def _unhealthy(state: State, name: str, reason: str) -> NotHealthyError:
    return NotHealthyError(name, reason, str(state.logs / f"{name}.log"), tail(state, name))


def _signal(processes: Sequence[psutil.Process], number: signal.Signals) -> None:
    for process in processes:
        try:
            process.send_signal(number)
        except psutil.NoSuchProcess:
            continue


def _running(process: psutil.Process) -> bool:
    try:
        return bool(process.is_running() and process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


def _wait(processes: Sequence[psutil.Process], seconds: float) -> list[psutil.Process]:
    """Wait for the processes to end and return those that did not."""
    deadline = time.monotonic() + seconds
    left = list(processes)
    while left and time.monotonic() < deadline:
        for child in list(_CHILDREN.values()):
            if child.poll() is not None:
                del _CHILDREN[child.pid]
        left = [process for process in left if _running(process)]
        if left:
            time.sleep(0.05)
    return left
