"""Migrations: up from empty, twice at once, no drift, and a clear word where the schema is not ours."""

import subprocess
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from pydantic import SecretStr
from support.postgres import Postgres

from owui_budget.config import LedgerSettings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine, schema_of
from owui_budget.database.tables import meta, metadata, sync_state
from owui_budget.errors import LedgerUnavailableError, SchemaError

ROOT = Path(__file__).parents[3]


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """An empty database."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/ledger.db"
        return
    server: Postgres = request.getfixturevalue("postgres")
    with server.database("template0") as made:
        yield made


@pytest.fixture
def engine(url: str) -> Iterator[sa.Engine]:
    made = make_engine(LedgerSettings(database_url=SecretStr(url)))
    yield made
    made.dispose()


def test_up_from_empty_and_no_drift(engine: sa.Engine) -> None:
    with pytest.raises(SchemaError, match=r"no owui-budget tables yet; run `owui-budget db upgrade`"):
        migrate.check(engine)
    migrate.upgrade(engine)
    migrate.check(engine)
    assert migrate.drift(engine) == []
    migrate.upgrade(engine)
    with engine.begin() as connection:
        assert connection.execute(sa.select(meta)).all() == [(1, 0, "UTC", 0.0)]
        assert connection.execute(sa.select(sync_state.c.id, sync_state.c.fence)).all() == [(1, 0)]


def test_the_drift_check_notices_a_difference(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    with engine.begin() as connection:
        connection.execute(sa.schema.DropTable(metadata.tables["notices"]))
    assert "add_table" in repr(migrate.drift(engine))


def test_a_newer_schema_is_left_alone(engine: sa.Engine) -> None:
    migrate.upgrade(engine)
    schema = schema_of(engine)
    table = f"{schema}.{migrate.VERSION_TABLE}" if schema else migrate.VERSION_TABLE
    with engine.begin() as connection:
        connection.execute(sa.text(f"UPDATE {table} SET version_num = '9999'"))  # noqa: S608 - names of ours
    for action in (migrate.check, migrate.upgrade):
        with pytest.raises(SchemaError, match="9999, which this version does not know; install the newer"):
            action(engine)


def test_two_upgrades_at_once(engine: sa.Engine) -> None:
    failed: list[BaseException] = []

    def upgrade() -> None:
        try:
            migrate.upgrade(engine)
        except BaseException as error:  # noqa: BLE001 - handed to the test's own thread
            failed.append(error)

    threads = [threading.Thread(target=upgrade) for _ in range(3)]
    for each in threads:
        each.start()
    for each in threads:
        each.join(30)
    assert failed == []
    migrate.check(engine)


def test_two_schemas_in_one_database(postgres: Postgres) -> None:
    with postgres.database("template0") as url:
        for schema in ("one", "two"):
            engine = make_engine(LedgerSettings(database_url=SecretStr(url), database_schema=schema))
            migrate.upgrade(engine)
            assert migrate.drift(engine) == []
            with engine.begin() as connection:
                connection.execute(sa.update(meta).values(zone=schema))
                tables = sa.inspect(connection).get_table_names("public")
                found = connection.execute(sa.select(meta.c.zone)).scalar()
            engine.dispose()
            assert (tables, found) == ([], schema)


def test_a_database_out_of_reach_is_an_outage(tmp_path: Path) -> None:
    engine = make_engine(LedgerSettings(database_url=SecretStr("postgresql://nobody@127.0.0.1:1/none")))
    for action in (migrate.check, migrate.upgrade):
        with pytest.raises(LedgerUnavailableError, match="cannot be reached"):
            action(engine)
    engine.dispose()


def test_the_wheel_carries_the_migrations(tmp_path: Path) -> None:
    """What pip installs can migrate: built here, unpacked elsewhere, run from there."""
    subprocess.run(  # noqa: S603 - our own interpreter and build backend
        [sys.executable, "-c", f"from hatchling.build import build_wheel; build_wheel({str(tmp_path)!r})"],
        cwd=ROOT,
        check=True,
        capture_output=True,
    )
    [wheel] = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path / "site")
    program = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'site')!r})\n"
        "from pydantic import SecretStr\n"
        "from owui_budget.config import LedgerSettings\n"
        "from owui_budget.database import engine, migrate\n"
        "assert 'site/owui_budget' in migrate.__file__, migrate.__file__\n"
        f"made = engine.make_engine(LedgerSettings(database_url=SecretStr('sqlite:///{tmp_path}/ledger.db')))\n"
        "migrate.upgrade(made); migrate.check(made)\n"
    )
    subprocess.run([sys.executable, "-I", "-c", program], cwd=tmp_path, check=True)  # noqa: S603 - as above
