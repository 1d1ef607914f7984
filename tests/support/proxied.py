"""A real LiteLLM with our hooks in front of the simulated provider; groups are put straight into the policy store."""

import base64
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, TypeVar
from uuid import uuid4

import httpx
import jwt
import sqlalchemy as sa
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.tables import counters, policy_groups, reservations, usage_events
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import parse_limits
from owui_budget.ledger import audit, upkeep
from owui_budget.policy_store.store import SqlPolicyStore
from owui_budget.policy_store.values import (
    ChangeMembers,
    Fence,
    PutGroup,
    PutUser,
    RemoveGroup,
    StoredGroup,
    StoredUser,
)
from stack.run import Stack

T = TypeVar("T")

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


def eventually(look: Callable[[], T], until: Callable[[T], bool], seconds: float = 25) -> T:
    """Look again and again until it is as wanted; the last look is returned either way, for the assertion to show."""
    end = time.monotonic() + seconds
    while True:
        seen = look()
        if until(seen) or time.monotonic() > end:
            return seen
        time.sleep(0.05)


@dataclass(frozen=True)
class Person:
    """An Open WebUI user as LiteLLM sees one: calls on the connection key with a signed JWT."""

    proxied: "Proxied"
    id: str
    groups: tuple[str, ...] = ()
    role: str = "user"
    more: dict[str, str] = field(default_factory=dict)

    def headers(self, **headers: str) -> dict[str, str]:
        connection = {
            "X-OpenWebUI-User-Jwt": self.proxied.sign(self.id, role=self.role),
            "X-OpenWebUI-Group-Ids": ",".join(self.groups),
            "X-OpenWebUI-Task": "",
            "X-OpenWebUI-Message-Id": "",
            "X-OpenWebUI-Chat-Id": "",
            **self.more,
            **headers,
        }
        return {"Authorization": f"Bearer {self.proxied.connection_key}", **connection}

    def post(self, path: str, body: Any = None, **options: Any) -> httpx.Response:
        headers = self.headers(**options.pop("headers", {}))
        return self.proxied.http.post(path, json=body, headers=headers, **options)

    def chat(self, text: str = "[[sim tokens=10]] hi", model: str = "sim-gpt", **body: Any) -> httpx.Response:
        headers = body.pop("headers", {})
        content = {"model": model, "messages": [{"role": "user", "content": text}], **body}
        return self.post("/v1/chat/completions", content, headers=headers)

    @contextmanager
    def streaming(self, path: str, body: dict[str, Any], **options: Any) -> Iterator[httpx.Response]:
        headers = self.headers(**options.pop("headers", {}))
        with self.proxied.http.stream("POST", path, json=body, headers=headers, **options) as response:
            yield response

    def in_chat(self, chat_id: str | None = None, task: str = "") -> "Person":
        """The same person in a browser chat (or a background task of one)."""
        headers = {
            "X-OpenWebUI-Chat-Id": chat_id or str(uuid4()),
            "X-OpenWebUI-Message-Id": "" if task else str(uuid4()),
            "X-OpenWebUI-Task": task,
        }
        return Person(self.proxied, self.id, self.groups, self.role, {**self.more, **headers})

    def events(self, count: int = 1) -> list[dict[str, Any]]:
        """The user's usage events, once there are `count` and nothing is held any more."""

        def look() -> list[dict[str, Any]]:
            return self.proxied.events(self.id)

        return eventually(look, lambda rows: len(rows) >= count and not self.proxied.open(self.id))

    def used(self, window: str = "daily") -> int:
        return self.proxied.counter(f"user:{self.id}", f"{window}_used")

    def held(self) -> int:
        return self.proxied.counter(f"user:{self.id}", "daily_held")


class Proxied:
    """One running proxy, its ledger, and what tests do to both."""

    def __init__(self, stack: Stack, url: str | None = None) -> None:
        self.stack = stack
        ends = stack.endpoints
        self.litellm = ends.litellm
        self.connection_key = ends.litellm.openwebui_key
        self.http = httpx.Client(base_url=url or ends.litellm.url, timeout=60, trust_env=False)
        self.provider = httpx.Client(base_url=ends.upstream.url, timeout=30, trust_env=False)
        self.engine = make_engine(LedgerSettings(database_url=SecretStr(ends.ledger.url)))
        self.store = SqlPolicyStore(self.engine)

    def close(self) -> None:
        self.http.close()
        self.provider.close()
        self.engine.dispose()

    # --- people and groups

    def sign(self, user_id: str, role: str = "user", secret: str | None = None, **claims: Any) -> str:
        now = int(time.time())
        content = {"sub": user_id, "email": f"{user_id}@example.com", "name": "Some Body", "role": role,
                   "iss": "open-webui", "iat": now, "exp": now + 300, **claims}  # fmt: skip
        return jwt.encode(content, secret or self.litellm.jwt_secret, algorithm="HS256")

    def person(self, *groups: str, role: str = "user", user_id: str | None = None) -> Person:
        """A new user in `groups` (as the request's header says)."""
        return Person(self, user_id or f"u-{uuid4().hex[:12]}", groups, role)

    def known(self, person: Person) -> Person:
        """Also make sync's tables know the user and the memberships."""
        user = StoredUser(person.id, f"{person.id}@example.com", "Some Body", Role.parse(person.role))
        members = [ChangeMembers(group, added=frozenset({person.id})) for group in person.groups]
        self._write([PutUser(user), *members])
        return person

    def group(
        self,
        member: dict[str, Any] | None = None,
        pool: dict[str, Any] | None = None,
        *,
        priority: int = 10,
        name: str | None = None,
        parent: str | None = None,
        group_id: str | None = None,
    ) -> str:
        """Create (or change) a group with limits and return its id."""
        limits = {"version": 1, "priority": priority, "member": member, "pool": pool}
        group_id = group_id or str(uuid4())
        self._write([PutGroup(StoredGroup(group_id, name or f"Group {group_id[:6]}", parent, parse_limits(limits)))])
        return group_id

    def without_group(self, group_id: str) -> None:
        self._write([RemoveGroup(group_id)])

    def _write(self, changes: Sequence[Any]) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                sa.text(
                    "INSERT INTO owui_budget.sync_state (id, fence, lease_until, problems, cursor)"
                    " VALUES (1, 0, 0, '[]', '{}') ON CONFLICT DO NOTHING"
                )
            )
            fence = connection.execute(sa.text("SELECT fence FROM owui_budget.sync_state")).scalar_one()
        self.store.write(changes, Fence(fence))

    # --- the ledger

    def events(self, user_id: str | None = None) -> list[dict[str, Any]]:
        query = sa.select(usage_events).order_by(usage_events.c.recorded_at)
        if user_id is not None:
            query = query.where(usage_events.c.user_id == user_id)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query).mappings()]

    def events_of_service(self, service_id: str) -> list[dict[str, Any]]:
        query = sa.select(usage_events).where(usage_events.c.service_id == service_id)
        with self.engine.connect() as connection:
            return [dict(row) for row in connection.execute(query.order_by(usage_events.c.recorded_at)).mappings()]

    def open(self, user_id: str) -> int:
        """How many reservations of the user are open."""
        with self.engine.connect() as connection:
            rows = connection.execute(sa.select(reservations.c.call).where(reservations.c.state == "held")).scalars()
            return sum(row.get("user_id") == user_id for row in rows)

    def counter(self, key: str, column: str) -> int:
        with self.engine.connect() as connection:
            value = connection.execute(sa.select(counters.c[column]).where(counters.c.key == key)).scalar()
        return value or 0

    def discrepancies(self) -> list[Any]:
        return list(audit.verify(self.engine))

    def move_clock(self, seconds: float) -> None:
        """Set the test clock `seconds` ahead of the machine's (0: back to it)."""
        upkeep.set_clock_offset(self.engine, seconds)

    def problems_of_group(self, group_id: str) -> str | None:
        with self.engine.connect() as connection:
            return connection.execute(sa.select(policy_groups.c.problem).where(policy_groups.c.id == group_id)).scalar()

    # --- the provider and LiteLLM's own API

    def calls(self) -> list[dict[str, Any]]:
        answer: dict[str, Any] = self.provider.get("/_calls").json()
        calls: list[dict[str, Any]] = answer["calls"]
        return calls

    def calls_with(self, text: str) -> list[dict[str, Any]]:
        """The provider's own record of calls whose body holds `text`."""
        return [call for call in self.calls() if text in str(call["body"])]

    def admin(self, method: str, path: str, **options: Any) -> httpx.Response:
        headers = {"Authorization": f"Bearer {self.litellm.master_key}"}
        return self.http.request(method, path, headers=headers, **options)

    def new_key(self, **options: Any) -> str:
        answer = self.admin("POST", "/key/generate", json=options)
        assert answer.status_code == 200, answer.text
        key: str = answer.json()["key"]
        return key

    def log(self) -> str:
        return self.stack.log("litellm").read_text(encoding="utf-8", errors="replace")
