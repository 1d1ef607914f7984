"""What the stack installs for itself on the first start, shared by all stacks of this checkout.

Each step leaves a stamp with what it was made from: a second start does nothing, and a changed lock does it again.
"""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path

from stack import surroundings
from stack.errors import MissingProgramError, StackError
from stack.state import ROOT, TOOLS

OPENWEBUI_VENV = TOOLS / "openwebui-venv"
PYTHONS_FOR_OPENWEBUI = ((3, 11), (3, 12))
"""Open WebUI 0.12.4 refuses every other (its `requires-python`)."""
NODE_AT_LEAST = 18
DEV_BIN = Path(sys.executable).parent

Say = Callable[[str], None]


def fingerprint(*parts: Path | str) -> str:
    """Hash files and words, to tell whether a step has to run again."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(part.read_bytes() if isinstance(part, Path) else part.encode())
        digest.update(b"\0")
    return digest.hexdigest()


def done(stamp: Path, key: str) -> bool:
    """Whether `stamp` says that this was made from `key`."""
    return stamp.exists() and stamp.read_text(encoding="utf-8").split("\n")[0] == key


def run(
    argv: Sequence[str | Path], what: str, environment: Mapping[str, str] | None = None, timeout: float = 1_800
) -> str:
    """Run a set-up command and return what it printed.

    Raises:
        StackError: it failed; the text holds the end of its output.

    """
    try:
        finished = subprocess.run(
            [str(part) for part in argv],
            env=dict(environment) if environment is not None else None,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=timeout,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        msg = f"{what}: {Path(argv[0]).name} took more than {timeout:.0f} seconds; is the package registry reachable?"
        raise StackError(msg) from error
    text = finished.stdout.decode(errors="replace")
    if finished.returncode:
        command = " ".join(map(str, argv[:4]))
        msg = f"{what}: {command} failed with exit code {finished.returncode}:\n{text.strip()[-3000:]}"
        raise StackError(msg)
    return text


def package(name: str) -> Path:
    """Return the folder of an installed package, without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        msg = f"{name} is not installed in {sys.prefix}; run make venv"
        raise StackError(msg)
    return Path(spec.origin).parent


def node() -> str:
    """Return the path of a usable Node.

    Raises:
        MissingProgramError: there is none, or it is too old, or npm is missing.

    """
    why = "LiteLLM's database client (Prisma) is a Node program"
    way_out = f"Install Node {NODE_AT_LEAST} or newer with npm, for example: apt-get install nodejs npm."
    path = shutil.which("node")
    if path is None:
        raise MissingProgramError("node", why, way_out)
    version = run([path, "--version"], "Node").strip()
    if int(version.removeprefix("v").partition(".")[0]) < NODE_AT_LEAST:
        wanted = f"Node {NODE_AT_LEAST}"
        raise MissingProgramError(wanted, f"{path} is {version}, and {why}", way_out)
    if shutil.which("npm") is None:
        raise MissingProgramError("npm", why, way_out)
    return path


def openwebui(say: Say) -> None:
    """Install Open WebUI in a virtual environment of its own: its pinned packages contradict LiteLLM's."""
    lock = ROOT / "requirements" / "openwebui.lock"
    stamp = OPENWEBUI_VENV / "installed"
    key = fingerprint(lock)
    if done(stamp, key):
        return
    say("installing Open WebUI into its own environment (a few minutes the first time)")
    uv = DEV_BIN / "uv"
    # Whatever this machine trusts: a mirror inside a company may have a certificate of its own.
    variables = {"UV_SYSTEM_CERTS": "true", **surroundings.shell()}
    shutil.rmtree(OPENWEBUI_VENV, ignore_errors=True)
    run(
        [uv, "venv", "--quiet", "--python", _python_for_openwebui(), OPENWEBUI_VENV],
        "Open WebUI's environment",
        variables,
    )
    run(
        [
            uv,
            "pip",
            "install",
            "--quiet",
            "--python",
            _python(OPENWEBUI_VENV),
            "--require-hashes",
            "--no-deps",
            "-r",
            lock,
        ],
        "Open WebUI",
        variables,
    )
    stamp.write_text(key, encoding="utf-8")


def _python(environment: Path) -> Path:
    return environment / "bin" / "python"


def _python_for_openwebui() -> str:
    if sys.version_info[:2] in PYTHONS_FOR_OPENWEBUI:
        return getattr(sys, "_base_executable", sys.executable)
    for major, minor in reversed(PYTHONS_FOR_OPENWEBUI):
        path = shutil.which(f"python{major}.{minor}")
        if path and _starts(path):
            return path
    # Not on PATH: uv may know one elsewhere on the machine, or can download one where its host is reachable.
    return "3.12"


def _starts(python: str) -> bool:
    """Whether this interpreter runs and can make environments (a version manager's shim may stand for one it lacks)."""
    try:
        run([python, "-c", "import ensurepip, ssl"], python, timeout=30)
    except StackError:
        return False
    return True
