"""`check --probe`: one real call, and whether the ledger has it as its user's."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
import respx
from pydantic import SecretStr

from owui_budget.config import SyncSettings
from owui_budget.domain.identity import Caller
from owui_budget_sync.checks.findings import Finding
from owui_budget_sync.checks.probe import probe
from owui_budget_sync.openwebui.client import OpenWebuiClient

from .conftest import OWUI, World

Answer = Callable[[httpx.Request], httpx.Response]


@pytest.fixture
def openwebui() -> Iterator[respx.Router]:
    with respx.mock(base_url=OWUI) as router:
        router.get("/api/v1/auths/").respond(200, json={"id": "u-root", "role": "admin"})
        yield router


async def probed(world: World, router: respx.Router, answer: httpx.Response, spender: str | None) -> Finding:
    """What the probe finds when Open WebUI gives `answer`, and the ledger then has a call of `spender`."""
    # The probe's own loop runs here, so the call is made in a thread, as another process would make it.
    import asyncio

    async def serve(request: httpx.Request) -> httpx.Response:
        body = json.loads(request.content)
        assert body == {
            "model": "m1",
            "messages": [{"role": "user", "content": "Answer with one word."}],
            "max_tokens": 1,
            "stream": False,
        }
        if spender is not None:
            caller = Caller.OPENWEBUI if spender.startswith("u-") else Caller.SERVICE
            known: dict[str, Any] = {} if caller is Caller.OPENWEBUI else {"service_id": spender, "caller": caller}
            await asyncio.to_thread(world.spend, spender if not known else "u-x", 3, **known)
        return answer

    router.post("/api/chat/completions").mock(side_effect=serve)
    settings = SyncSettings(openwebui_url=OWUI, openwebui_api_key=SecretStr("sk-admin"))
    async with OpenWebuiClient(settings) as client:
        [finding] = await probe(client, world.engine, "m1", patience=0.3)
    return finding


GOOD = httpx.Response(200, json={"choices": []})


def refused(status: int, code: str) -> httpx.Response:
    return httpx.Response(status, json={"error": {"message": f"because of {code}", "code": code}})


@pytest.mark.parametrize(
    ("answer", "spender", "severity", "what"),
    [
        (GOOD, "u-root", "ok", "a real call arrived as its user and is in the ledger"),
        (GOOD, "u-alice", "error", "a real call was answered and is not in the ledger"),
        (GOOD, "key-12", "error", "a real call is in the ledger as a service's, not as its user's"),
        (GOOD, None, "error", "a real call was answered and is not in the ledger"),
        (refused(429, "budget_exceeded"), None, "ok", "arrived as its user, who is over a limit: limits hold"),
        (
            refused(401, "budget_identity_refused"),
            None,
            "error",
            "answered with 401: because of budget_identity_refused",
        ),
        (httpx.Response(400, json={"detail": "Model not found"}), None, "error", "answered with 400: Model not found"),
        (httpx.Response(502, text="<html>"), None, "error", "answered with 502"),
    ],
)
async def test_what_a_real_call_shows(
    world: World, openwebui: respx.Router, answer: httpx.Response, spender: str | None, severity: str, what: str
) -> None:
    finding = await probed(world, openwebui, answer, spender)
    assert finding.severity == severity
    assert what in finding.what


async def test_an_older_call_of_the_same_user_proves_nothing(world: World, openwebui: respx.Router) -> None:
    import asyncio

    await asyncio.to_thread(world.spend, "u-root", 3)
    finding = await probed(world, openwebui, GOOD, None)
    assert finding.severity == "error"


async def test_no_signed_user_is_named_with_its_fix(world: World, openwebui: respx.Router) -> None:
    finding = await probed(world, openwebui, refused(401, "budget_identity_refused"), None)
    assert "ENABLE_FORWARD_USER_INFO_HEADERS=true" in finding.fix
