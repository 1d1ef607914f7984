"""URLs in all the spellings operators use, and what each store is opened with."""

from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import database_url, make_engine, reading, schema_of
from owui_budget.errors import ConfigurationError
from owui_budget.ledger.postgres import asyncpg_dsn


def settings(url: str, **known: str) -> LedgerSettings:
    return LedgerSettings(database_url=SecretStr(url), **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "sqlalchemy", "asyncpg"),
    [
        ("postgres://a:b@h/d", "postgresql+psycopg://a:b@h/d", "postgresql://a:b@h/d"),
        ("postgresql://a:b@h:1/d", "postgresql+psycopg://a:b@h:1/d", "postgresql://a:b@h:1/d"),
        ("postgresql+psycopg://a@h/d", "postgresql+psycopg://a@h/d", "postgresql://a@h/d"),
        ("postgresql+asyncpg://a@h/d", "postgresql+psycopg://a@h/d", "postgresql://a@h/d"),
        ("postgresql:///d?host=/tmp", "postgresql+psycopg:///d?host=/tmp", "postgresql:///d?host=/tmp"),
        ("postgres://a:p%40s@h/d", "postgresql+psycopg://a:p%40s@h/d", "postgresql://a:p%40s@h/d"),
        ("postgres://h/d?connect_timeout=3", "postgresql+psycopg://h/d?connect_timeout=3", "postgresql://h/d"),
        (
            "postgres://h/d?sslmode=require",
            "postgresql+psycopg://h/d?sslmode=require",
            "postgresql://h/d?sslmode=require",
        ),
    ],
)
def test_postgresql_urls(url: str, sqlalchemy: str, asyncpg: str) -> None:
    read = database_url(settings(url))
    assert read.render_as_string(hide_password=False).replace("%2F", "/") == sqlalchemy
    assert asyncpg_dsn(read).replace("%2F", "/") == asyncpg


def test_sqlite_is_opened_for_durable_writes_beside_readers(tmp_path: Path) -> None:
    engine = make_engine(settings(f"sqlite:///{tmp_path}/ledger.db"))
    with engine.connect() as connection:
        names = ("journal_mode", "synchronous", "busy_timeout", "foreign_keys")
        found = {name: connection.exec_driver_sql(f"PRAGMA {name}").scalar() for name in names}
    assert found == {"journal_mode": "wal", "synchronous": 2, "busy_timeout": 5000, "foreign_keys": 1}
    assert schema_of(engine) is None
    engine.dispose()


def test_a_reader_on_sqlite_makes_no_writer_wait(tmp_path: Path) -> None:
    engine = make_engine(settings(f"sqlite:///{tmp_path}/ledger.db"))
    with engine.begin() as connection:
        connection.execute(sa.text("CREATE TABLE t (a)"))
    with reading(engine) as reader:
        assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
        with engine.begin() as writer:
            writer.execute(sa.text("INSERT INTO t VALUES (1)"))
        assert reader.execute(sa.text("SELECT count(*) FROM t")).scalar() == 0
    engine.dispose()


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:"])
def test_sqlite_must_name_a_file(url: str) -> None:
    with pytest.raises(ConfigurationError, match="must name a file"):
        make_engine(settings(url))


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"folder .*/nowhere"):
        make_engine(settings(f"sqlite:///{tmp_path}/nowhere/ledger.db"))


def test_a_url_that_is_none_is_not_repeated() -> None:
    with pytest.raises(ConfigurationError) as caught:
        database_url(settings("postgresql://a:secret@h:port/d"))
    assert "secret" not in str(caught.value)


def test_postgresql_reads_are_read_only_and_schema_qualified(postgres_url: str) -> None:
    engine = make_engine(settings(postgres_url))
    assert schema_of(engine) == "owui_budget"
    with reading(engine) as connection:
        assert connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "on"
        assert connection.execute(sa.text("SHOW transaction_isolation")).scalar() == "repeatable read"
    with engine.begin() as connection:
        assert connection.execute(sa.text("SHOW transaction_read_only")).scalar() == "off"
    engine.dispose()
