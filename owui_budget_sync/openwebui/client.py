"""Talks to Open WebUI's HTTP API as an admin: with an API key, or signed in with e-mail and password.

No key is ever created here. A request is repeated a few times within a call (a restart, a dropped connection); longer
outages are the runner's business.
"""

import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from email.utils import parsedate_to_datetime
from types import TracebackType
from typing import Any, Self, TypeVar

import httpx
from pydantic import TypeAdapter, ValidationError
from tenacity import AsyncRetrying, retry_if_exception_type, stop_after_attempt, wait_random_exponential

from owui_budget.config import SyncSettings
from owui_budget.errors import ConfigurationError, SourceRefusedError, SourceUnavailableError
from owui_budget_sync.json_stream import objects

TIMEOUT = httpx.Timeout(30.0, connect=5.0)
ATTEMPTS = 3
_PASSING = {408, 425, 429}
_UNAUTHORIZED = {401, 403}

T = TypeVar("T")


class NotFoundError(SourceRefusedError):
    """Open WebUI knows no such object."""


class OpenWebuiClient:
    """An admin's session with Open WebUI's API."""

    def __init__(self, settings: SyncSettings, *, transport: httpx.AsyncBaseTransport | None = None) -> None:
        """Prepare; nothing is sent yet.

        Raises:
            ConfigurationError: the address, or both ways to sign in, are missing.

        """
        if not settings.openwebui_url:
            msg = "OWUI_BUDGET_OPENWEBUI_URL is not set; set it to Open WebUI's address, such as http://openwebui:8080"
            raise ConfigurationError(msg)
        self._key = settings.openwebui_api_key
        self._email = settings.openwebui_admin_email
        self._password = settings.openwebui_admin_password
        if not self._key and not (self._email and self._password):
            msg = (
                "no way into Open WebUI is set; set OWUI_BUDGET_OPENWEBUI_API_KEY to an admin's API key, or "
                "OWUI_BUDGET_OPENWEBUI_ADMIN_EMAIL and OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD"
            )
            raise ConfigurationError(msg)
        self._token: str | None = None
        self.url = settings.openwebui_url
        self._http = httpx.AsyncClient(base_url=self.url, timeout=TIMEOUT, transport=transport, follow_redirects=False)

    async def __aenter__(self) -> Self:
        """Use as a context: closes at its end."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self.close()

    async def close(self) -> None:
        """Close the connections."""
        await self._http.aclose()

    async def get(self, path: str, shape: type[T]) -> T:
        """Read `path` as `shape`.

        Raises:
            SourceUnavailableError: down, slow, or answering 5xx.
            SourceRefusedError: refused (NotFoundError for 404), or the answer is not of that shape.

        """
        value, _ = await self.get_at(path, shape)
        return value

    async def get_at(self, path: str, shape: type[T]) -> tuple[T, float | None]:
        """Read `path` as `shape`, with the moment of the answer by Open WebUI's own clock (epoch seconds)."""
        response = await self._send("GET", path)
        return self._read(response, shape), _date(response)

    async def post(self, path: str, body: object = None) -> Any:
        """Send `body` to `path`; return the answer's JSON. Raises like `get`."""
        return self._read(await self._send("POST", path, body), object)

    async def delete(self, path: str) -> Any:
        """Delete `path`. Raises like `get`."""
        return self._read(await self._send("DELETE", path), object)

    async def ask(self, method: str, path: str, body: object = None) -> httpx.Response:
        """Send one request and return the answer, whatever its status: for checks, to which a refusal tells something.

        Raises:
            SourceUnavailableError, SourceRefusedError: there is no answer, or the sign-in failed.

        """
        if self._token is None and not self._key:
            await self._sign_in()
        return await self._once(method, path, body, stream=False)

    async def stream(self, path: str, key: str) -> AsyncIterator[Any]:
        """Yield the items of the list `key` of the answer one by one. Raises like `get`, possibly after some items."""
        async with self._opened(path) as response:
            try:
                async for item in objects(response.aiter_text(65_536), key=key):
                    yield item
            except httpx.TransportError as error:
                msg = f"Open WebUI at {self.url} broke off its answer to GET {path}: {_name(error)}"
                raise SourceUnavailableError(msg) from error
            except ValueError as error:
                msg = f"Open WebUI at {self.url} answered GET {path} with something unreadable: {error}"
                raise SourceRefusedError(msg) from error

    @asynccontextmanager
    async def _opened(self, path: str) -> AsyncIterator[httpx.Response]:
        response = await self._send("GET", path, stream=True)
        try:
            yield response
        finally:
            await response.aclose()

    async def _send(self, method: str, path: str, body: object = None, *, stream: bool = False) -> httpx.Response:
        # Only reading is repeated: a write whose answer was lost may have been done.
        async for attempt in AsyncRetrying(
            retry=retry_if_exception_type(SourceUnavailableError),
            stop=stop_after_attempt(ATTEMPTS if method == "GET" else 1),
            wait=wait_random_exponential(multiplier=0.2, max=2),
            reraise=True,
        ):
            with attempt:
                return await self._signed_in(method, path, body, stream=stream)
        raise AssertionError  # pragma: no cover - the loop returns or raises

    async def _signed_in(self, method: str, path: str, body: object, *, stream: bool) -> httpx.Response:
        renewed = self._token is None and not self._key
        if renewed:
            await self._sign_in()
        response = await self._once(method, path, body, stream=stream)
        if response.status_code in _UNAUTHORIZED and not self._key and not renewed:
            await response.aclose()
            await self._sign_in()  # sessions end; the password is asked once more before it counts as a refusal
            response = await self._once(method, path, body, stream=stream)
        if response.is_success:
            return response
        await response.aread()
        raise self._failure(method, path, response)

    async def _once(self, method: str, path: str, body: object, *, stream: bool) -> httpx.Response:
        secret = self._key.get_secret_value() if self._key else self._token
        request = self._http.build_request(
            method, path, json=body if body is not None else None, headers={"Authorization": f"Bearer {secret}"}
        )
        try:
            return await self._http.send(request, stream=stream)
        except httpx.TransportError as error:
            msg = f"Open WebUI at {self.url} did not answer {method} {path}: {_name(error)}"
            raise SourceUnavailableError(msg) from error

    async def _sign_in(self) -> None:
        assert self._password is not None  # noqa: S101 - checked at the start, where there is no key
        body = {"email": self._email, "password": self._password.get_secret_value()}
        path = "/api/v1/auths/signin"
        try:
            response = await self._http.post(path, json=body)
        except httpx.TransportError as error:
            msg = f"Open WebUI at {self.url} did not answer the sign-in: {_name(error)}"
            raise SourceUnavailableError(msg) from error
        if response.status_code in (400, *_UNAUTHORIZED):
            msg = (
                f"Open WebUI at {self.url} refused the sign-in of {self._email}; check "
                "OWUI_BUDGET_OPENWEBUI_ADMIN_EMAIL and OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD, or set an API key"
            )
            raise SourceRefusedError(msg)
        if response.status_code == httpx.codes.TOO_MANY_REQUESTS:
            msg = (
                f"Open WebUI at {self.url} takes no more sign-ins of {self._email} for now (15 within three minutes); "
                "wait three minutes, or set OWUI_BUDGET_OPENWEBUI_API_KEY: a key needs no sign-in"
            )
            raise SourceUnavailableError(msg)
        if not response.is_success:
            raise self._failure("POST", path, response)
        session = self._read(response, dict[str, Any])
        self._token = str(session.get("token") or "")
        if not self._token:
            msg = f"Open WebUI at {self.url} answered the sign-in without a token; is this address really Open WebUI?"
            raise SourceRefusedError(msg)

    def _failure(self, method: str, path: str, response: httpx.Response) -> Exception:
        status = response.status_code
        where = f"Open WebUI at {self.url} answered {method} {path} with {status}"
        if status >= httpx.codes.INTERNAL_SERVER_ERROR or status in _PASSING:
            return SourceUnavailableError(where)
        if status == httpx.codes.NOT_FOUND:
            return NotFoundError(f"{where}: not there{_detail(response)}")
        if status in _UNAUTHORIZED:
            name = "OWUI_BUDGET_OPENWEBUI_API_KEY" if self._key else "the admin's account"
            return SourceRefusedError(
                f"{where}{_detail(response)}; {name} is no admin's, was deleted or has expired: give an admin's"
            )
        return SourceRefusedError(f"{where}{_detail(response)}")

    def _read(self, response: httpx.Response, shape: type[T]) -> T:
        where = f"Open WebUI at {self.url} answered {response.request.method} {response.request.url.path}"
        try:
            return TypeAdapter(shape).validate_python(response.json())
        except (json.JSONDecodeError, UnicodeDecodeError) as error:
            kind = response.headers.get("content-type", "an unknown type")
            msg = f"{where} with something that is not JSON ({kind}); is this address really Open WebUI?"
            raise SourceRefusedError(msg) from error
        except ValidationError as error:
            fault = error.errors(include_url=False, include_input=False)[0]
            place = ".".join(str(part) for part in fault["loc"])
            msg = f"{where} with JSON this release does not know ({place}: {fault['msg']}); check Open WebUI's version"
            raise SourceRefusedError(msg) from error


def _date(response: httpx.Response) -> float | None:
    try:
        return parsedate_to_datetime(response.headers["date"]).timestamp()
    except (KeyError, ValueError):
        return None


def _detail(response: httpx.Response) -> str:
    try:
        detail = response.json()["detail"]
    except (ValueError, KeyError, TypeError):
        return ""
    return f" ({str(detail)[:120]})"


def _name(error: Exception) -> str:
    """Name a transport error; its own text is empty for timeouts."""
    return f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
