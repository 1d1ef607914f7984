"""The sync job's HTTP side.

| route | who | answer |
|---|---|---|
| GET /health | anybody | 200 with a status word and reasons; 503 only where a restart may help |
| GET /metrics | anybody | Prometheus text, no names |
| POST /trigger | whoever signs with the trigger secret | 202; a sync starts at once |
| GET /status | whoever signs with the trigger secret (an empty body) | the health answer and notes that name groups |

Signed requests carry `X-Budget-Timestamp` and `X-Budget-Signature` (see `signature`). Without a trigger secret the two
signed routes answer 404. Failures are 401, and 429 once an address has failed too often.
"""

import json
from collections import OrderedDict
from collections.abc import Callable
from typing import Any

from fastapi import FastAPI, HTTPException, Request, Response
from prometheus_client import CONTENT_TYPE_LATEST, generate_latest

from owui_budget import __version__
from owui_budget.clock import Clock
from owui_budget_sync.health import Health
from owui_budget_sync.policy_sync import Depth
from owui_budget_sync.signature import SIGNATURE, TIMESTAMP, SignatureCheck

BODY_LIMIT = 65_536
"""Bytes; a trigger has about a hundred."""
FAILURES = 20
"""Unsigned requests per address and minute before 429."""
MINUTE = 60.0
ADDRESSES = 1_000


class FailureLimit:
    """Counts failures per address and minute, for a bounded number of addresses."""

    def __init__(self, clock: Clock) -> None:
        """Start with none."""
        self._clock = clock
        self._failures: OrderedDict[str, tuple[float, int]] = OrderedDict()

    def exceeded(self, address: str) -> bool:
        """Whether `address` has failed too often in its current minute."""
        since, count = self._failures.get(address, (0.0, 0))
        return count >= FAILURES and self._clock.now() - since < MINUTE

    def failed(self, address: str) -> None:
        """Count one failure."""
        now = self._clock.now()
        since, count = self._failures.pop(address, (now, 0))
        self._failures[address] = (now, 1) if now - since >= MINUTE else (since, count + 1)
        while len(self._failures) > ADDRESSES:
            self._failures.popitem(last=False)


def make_app(health: Health, secret: str | None, trigger: Callable[[Depth], None]) -> FastAPI:
    """Return the application; `trigger` asks the running sync for a look."""
    app = FastAPI(title="owui-budget sync", version=__version__, docs_url=None, redoc_url=None, openapi_url=None)
    check = SignatureCheck(secret, health.clock) if secret else None
    failures = FailureLimit(health.clock)

    async def signed_body(request: Request) -> bytes:
        if check is None:
            raise HTTPException(404, "OWUI_BUDGET_TRIGGER_SECRET is not set")
        address = request.client.host if request.client else "unknown"
        body = await _bounded(request)
        if not check.accepts(request.headers.get(TIMESTAMP), request.headers.get(SIGNATURE), body):
            # Only failures are held back: whoever signs is heard, even from behind the same address.
            if failures.exceeded(address):
                health.metrics.triggers.labels("limited").inc()
                raise HTTPException(429, "too many unsigned requests", headers={"Retry-After": "60"})
            failures.failed(address)
            health.metrics.triggers.labels("refused").inc()
            raise HTTPException(401, "the signature is missing, wrong, too old, or was used before")
        return body

    @app.get("/health")
    async def show_health(response: Response) -> dict[str, Any]:
        response.status_code = 200 if health.alive() else 503
        return health.to_json()

    @app.get("/metrics")
    async def show_metrics() -> Response:
        health.publish()
        return Response(generate_latest(health.metrics.registry), media_type=CONTENT_TYPE_LATEST)

    @app.post("/trigger", status_code=202)
    async def take_trigger(request: Request) -> dict[str, str]:
        depth = depth_of(await signed_body(request))
        trigger(depth)
        health.metrics.triggers.labels("accepted").inc()
        return {"looking_at": depth.value}

    @app.get("/status")
    async def show_status(request: Request) -> dict[str, Any]:
        await signed_body(request)
        return {**health.to_json(), "version": __version__, "notes": list(health.notes)}

    return app


def depth_of(body: bytes) -> Depth:
    """How much an event asks to read: users for events of users, everything on `{"event": "all"}`, else groups."""
    try:
        event = str(json.loads(body).get("event", ""))
    except (ValueError, AttributeError):
        return Depth.GROUPS
    if event == "all":
        return Depth.ALL
    return Depth.USERS if event.startswith(("user.", "auth.")) else Depth.GROUPS


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_LIMIT:
            raise HTTPException(413, "the body is too long")
    return bytes(body)
