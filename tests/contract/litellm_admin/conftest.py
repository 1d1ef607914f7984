"""One suite for the fake and the real LiteLLM admin API: what the mirroring relies on must hold on both."""

import uuid
from collections.abc import AsyncIterator, Iterator

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from support.fake_litellm import MASTER_KEY, FakeLitellm
from support.mirrors import Proxy

import stack
from owui_budget.clock import SystemClock
from owui_budget.config import LedgerSettings, SyncSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade
from owui_budget_sync.litellm.client import LitellmAdmin
from owui_budget_sync.litellm.mirror import LitellmMirror
from owui_budget_sync.litellm.reader import LitellmReader
from owui_budget_sync.litellm.remembered import Remembered
from owui_budget_sync.litellm.writer import LitellmWriter
from owui_budget_sync.mirror_job import connection_keys


@pytest.fixture(scope="package")
def real_litellm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    with stack.running(tmp_path_factory.mktemp("litellm"), services=("postgres", "provider", "litellm")) as running:
        yield running


@pytest.fixture(params=["fake", pytest.param("real", marks=pytest.mark.stack)])
async def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Proxy]:
    transport: httpx.AsyncBaseTransport | None = None
    url, master = "http://litellm", MASTER_KEY
    if request.param == "fake":
        transport = httpx.MockTransport(FakeLitellm())
    else:
        endpoint = request.getfixturevalue("real_litellm").endpoints.litellm
        url, master = endpoint.url, endpoint.master_key
    settings = SyncSettings(litellm_url=url, litellm_master_key=SecretStr(master))
    engine = _database(tmp_path_factory)
    admin = LitellmAdmin(settings, transport=transport)
    key = SecretStr(f"sk-{uuid.uuid4().hex}")
    writer = LitellmWriter(admin, connection_keys((key,)))
    mirror = LitellmMirror(LitellmReader(admin), writer, Remembered(engine, "customer", SystemClock()))
    yield Proxy(admin, mirror, writer, key, uuid.uuid4().hex[:8])
    await admin.close()
    engine.dispose()


def _database(tmp_path_factory: pytest.TempPathFactory) -> Engine:
    path = tmp_path_factory.mktemp("mirror") / "ledger.db"
    engine = make_engine(LedgerSettings(database_url=SecretStr(f"sqlite:///{path}")))
    upgrade(engine)
    return engine
