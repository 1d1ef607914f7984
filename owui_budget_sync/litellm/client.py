"""Talks to LiteLLM's admin API with the master key, at a bounded pace: the same process serves everybody's chats."""

import asyncio
import time
from collections.abc import AsyncIterator, Mapping
from typing import Any

import httpx
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from owui_budget.config import SyncSettings
from owui_budget.errors import ConfigurationError, TargetRefusedError, TargetUnavailableError
from owui_budget_sync.json_stream import objects

TIMEOUT = httpx.Timeout(60.0, connect=5.0)
ATTEMPTS = 3
_PASSING = {408, 425, 429}


class RequestRefusedError(TargetRefusedError):
    """LiteLLM refused one request; `status` and `text` say why."""

    def __init__(self, message: str, status: int, text: str) -> None:
        """Keep what LiteLLM said."""
        super().__init__(message)
        self.status = status
        self.text = text


class LitellmAdmin:
    """An admin's session with LiteLLM's API.

    Every method raises `TargetUnavailableError` when a later try may succeed (down, slow, 5xx) and
    `TargetRefusedError` when LiteLLM refused, or answered something this release does not know.
    """

    def __init__(
        self, settings: SyncSettings, *, rate: float | None = None, transport: httpx.AsyncBaseTransport | None = None
    ) -> None:
        """Prepare; nothing is sent yet. `rate` is in requests per second, None for as fast as it goes.

        Raises:
            ConfigurationError: address or master key are missing.

        """
        if not settings.litellm_url or not settings.litellm_master_key:
            msg = (
                "LiteLLM's admin API is not set; set OWUI_BUDGET_LITELLM_URL (such as http://litellm:4000) and "
                "OWUI_BUDGET_LITELLM_MASTER_KEY"
            )
            raise ConfigurationError(msg)
        self.url = settings.litellm_url
        self._pause = 1 / rate if rate else 0.0
        self._next = 0.0
        self._http = httpx.AsyncClient(
            base_url=self.url,
            timeout=TIMEOUT,
            transport=transport,
            headers={"Authorization": f"Bearer {settings.litellm_master_key.get_secret_value()}"},
        )

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, params: Mapping[str, str | int] | None = None) -> Any:
        """Read `path`; a failure that may pass is repeated a few times."""
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(TargetUnavailableError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        ):
            with attempt:
                return await self._request("GET", path, params=params)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def post(self, path: str, body: Mapping[str, Any]) -> Any:
        """Send `body` to `path`, once: whoever plans anew after a failure sees what was done."""
        return await self._request("POST", path, json=body)

    async def patch(self, path: str, body: Mapping[str, Any]) -> Any:
        """Change part of `path`, once."""
        return await self._request("PATCH", path, json=body)

    async def stream(self, path: str) -> AsyncIterator[Any]:
        """Yield the items of a list that LiteLLM serves in one piece."""
        await self._pace()
        try:
            async with self._http.stream("GET", path) as response:
                if not response.is_success:
                    await response.aread()
                    raise self._failure("GET", path, response)
                async for item in objects(response.aiter_text(65_536)):
                    yield item
        except httpx.TransportError as error:
            raise self._no_answer("GET", path, error) from error
        except ValueError as error:
            msg = f"LiteLLM at {self.url} answered GET {path} with something unreadable: {error}"
            raise TargetRefusedError(msg) from error

    async def _request(self, method: str, path: str, **content: Any) -> Any:
        await self._pace()
        try:
            response = await self._http.request(method, path, **content)
        except httpx.TransportError as error:
            raise self._no_answer(method, path, error) from error
        if not response.is_success:
            raise self._failure(method, path, response)
        try:
            return response.json()
        except ValueError as error:
            kind = response.headers.get("content-type", "an unknown type")
            msg = f"LiteLLM at {self.url} answered {method} {path} with something that is not JSON ({kind})"
            raise TargetRefusedError(msg) from error

    async def _pace(self) -> None:
        if not self._pause:
            return
        now = time.monotonic()
        self._next = max(self._next + self._pause, now)
        await asyncio.sleep(self._next - now)

    def _no_answer(self, method: str, path: str, error: httpx.TransportError) -> TargetUnavailableError:
        # Timeouts carry no text of their own.
        what = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
        return TargetUnavailableError(f"LiteLLM at {self.url} did not answer {method} {path}: {what}")

    def _failure(self, method: str, path: str, response: httpx.Response) -> Exception:
        status, text = response.status_code, _text(response)
        where = f"LiteLLM at {self.url} answered {method} {path} with {status}: {text}"
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
            return TargetUnavailableError(where)
        if status in (httpx.codes.UNAUTHORIZED, httpx.codes.FORBIDDEN):
            where = (
                f"LiteLLM at {self.url} answered {method} {path} with {status}; check OWUI_BUDGET_LITELLM_MASTER_KEY"
            )
        elif status == httpx.codes.BAD_REQUEST and "no_db" in response.text:
            where = f"LiteLLM at {self.url} has no database, so it keeps no teams and customers; give it DATABASE_URL"
        return RequestRefusedError(where, status, text)


def _text(response: httpx.Response) -> str:
    """LiteLLM's own words, in whichever of its shapes they come, cut short."""
    try:
        body = response.json()
    except ValueError:
        return response.text[:120]
    found = body.get("error", body.get("detail", body)) if isinstance(body, dict) else body
    if isinstance(found, dict):
        found = found.get("message", found.get("error", found))
    return str(found)[:200]
