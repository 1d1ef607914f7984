"""Where everything of one stack lies: its state directory, and the tools that all stacks of this checkout share."""

import fcntl
import json
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from stack.rewrite import LOOPBACK

ROOT = Path(__file__).resolve().parent.parent
TOOLS = ROOT / ".stack" / "tools"
DEFAULT_STATE = ROOT / ".stack"

NICE_PORTS = {"openwebui": 3000, "litellm": 4000, "provider": 4010, "postgres": 54320, "sync": 8090}
"""What `make up` tries first, so that addresses are easy to remember. Tests take any free port."""


@dataclass(frozen=True, slots=True)
class State:
    """One stack's folder. Everything in it can be deleted to start anew."""

    folder: Path

    @property
    def env_file(self) -> Path:
        """Secrets and settings, as `.env` is for compose."""
        return self.folder / "env"

    @property
    def endpoints(self) -> Path:
        """Addresses and logins for programs that talk to the running stack."""
        return self.folder / "endpoints.json"

    @property
    def volumes(self) -> Path:
        """What named volumes are in compose."""
        return self.folder / "volumes"

    @property
    def run(self) -> Path:
        """Which processes are ours."""
        return self.folder / "run"

    @property
    def logs(self) -> Path:
        """One log per process."""
        return self.folder / "logs"

    @property
    def home(self) -> Path:
        """HOME of the programs, so that they leave nothing in the user's."""
        return self.folder / "home"

    def prepare(self) -> None:
        """Create the folders."""
        for folder in (self.folder, self.volumes, self.run, self.logs, self.home):
            folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Hold this stack while it is being started or stopped, against a second command at the same time."""
        with file_lock(self.folder / "lock"):
            yield


@contextmanager
def file_lock(path: Path) -> Iterator[None]:
    """Wait for and hold an exclusive lock on `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def write_json(path: Path, content: Mapping[str, Any]) -> None:
    """Write `content` readable by its owner alone; readers see the old file or the new one, never half of it."""
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=path.name)
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.write("\n")
    Path(temporary).replace(path)


def choose_ports(state: State, names: Mapping[str, bool]) -> dict[str, int]:
    """Return a port per name, the same as last time where it is still free.

    `names` maps each to whether its own process runs right now and so holds its port itself.
    """
    memory = state.folder / "ports.json"
    known: dict[str, int] = json.loads(memory.read_text()) if memory.exists() else {}
    nice = NICE_PORTS if state.folder == DEFAULT_STATE else {}
    for name, running in names.items():
        if name in known and (running or _free(known[name])):
            continue
        taken = set(known.values())
        wish = nice.get(name)
        known[name] = wish if wish and wish not in taken and _free(wish) else _any_free(taken)
    write_json(memory, known)
    return {name: known[name] for name in names}


def _free(port: int) -> bool:
    with socket.socket() as probe:
        # As servers do: a connection of a stopped process that lingers in TIME_WAIT does not make the port taken.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def _any_free(taken: set[int]) -> int:
    while True:
        with socket.socket() as probe:
            probe.bind((LOOPBACK, 0))
            port: int = probe.getsockname()[1]
        if port not in taken:
            return port
