"""One HTTP request from its first byte to its last, seen from outside LiteLLM's application.

Three things can only be done here: knowing for certain that a request is over (some streams end without any of
LiteLLM's signals), sending our refusals whole on routes that wrap errors anew (images, rerank, transcriptions), and
adding headers on routes that never ask for them (rerank, moderations).
"""

import json
from collections.abc import Awaitable, Callable, MutableMapping
from typing import Any

from owui_budget_hooks.answers import BudgetAnswer
from owui_budget_hooks.http_request import HttpRequest, begin_request

Message = MutableMapping[str, Any]
Send = Callable[[Message], Awaitable[None]]
Receive = Callable[[], Awaitable[Message]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

_REPLACED_HEADERS = frozenset({b"content-length", b"content-type", b"content-encoding", b"transfer-encoding"})
_ANTHROPIC_TYPES = {400: "invalid_request_error", 401: "authentication_error", 429: "rate_limit_error"}
_ERROR = 400


class RequestScope:
    """Wraps LiteLLM's finished application."""

    def __init__(self, app: App) -> None:
        """Wrap `app`."""
        self._app = app

    def __getattr__(self, name: str) -> Any:
        """Pass everything else on: other code may look into the application."""
        return getattr(self._app, name)

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = begin_request()
        try:
            await self._app(scope, receive, _Answering(request, str(scope["path"]), send))
        finally:
            request.over = True


class _Answering:
    """Sends what the application sends, except where a refusal of ours must arrive whole."""

    __slots__ = ("_path", "_replaced", "_request", "_send")

    def __init__(self, request: HttpRequest, path: str, send: Send) -> None:
        self._request = request
        self._path = path
        self._send = send
        self._replaced = False

    async def __call__(self, message: Message) -> None:
        if self._replaced:
            return
        if message["type"] == "http.response.start":
            if self._request.answer is not None and message["status"] >= _ERROR:
                self._replaced = True
                await self._refuse(self._request.answer, message)
                return
            if self._request.headers and message["status"] < _ERROR:
                _add_headers(message, self._request.headers)
        await self._send(message)

    async def _refuse(self, answer: BudgetAnswer, start: Message) -> None:
        body = json.dumps(_body(answer, self._path), ensure_ascii=False, separators=(",", ":")).encode()
        ours = {name.lower().encode(): value.encode("latin-1", "replace") for name, value in answer.headers.items()}
        kept = [pair for pair in start["headers"] if pair[0].lower() not in _REPLACED_HEADERS | ours.keys()]
        named = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode()), *ours.items()]
        await self._send({**start, "status": answer.status_code, "headers": [*kept, *named]})
        await self._send({"type": "http.response.body", "body": body, "more_body": False})


def _body(answer: BudgetAnswer, path: str) -> dict[str, Any]:
    """Return the error as the route's clients read errors: Anthropic's envelope on /v1/messages, OpenAI's elsewhere."""
    error = answer.to_dict()
    if not path.rstrip("/").endswith("/messages"):
        return {"error": error}
    kind = _ANTHROPIC_TYPES.get(answer.status_code, "api_error")
    return {"type": "error", "error": {**error, "type": kind}}


def _add_headers(start: Message, headers: dict[str, str]) -> None:
    present = {name.lower() for name, _ in start["headers"]}
    extra = [(name.lower().encode(), value.encode("ascii", "replace")) for name, value in headers.items()]
    start["headers"] = [*start["headers"], *(pair for pair in extra if pair[0] not in present)]
