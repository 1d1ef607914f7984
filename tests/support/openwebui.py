"""The whole stack through Open WebUI: people, groups and chats, made as admins, API clients and browsers make them."""

import json
import subprocess
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import cached_property
from types import TracebackType
from typing import Any, Literal, Self
from uuid import uuid4

import httpx
import psycopg
from support.proxied import Person, Proxied, eventually
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection, connect

from owui_budget.domain.limits import parse_limits
from stack import sync
from stack.run import Stack
from stack.surroundings import shell
from stack.webui_client import WebUI

Door = Literal["jwt", "sk-"]
"""How a client of Open WebUI's API signs in: with the token of a session, or with an API key."""

IN_FORCE = 15.0
"""Seconds within which a change by an admin must hold here: half of sync's interval, so the trigger has brought it.
On a machine that is not busy it takes less than one; `make demo` prints how long."""
LONGEST_TEST = 60.0
"""Seconds that a test may take."""
TASKS = {"title_generation": True, "tags_generation": True, "follow_up_generation": True}
"""What the frontend asks for with the first message of a chat."""


class House:
    """A running stack and what its people do in it."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        ends = stack.endpoints
        self.url = ends.openwebui.url
        self.proxied = Proxied(stack)
        self.admin = WebUI(self.url, ends.openwebui.admin_email, ends.openwebui.admin_password)
        self._ahead = 0.0

    def close(self) -> None:
        self.admin.__exit__(None, None, None)
        self.proxied.close()

    # --- people and groups

    def user(self, *groups: str, role: str = "user") -> "User":
        """A new user of Open WebUI, a direct member of `groups`."""
        name = f"u{uuid4().hex[:10]}"
        wish = {"name": f"Some Body {name}", "email": f"{name}@example.com", "password": f"pw-{name}", "role": role}
        person = self.admin.call("POST", "/api/v1/auths/add", {**wish, "profile_image_url": "/user.png"})
        user = User(self, person["id"], person["name"], person["email"], wish["password"], person["token"])
        for group in groups:
            self.join(group, user)
        return user

    def join(self, group: str, *users: "User") -> None:
        body = {"user_ids": [user.id for user in users]}
        self.admin.call("POST", f"/api/v1/groups/id/{group}/users/add", body)

    def leave(self, group: str, *users: "User") -> None:
        body = {"user_ids": [user.id for user in users]}
        self.admin.call("POST", f"/api/v1/groups/id/{group}/users/remove", body)

    def group(
        self,
        member: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        *,
        priority: int = 10,
        parent: str | None = None,
        name: str | None = None,
        settled: bool = True,
    ) -> str:
        """A new group with limits (none if neither is given), in force when this returns."""
        limits = usage_limits(member, pool, priority=priority)
        body: dict[str, Any] = {"name": name or f"Group {uuid4().hex[:6]}", "description": "", "data": {}}
        if limits is not None:
            body["data"] = {"usage_limits": limits}
        if parent is not None:
            body["parent_group_id"] = parent
        group: str = self.admin.call("POST", "/api/v1/groups/create", body)["id"]
        if settled:
            self.wait_for_limits(group, limits)
        return group

    def limit(
        self,
        group: str,
        member: Mapping[str, Any] | None = None,
        pool: Mapping[str, Any] | None = None,
        *,
        priority: int = 10,
    ) -> None:
        """Change a group's limits (take them off if neither is given), in force when this returns."""
        limits = usage_limits(member, pool, priority=priority)
        self.write_limits(group, limits)
        self.wait_for_limits(group, limits)

    def write_limits(self, group: str, limits: object) -> None:
        """Write `limits`, whatever they are, as the group editor does, and wait for nothing."""
        known = self.admin.call("GET", f"/api/v1/groups/id/{group}")
        body = {"name": known["name"], "description": known["description"], "data": {"usage_limits": limits}}
        self.admin.call("POST", f"/api/v1/groups/id/{group}/update", body)

    def wait_for_limits(self, group: str, limits: dict[str, Any] | None, seconds: float = 40) -> None:
        """Wait until sync has carried `limits` to where the hooks read them."""
        wanted = parse_limits(limits)

        def carried() -> bool:
            known = self.proxied.store.groups().get(group)
            return known is not None and (known.limits or None) == (wanted or None)

        assert eventually(carried, bool, seconds=seconds), f"after {seconds} s sync has not carried {limits} of {group}"

    def name_of(self, group: str) -> str:
        name: str = self.admin.call("GET", f"/api/v1/groups/id/{group}")["name"]
        return name

    # --- time

    def set_clock(self) -> None:
        """Back to the machine's time, or just past the hour when it is about to end: no window ends in mid-test."""
        left = 3_600 - time.time() % 3_600
        self._ahead = left + 1 if left < LONGEST_TEST else 0.0
        self.proxied.move_clock(self._ahead)

    def pass_time(self, seconds: float) -> None:
        """Let the ledger's time go on by `seconds` at once."""
        self._ahead += seconds
        self.proxied.move_clock(self._ahead)

    def now(self) -> datetime:
        """The ledger's time."""
        return datetime.now(UTC) + timedelta(seconds=self._ahead)

    # --- what the operator has

    def budget(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        """Run `owui-budget` as the operator would, in the environment of the sync job."""
        variables = {**shell(), **self.stack.environment("sync")}
        command = [sync.executable(), *arguments]
        return subprocess.run(command, env=variables, capture_output=True, text=True, check=False, timeout=120)  # noqa: S603

    def analytics(self, user: "User") -> dict[str, int]:
        """Open WebUI's own count of a user's tokens, zero where it knows of none."""
        users = self.admin.call("GET", "/api/v1/analytics/users?limit=100000&metric=tokens")["users"]
        found = [each for each in users if each["user_id"] == user.id]
        names = ("count", "input_tokens", "output_tokens", "total_tokens")
        return {name: found[0][name] if found else 0 for name in names}

    def spend_logs(self, user: "User") -> list[dict[str, Any]]:
        """LiteLLM's own records of a user's calls."""
        query = (
            'SELECT team_id, end_user, call_type, total_tokens, model_group, metadata FROM "LiteLLM_SpendLogs"'
            ' WHERE end_user = %s ORDER BY "startTime"'
        )
        with psycopg.connect(self.stack.environment("litellm")["DATABASE_URL"]) as connection:
            cursor = connection.execute(query, [user.id])
            names = [column.name for column in cursor.description or ()]
            return [dict(zip(names, row, strict=True)) for row in cursor]


def usage_limits(
    member: Mapping[str, Any] | None, pool: Mapping[str, Any] | None, *, priority: int = 10
) -> dict[str, Any] | None:
    """What an admin writes to `data.usage_limits`."""
    if member is None and pool is None:
        return None
    return {"version": 1, "priority": priority, "member": member, "pool": pool}


@dataclass
class User:
    """One person with an account in Open WebUI."""

    house: House
    id: str
    name: str
    email: str
    password: str = field(repr=False)
    token: str = field(repr=False)

    @cached_property
    def ledger(self) -> Person:
        """The same person as our ledger knows it."""
        return self.house.proxied.person(user_id=self.id)

    @cached_property
    def api_key(self) -> str:
        key: str = self.post("/api/v1/auths/api_key", None).json()["api_key"]
        return key

    def post(self, path: str, body: Any, door: Door = "jwt", **options: Any) -> httpx.Response:
        return self.request("POST", path, door, json=body, **options)

    def get(self, path: str) -> Any:
        return self.request("GET", path).json()

    def request(self, method: str, path: str, door: Door = "jwt", **options: Any) -> httpx.Response:
        bearer = self.token if door == "jwt" else self.api_key
        headers = {"Authorization": f"Bearer {bearer}", **options.pop("headers", {})}
        return httpx.request(method, f"{self.house.url}{path}", headers=headers, timeout=60, trust_env=False, **options)

    def ask(
        self, text: str = "[[sim tokens=10]] hi", model: str = "sim-gpt", *, door: Door = "jwt", **body: Any
    ) -> httpx.Response:
        """Ask a model as an API client does; a stream is read to its end."""
        messages = [{"role": "user", "content": text}]
        return self.post("/api/chat/completions", {"model": model, "messages": messages, **body}, door)

    def spend(self, tokens: int = 30) -> int:
        """Ask once, more than `tokens`, and return what is used today when it has been counted."""
        before = self.events(0)
        answer = self.ask(f"[[sim tokens={tokens}]] hi")
        assert answer.status_code == 200, answer.text
        self.events(len(before) + 1)
        return self.used()

    def events(self, count: int = 1) -> list[dict[str, Any]]:
        """The ledger's usage events, once there are `count` and nothing is held any more."""
        return self.ledger.events(count)

    def used(self, window: str = "daily") -> int:
        return self.ledger.used(window)

    @contextmanager
    def browser(self) -> Iterator["Browser"]:
        """An open tab of Open WebUI, as far as its server can tell."""
        with Browser(self) as browser:
            yield browser


class Browser:
    """Open WebUI's websocket as its frontend uses it (Engine.IO 4, Socket.IO 5), listening in a thread."""

    def __init__(self, user: User) -> None:
        self.user = user
        self.events: list[dict[str, Any]] = []
        self._news = threading.Condition()
        self._socket: ClientConnection
        self._thread: threading.Thread
        self.session_id = ""

    def __enter__(self) -> Self:
        address = self.user.house.url.replace("http://", "ws://")
        origin = {"origin": self.user.house.url}
        self._socket = connect(
            f"{address}/ws/socket.io/?EIO=4&transport=websocket", additional_headers=origin, proxy=None
        )
        assert str(self._socket.recv(10)).startswith("0"), "no Engine.IO handshake"
        self._socket.send("40" + json.dumps({"token": self.user.token}))
        answer = str(self._socket.recv(10))
        assert answer.startswith("40"), answer
        self.session_id = json.loads(answer[2:])["sid"]
        self._thread = threading.Thread(target=self._listen, daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._socket.close()
        self._thread.join(10)

    def _listen(self) -> None:
        try:
            for packet in self._socket:
                text = str(packet)
                if text == "2":
                    self._socket.send("3")
                elif text.startswith("42"):
                    name, *arguments = json.loads(text[text.index("[") :])
                    if name == "events":
                        with self._news:
                            self.events.append(arguments[0])
                            self._news.notify_all()
        except ConnectionClosed:
            return

    def wait(self, look: Callable[[list[dict[str, Any]]], Any], what: str, seconds: float = 30) -> Any:
        """Wait until `look` finds something in what has arrived."""
        end = time.monotonic() + seconds
        with self._news:
            while not (found := look(self.events)):
                left = end - time.monotonic()
                assert left > 0, f"{what} did not come within {seconds} s; the last events: {self.events[-5:]}"
                self._news.wait(left)
            return found

    @property
    def toasts(self) -> list[dict[str, Any]]:
        """The notifications that the frontend would have shown, each with its chat's and message's id."""
        with self._news:
            return [
                {**event["data"]["data"], "chat_id": event["chat_id"], "message_id": event["message_id"]}
                for event in self.events
                if event["data"]["type"] == "notification"
            ]

    def saved_chat(self, *models: str) -> "Chat":
        return Chat(self, models or ("sim-gpt",))

    def temporary_chat(self, *models: str) -> "Chat":
        return Chat(self, models or ("sim-gpt",), id=f"temporary:{self.session_id}", temporary=True)


@dataclass(frozen=True)
class Reply:
    """What the frontend learned of one answer."""

    id: str
    text: str
    error: str | None
    usage: dict[str, Any] | None


@dataclass
class Chat:
    """One chat in the browser; what it sends is what Open WebUI 0.12.4's frontend sends."""

    browser: Browser
    models: tuple[str, ...]
    id: str | None = None
    """None until the first message has made the chat."""
    temporary: bool = False
    _last: str | None = None
    _messages: list[dict[str, Any]] = field(default_factory=list)

    def say(self, text: str = "[[sim tokens=10]] hi", *, tasks: bool = False, **more: Any) -> Reply:
        """Send one message and wait for the (first model's) whole answer."""
        return self.say_all(text, tasks=tasks, **more)[0]

    def say_all(self, text: str = "[[sim tokens=10]] hi", *, tasks: bool = False, **more: Any) -> list[Reply]:
        """Send one message and wait for the answers of all models, and for the background tasks if they are wished."""
        user, mine, theirs = self.browser.user, str(uuid4()), [str(uuid4()) for _ in self.models]
        first = self._last is None
        message = {
            "id": mine,
            "parentId": self._last,
            "childrenIds": theirs,
            "role": "user",
            "user": {"id": user.id, "name": user.name},
            "user_id": user.id,
            "content": text,
            "timestamp": int(time.time()),
            "models": list(self.models),
        }
        wished = TASKS if first and not self.temporary else {"follow_up_generation": True}
        body = {
            "stream": True,
            "model": self.models[0],
            "params": {"model_controls": {}},
            "tool_ids": [],
            "tool_servers": [],
            "features": {"voice": False, "image_generation": False, "code_interpreter": False, "web_search": False},
            "variables": {"{{USER_NAME}}": user.name, "{{USER_LANGUAGE}}": "en-US"},
            "session_id": self.browser.session_id,
            "id": theirs[0],
            "message_ids": [
                {"model_id": model, "message_id": answer, "modelIdx": index}
                for index, (model, answer) in enumerate(zip(self.models, theirs, strict=True))
            ],
            "parent_id": self._last,
            "user_message": message,
            "background_tasks": wished if tasks else {},
            **more,
        }
        if self.id is not None:
            body["chat_id"] = self.id
        if self.temporary:
            self._messages.append({"id": mine, "role": "user", "content": text})
            body["messages"] = self._messages
        answer = user.post("/api/chat/completions", body)
        assert answer.status_code == 200, answer.text
        self.id = answer.json()["chat_id"]
        replies = [self._reply(each) for each in theirs]
        self._last = theirs[0]
        if self.temporary:
            self._messages.append({"role": "assistant", "content": replies[0].text})
        self.browser.wait(lambda events: not self._active(events), "the end of the chat's tasks")
        return replies

    def stored(self, reply: Reply) -> dict[str, Any]:
        """The answer as Open WebUI keeps it."""
        message: dict[str, Any] = self.browser.user.get(f"/api/v1/chats/{self.id}")["chat"]["history"]["messages"][
            reply.id
        ]
        return message

    def delete(self) -> None:
        assert self.browser.user.request("DELETE", f"/api/v1/chats/{self.id}").json() is True

    def _reply(self, message_id: str) -> Reply:
        def look(events: list[dict[str, Any]]) -> Reply | None:
            usage = None
            for event in events:
                if event.get("message_id") != message_id:
                    continue
                data = event["data"].get("data") or {}
                if event["data"]["type"] == "chat:message:error":
                    return Reply(message_id, "", _error_text(data["error"]), None)
                if event["data"]["type"] == "chat:completion":
                    usage = data.get("usage") or usage
                    if data.get("error"):
                        return Reply(message_id, "", _error_text(data["error"]), usage)
                    if data.get("done"):
                        return Reply(message_id, _text(data), None, usage)
            return None

        reply: Reply = self.browser.wait(look, "the answer")
        return reply

    def _active(self, events: list[dict[str, Any]]) -> bool:
        states = [
            event["data"]["data"]["active"]
            for event in events
            if event.get("chat_id") == self.id and event["data"]["type"] == "chat:active"
        ]
        return not states or states[-1]


def _error_text(error: Any) -> str:
    content = error.get("content", error) if isinstance(error, dict) else error
    if isinstance(content, dict):
        inner = content.get("error", content)
        content = inner.get("message", inner) if isinstance(inner, dict) else inner
    return str(content)


def _text(data: Mapping[str, Any]) -> str:
    if data.get("content"):
        return str(data["content"])
    parts = [part for item in data.get("output") or () for part in item.get("content") or ()]
    return "".join(str(part.get("text", "")) for part in parts)
