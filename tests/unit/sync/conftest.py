import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine

from owui_budget.config import LedgerSettings, SyncSettings
from owui_budget.database.engine import make_engine
from owui_budget.policy_store import SqlPolicyStore
from owui_budget_sync.openwebui.api import ApiSource
from owui_budget_sync.openwebui.client import OpenWebuiClient

sys.path.insert(0, str(Path(__file__).parent))

from support.fake_litellm import MASTER_KEY, FakeLitellm
from support.fake_openwebui import API_KEY, FakeOpenWebui
from support.sqlite import migrated


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[Engine]:
    file = migrated(tmp_path / "ledger.db")
    made = make_engine(LedgerSettings(database_url=SecretStr(f"sqlite:///{file}")))
    yield made
    made.dispose()


@pytest.fixture
def store(engine: Engine) -> SqlPolicyStore:
    return SqlPolicyStore(engine)


@pytest.fixture
def openwebui() -> FakeOpenWebui:
    return FakeOpenWebui()


@pytest.fixture
def litellm() -> FakeLitellm:
    return FakeLitellm()


@pytest.fixture
def settings() -> SyncSettings:
    return SyncSettings(
        openwebui_url="http://openwebui",
        openwebui_api_key=SecretStr(API_KEY),
        litellm_url="http://litellm",
        litellm_master_key=SecretStr(MASTER_KEY),
        connection_keys=(SecretStr("sk-connection-1"), SecretStr(MASTER_KEY)),
    )


@pytest.fixture
async def source(settings: SyncSettings, openwebui: FakeOpenWebui) -> AsyncIterator[ApiSource]:
    made = ApiSource(OpenWebuiClient(settings, transport=httpx.MockTransport(openwebui)))
    yield made
    await made.close()
