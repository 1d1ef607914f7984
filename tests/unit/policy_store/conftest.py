from collections.abc import Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, update
from support.sqlite import migrated

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.tables import sync_state
from owui_budget.policy_store import Fence, SqlPolicyStore


@pytest.fixture(params=["sqlite", "postgresql"])
def engine(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Engine]:
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
    else:
        url = f"sqlite:///{migrated(tmp_path / 'ledger.db')}"
    made = make_engine(LedgerSettings(database_url=SecretStr(url)))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlPolicyStore:
    return SqlPolicyStore(engine)


@pytest.fixture
def fence(engine: Engine) -> Fence:
    """Leadership with number 7."""
    with engine.begin() as connection:
        connection.execute(update(sync_state).values(fence=7, leader_id="me"))
    return Fence(7)
