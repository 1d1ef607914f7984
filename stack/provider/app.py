"""The simulated provider's application: the routes, its models, and its account of all calls."""

from typing import Any

from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse

from stack.provider import MODELS, chat, messages, others, responses
from stack.provider.answer import ConnectionBrokenError, SimulatedError
from stack.provider.calls import Account, now


def create_app() -> FastAPI:
    """Make one provider with an empty account."""
    app = FastAPI(title="Simulated model provider")
    app.state.account = Account()
    for part in (chat, messages, others, responses):
        app.include_router(part.router, prefix="/v1")

    @app.exception_handler(SimulatedError)
    async def failed(request: Request, error: SimulatedError) -> Response:
        kind = "rate_limit_error" if error.status == 429 else "server_error"  # noqa: PLR2004 - HTTP
        content: dict[str, Any] = {"error": {"message": str(error), "type": kind, "param": None, "code": None}}
        if request.url.path.endswith("/messages"):
            content = {"type": "error", "error": {"type": "api_error", "message": str(error)}}
        return JSONResponse(content, error.status)

    @app.exception_handler(ConnectionBrokenError)
    async def broken(_request: Request, _error: ConnectionBrokenError) -> Response:
        return _BrokenResponse()

    @app.get("/health")
    async def health() -> dict[str, str]:
        return {"status": "healthy"}

    @app.get("/v1/models")
    async def models() -> dict[str, Any]:
        created = int(now())
        data = [{"id": name, "object": "model", "created": created, "owned_by": "simulated"} for name in MODELS]
        return {"object": "list", "data": data}

    @app.get("/_calls")
    async def calls() -> dict[str, Any]:
        return app.state.account.to_json()  # type: ignore[no-any-return]

    @app.delete("/_calls")
    async def forget() -> dict[str, str]:
        app.state.account.clear()
        return {"status": "forgotten"}

    return app


class _BrokenResponse(Response):
    """Promises a body and sends none, so that the server closes the connection in the middle of it."""

    def init_headers(self, headers: Any = None) -> None:
        super().init_headers(headers)
        self.raw_headers = [(b"content-type", b"application/json"), (b"content-length", b"1000")]
