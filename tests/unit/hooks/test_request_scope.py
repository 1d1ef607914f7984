import asyncio
import json
from typing import Any

import pytest
from kit import BERLIN, NOW, limit, standing

from owui_budget.domain.decisions import Refused
from owui_budget_hooks import answers
from owui_budget_hooks.http_request import HttpRequest, current_request
from owui_budget_hooks.request_scope import RequestScope

BLOCKING = standing(limit(), used=100_412)


def exceeded() -> answers.BudgetExceeded:
    return answers.BudgetExceeded(Refused((BLOCKING,), BLOCKING), NOW, BERLIN, None)


async def serve(app: Any, path: str = "/v1/rerank", kind: str = "http") -> list[dict[str, Any]]:
    sent: list[dict[str, Any]] = []

    async def send(message: Any) -> None:
        sent.append(dict(message))

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    await RequestScope(app)({"type": kind, "path": path}, receive, send)
    return sent


def answering(status: int, body: bytes = b"{}", *, answer: answers.BudgetAnswer | None = None, **headers: str) -> Any:
    """An application that answers so, having noted `answer` and `headers` on its request."""

    async def app(_scope: Any, _receive: Any, send: Any) -> None:
        seen = current_request()
        assert seen is not None
        seen.answer = answer
        seen.headers = {name.replace("_", "-"): value for name, value in headers.items()}
        start = [(b"content-type", b"application/json"), (b"content-length", b"2"), (b"x-litellm-call-id", b"1")]
        await send({"type": "http.response.start", "status": status, "headers": start})
        await send({"type": "http.response.body", "body": body, "more_body": False})

    return app


async def test_a_request_is_over_when_its_last_byte_is_sent() -> None:
    seen: list[HttpRequest | None] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(current_request())
        assert seen[0] is not None
        assert not seen[0].over
        seen.append(await asyncio.create_task(_current()))

    async def _current() -> HttpRequest | None:
        return current_request()

    await serve(app)

    assert seen[0] is seen[1]
    assert seen[0] is not None
    assert seen[0].over


async def test_a_request_is_over_however_it_ends() -> None:
    seen: list[HttpRequest | None] = []

    async def app(_scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(current_request())
        raise ConnectionError

    with pytest.raises(ConnectionError):
        await serve(app)
    assert seen[0] is not None
    assert seen[0].over


async def test_our_refusal_arrives_whole_whatever_the_route_made_of_it() -> None:
    start, body = await serve(answering(500, b"mangled", answer=exceeded()))

    headers = dict(start["headers"])
    assert start["status"] == 429
    assert json.loads(body["body"]) == {"error": exceeded().to_dict()}
    assert int(headers[b"content-length"]) == len(body["body"])
    assert headers[b"retry-after"] == b"30411"
    assert headers[b"x-should-retry"] == b"false"
    assert headers[b"x-litellm-call-id"] == b"1"
    assert len(start["headers"]) == len(headers)
    assert body["more_body"] is False


async def test_messages_keep_the_envelope_their_clients_read() -> None:
    _, body = await serve(answering(429, answer=exceeded()), "/v1/messages")

    content = json.loads(body["body"])
    assert content["type"] == "error"
    assert content["error"]["type"] == "rate_limit_error"
    assert content["error"]["message"] == exceeded().message


async def test_other_answers_pass_unchanged() -> None:
    start, body = await serve(answering(500, b"theirs"))

    assert start["status"] == 500
    assert body["body"] == b"theirs"
    assert len(start["headers"]) == 3


async def test_a_success_gets_the_headers_its_route_did_not_ask_for() -> None:
    start, _ = await serve(answering(200, X_Budget_Status="ok", X_LiteLLM_Call_Id="2"))

    headers = dict(start["headers"])
    assert headers[b"x-budget-status"] == b"ok"
    assert headers[b"x-litellm-call-id"] == b"1"  # what is there stays


async def test_an_error_gets_no_standing() -> None:
    start, _ = await serve(answering(500, X_Budget_Status="ok"))

    assert b"x-budget-status" not in dict(start["headers"])


async def test_websockets_and_the_lifespan_pass_by() -> None:
    seen: list[str] = []

    async def app(scope: Any, _receive: Any, _send: Any) -> None:
        seen.append(scope["type"])

    await serve(app, kind="websocket")
    await serve(app, kind="lifespan")
    assert seen == ["websocket", "lifespan"]


def test_other_code_may_look_into_the_application() -> None:
    class App:
        routes = ("a",)

    assert RequestScope(App()).routes == ("a",)  # type: ignore[arg-type]
