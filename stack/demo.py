"""`make demo`: an admin sets a limit, a user meets it, the admin raises it, the user goes on. Each step is checked."""

import json
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any

import httpx
from rich.console import Console
from rich.markup import escape

from stack.endpoints import Endpoints
from stack.env_file import generate
from stack.errors import StackError
from stack.webui_client import WebUI

SOFT, HARD, RAISED = 600, 1_000, 5_000
QUESTION = "[[sim tokens=150]] Tell me a short story about a budget."
PROBE = "[[sim tokens=1]] hi"
"""As small as a question can be: it is asked again and again until a change holds."""
PATIENCE = 10.0
"""Seconds until a change by the admin must hold. (It should take less than five.)"""
AT_MOST = 12
"""Questions until the limit must have been met."""


class StoryError(Exception):
    """A step of the story did not go as told."""


@dataclass(frozen=True, slots=True)
class Reply:
    """What a user's question got."""

    status: int
    headers: httpx.Headers
    text: str
    error: dict[str, Any]

    @property
    def standing(self) -> str:
        """ok, soft or hard."""
        return str(self.headers.get("x-budget-status", ""))


def play(endpoints: Endpoints, console: Console) -> bool:
    """Tell the story on a running stack and return whether all of it came true. It leaves nothing behind."""
    name = f"demo-{generate('hex', 3)}"
    model = endpoints.models[0]
    admin = WebUI(endpoints.openwebui.url, endpoints.openwebui.admin_email, endpoints.openwebui.admin_password)
    cast = _Cast(admin, name)
    try:
        user = cast.enter(endpoints.openwebui.url)
        _story(console, admin, user, name, model)
    except (StoryError, StackError, httpx.HTTPError) as error:
        console.print(f"[red]✗ {escape(str(error))}[/red]")
        return False
    finally:
        cast.leave()
    console.print("[green]The whole story came true.[/green]")
    return True


def _story(console: Console, admin: WebUI, user: WebUI, group: str, model: str) -> None:
    def told(text: str) -> None:
        console.print(f"[green]✓[/green] {escape(text)}")

    # A first question takes a fresh stack seconds of its own; what is measured is how soon a limit holds.
    ask(user, model, PROBE)
    admin.set_limits(group, _limits(HARD))
    seconds = _until(lambda: _quota(ask(user, model, PROBE)) == HARD, f"the limit of {HARD} tokens holds")
    told(f"The admin gives group {group} {HARD:,} tokens a day per member; it holds after {seconds:.1f} s.")

    reply = _ask_until(user, model, lambda reply: reply.standing != "ok", "a warning")
    if reply.status != HTTPStatus.OK or reply.standing != "soft":
        msg = f"expected an answer with a warning, got {reply.status} and status {reply.standing!r}"
        raise StoryError(msg)
    told(f"The user chats until a warning comes with the answer: {reply.headers.get('x-budget-warning')}")

    reply = _ask_until(user, model, lambda reply: reply.status != HTTPStatus.OK, "a refusal")
    if reply.status != HTTPStatus.TOO_MANY_REQUESTS or reply.error.get("code") != "budget_exceeded":
        msg = f"expected 429 budget_exceeded, got {reply.status}: {reply.text[:300]}"
        raise StoryError(msg)
    told(f"Past the limit: 429, try again in {reply.headers.get('retry-after')} s: {reply.error.get('message')}")

    admin.set_limits(group, _limits(RAISED))
    seconds = _until(lambda: ask(user, model, PROBE).status == HTTPStatus.OK, "the user may go on")
    told(f"The admin raises the limit to {RAISED:,}; after {seconds:.1f} s the user goes on.")


def ask(user: WebUI, model: str, text: str) -> Reply:
    """Ask as a user of Open WebUI's API, streaming: the way on which its headers reach the client."""
    answer = user.chat(model, text, stream=True)
    error: dict[str, Any] = {}
    if answer.is_error:
        try:
            error = answer.json().get("error") or {}
        except json.JSONDecodeError:
            error = {"message": answer.text[:300]}
    return Reply(answer.status_code, answer.headers, answer.text, error)


def _ask_until(user: WebUI, model: str, enough: Callable[[Reply], bool], what: str) -> Reply:
    for _ in range(AT_MOST):
        reply = ask(user, model, QUESTION)
        if enough(reply):
            return reply
    msg = f"{AT_MOST} questions brought no {what}"
    raise StoryError(msg)


def _until(true: Callable[[], bool], what: str) -> float:
    start = time.monotonic()
    while not true():
        if time.monotonic() - start > PATIENCE:
            msg = f"after {PATIENCE:.0f} seconds it is still not so that {what}"
            raise StoryError(msg)
        time.sleep(0.3)
    return time.monotonic() - start


def _quota(reply: Reply) -> int | None:
    match = re.search(r'"daily";q=(\d+)', reply.headers.get("ratelimit-policy", ""))
    return int(match[1]) if match else None


def _limits(hard: int) -> dict[str, Any]:
    soft = SOFT if hard == HARD else hard - 500
    return {"version": 1, "priority": 1, "member": {"daily": {"soft": soft, "hard": hard}}}


class _Cast:
    """A user and a group that exist for the story alone, so that it can be played again the same day."""

    def __init__(self, admin: WebUI, name: str) -> None:
        self.admin = admin
        self.name = name
        self._user: str | None = None
        self._group: str | None = None

    def enter(self, url: str) -> WebUI:
        """Create both and sign the user in."""
        email, password = f"{self.name}@example.com", generate("word", 16)
        person = {
            "name": "Demo",
            "email": email,
            "password": password,
            "role": "user",
            "profile_image_url": "/user.png",
        }
        self._user = self.admin.call("POST", "/api/v1/auths/add", person)["id"]
        body = {"name": self.name, "description": "made by make demo"}
        self._group = self.admin.call("POST", "/api/v1/groups/create", body)["id"]
        self.admin.call("POST", f"/api/v1/groups/id/{self._group}/users/add", {"user_ids": [self._user]})
        return WebUI(url, email, password)

    def leave(self) -> None:
        """Delete both."""
        if self._group:
            self.admin.send("DELETE", f"/api/v1/groups/id/{self._group}/delete")
        if self._user:
            self.admin.send("DELETE", f"/api/v1/users/{self._user}")
