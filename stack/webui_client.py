"""Open WebUI's HTTP API, as far as the seed and the demo use it: they act as an admin and as users would."""

from types import TracebackType
from typing import Any, Self

import httpx

from stack.errors import StackError


class WebUI:
    """One signed-in person."""

    def __init__(self, url: str, email: str, password: str) -> None:
        """Sign in.

        Raises:
            StackError: the login is refused.

        """
        self._client = httpx.Client(base_url=url, timeout=60, trust_env=False)
        person = self.call("POST", "/api/v1/auths/signin", {"email": email, "password": password})
        self.id: str = person["id"]
        self.token: str = person["token"]
        self._client.headers["Authorization"] = f"Bearer {self.token}"

    def __enter__(self) -> Self:
        """Use as a context manager."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        self._client.close()

    def send(self, method: str, path: str, body: Any = None) -> httpx.Response:
        """Send a request and return the answer, whatever it is."""
        return self._client.request(method, path, json=body)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        """Send a request and return the answer's JSON.

        Raises:
            StackError: the answer is an error.

        """
        answer = self.send(method, path, body)
        if answer.is_error:
            msg = f"Open WebUI answered {answer.status_code} to {method} {path}: {answer.text[:500]}"
            raise StackError(msg)
        return answer.json()

    def groups(self) -> dict[str, dict[str, Any]]:
        """Return all groups by name."""
        return {group["name"]: group for group in self.call("GET", "/api/v1/groups/")}

    def set_limits(self, name: str, limits: dict[str, Any] | None) -> None:
        """Write a group's limits as the group editor does; None takes them off."""
        group = self.groups()[name]
        body = {"name": group["name"], "description": group["description"], "data": {"usage_limits": limits}}
        self.call("POST", f"/api/v1/groups/id/{group['id']}/update", body)

    def chat(self, model: str, text: str, **more: Any) -> httpx.Response:
        """Ask a model through Open WebUI's API."""
        body = {"model": model, "messages": [{"role": "user", "content": text}], "stream": False, **more}
        return self.send("POST", "/api/chat/completions", body)
