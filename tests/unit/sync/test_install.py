from collections.abc import AsyncIterator

import httpx
import pytest
from pydantic import SecretStr
from support.fake_openwebui import API_KEY, FakeOpenWebui

from owui_budget.config import SyncSettings
from owui_budget.errors import SourceRefusedError
from owui_budget_sync.openwebui import install
from owui_budget_sync.openwebui.client import OpenWebuiClient

URL, SECRET = "http://sync:8090/trigger", "the-secret"


@pytest.fixture
def openwebui() -> FakeOpenWebui:
    return FakeOpenWebui()


@pytest.fixture
async def client(openwebui: FakeOpenWebui) -> AsyncIterator[OpenWebuiClient]:
    settings = SyncSettings(openwebui_url="http://openwebui", openwebui_api_key=SecretStr(API_KEY))
    async with OpenWebuiClient(settings, transport=httpx.MockTransport(openwebui)) as made:
        yield made


async def test_it_is_installed_once(client: OpenWebuiClient, openwebui: FakeOpenWebui) -> None:
    assert len(await install.install(client, url=URL, secret=SECRET)) == 3
    function = openwebui.functions[install.FUNCTION_ID]
    assert function["is_active"]
    assert function["content"] == install.source()
    assert openwebui.valves[install.FUNCTION_ID] == {"url": URL, "secret": SECRET}
    assert await install.install(client, url=URL, secret=SECRET) == ()
    assert function["is_active"]


async def test_what_differs_is_mended_and_nothing_else(client: OpenWebuiClient, openwebui: FakeOpenWebui) -> None:
    await install.install(client, url=URL, secret=SECRET)
    assert await install.install(client, url=URL, secret="new") == ("set its address and secret",)
    openwebui.functions[install.FUNCTION_ID]["is_active"] = False
    assert await install.install(client, url=URL, secret="new") == ("switch it on",)
    openwebui.functions[install.FUNCTION_ID]["content"] = "old"
    assert await install.install(client, url=URL, secret="new") == ("update the function's text",)
    assert openwebui.functions[install.FUNCTION_ID]["is_active"]


async def test_a_dry_run_writes_nothing(client: OpenWebuiClient, openwebui: FakeOpenWebui) -> None:
    assert len(await install.install(client, url=URL, secret=SECRET, dry_run=True)) == 3
    assert openwebui.functions == {}
    await install.install(client, url=URL, secret=SECRET)
    assert await install.uninstall(client, dry_run=True) == ("delete the function",)
    assert openwebui.functions.keys() == {install.FUNCTION_ID}


async def test_other_functions_are_left_alone(client: OpenWebuiClient, openwebui: FakeOpenWebui) -> None:
    openwebui.functions["other"] = {"id": "other", "type": "filter", "is_active": True, "content": "x"}
    await install.install(client, url=URL, secret=SECRET)
    assert await install.uninstall(client) == ("delete the function",)
    assert await install.uninstall(client) == ()
    assert openwebui.functions.keys() == {"other"}
    assert not any("sync" in each for each in openwebui.requests)


async def test_a_stranger_of_the_same_id_is_an_error(client: OpenWebuiClient, openwebui: FakeOpenWebui) -> None:
    openwebui.functions[install.FUNCTION_ID] = {"id": install.FUNCTION_ID, "type": "filter", "content": "x"}
    with pytest.raises(SourceRefusedError, match="no event function"):
        await install.install(client, url=URL, secret=SECRET)
