"""Words for tests of the hooks: LiteLLM's dictionaries as it fills them, and rooms that can fail on demand."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from itertools import count
from typing import Any
from zoneinfo import ZoneInfo

import jwt
from litellm.proxy._types import UserAPIKeyAuth
from pydantic import SecretStr

from owui_budget.config import HooksSettings
from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Allowed, Decision, Standing
from owui_budget.domain.estimate import Estimate, Shape
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.domain.limits import Bounds, Scope, parse_limits
from owui_budget.domain.policy import Group, LimitInForce, Policy, PolicyRules
from owui_budget.domain.windows import Window, span_of
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.protocol import Call, NoticeClaim, Reserve, ReserveOutcome, Settlement
from owui_budget.ledger.spool import SpoolError
from owui_budget.limits_file import Limits
from owui_budget.policy_store.values import PolicyUser
from owui_budget_hooks.admission import Admitter
from owui_budget_hooks.ending import Ender
from owui_budget_hooks.gate import Gate
from owui_budget_hooks.identify import Identifier
from owui_budget_hooks.inflight import InFlight, Registry
from owui_budget_hooks.learning import TypicalCompletion
from owui_budget_hooks.notices import Notices
from owui_budget_hooks.outcome import Event
from owui_budget_hooks.routes import ROUTES, Route

BERLIN = ZoneInfo("Europe/Berlin")
NOW = 1_795_271_589.0
"""2026-11-21T15:33:09+01:00, the moment of the example in the design: 30,411 seconds before midnight."""
SECRET = "a secret of more than 32 bytes, as Open WebUI has it"
CONNECTION_KEY = "sk-the-key-of-the-connection"
STUDENTS = "24695af1"

_numbers = count(1)


def at(text: str, zone: str = "Europe/Berlin") -> float:
    """Epoch seconds of a local time such as `2026-11-21 15:33`."""
    return datetime.fromisoformat(text).replace(tzinfo=ZoneInfo(zone)).timestamp()


def limit(
    window: Window = Window.DAILY,
    hard: int | None = 100_000,
    soft: int | None = None,
    scope: Scope = Scope.MEMBER,
    group: tuple[str, str] | None = (STUDENTS, "Students"),
) -> LimitInForce:
    group_id, name = group or (None, None)
    kind, counted = (CounterKind.USER, "ann") if scope is Scope.MEMBER else (CounterKind.POOL, str(group_id))
    return LimitInForce(scope, window, Bounds(soft, hard), Counter(kind, counted), group_id, name)


def standing(of: LimitInForce, used: int = 0, held: int = 0, now: float = NOW, zone: ZoneInfo = BERLIN) -> Standing:
    return Standing(of, span_of(of.window, now, zone), used, held)


def token(secret: str = SECRET, algorithm: str = "HS256", drop: Iterable[str] = (), **claims: Any) -> str:
    """A user token as Open WebUI signs it, valid for five minutes of real time."""
    from owui_budget.clock import SystemClock

    moment = int(SystemClock().now())
    content = {"iss": "open-webui", "sub": "ann", "role": "user", "iat": moment, "exp": moment + 300, **claims}
    return jwt.encode({key: value for key, value in content.items() if key not in set(drop)}, secret, algorithm)


def key(api_key: str = "sk-someone", **fields: Any) -> UserAPIKeyAuth:
    return UserAPIKeyAuth(api_key=api_key, **fields)


CONNECTION = key(CONNECTION_KEY)


def webui(user: str = "ann", groups: str | None = STUDENTS, **more: str) -> dict[str, str]:
    """The headers of an Open WebUI connection; `more` as in `task="title_generation"`, `chat_id="…"`."""
    headers = {"x-openwebui-user-jwt": token(sub=user, role=more.pop("role", "user"))}
    if groups is not None:
        headers["x-openwebui-group-ids"] = groups
    headers |= {"x-openwebui-message-id": "", "x-openwebui-task": ""}
    return headers | {f"x-openwebui-{name.replace('_', '-')}": value for name, value in more.items()}


def request(
    headers: Mapping[str, str] | None = None,
    *,
    litellm_metadata: bool = False,
    path: str = "/v1/chat/completions",
    **body: Any,
) -> dict[str, Any]:
    """The dictionary LiteLLM hands to the pre-call hook: the body, what it adds itself, and copies of the headers."""
    sent = {"model": "gpt-5", "messages": [{"role": "user", "content": "hello"}], **body}
    given = {"content-type": "application/json", **(headers or {})}
    own = {"user_api_key_hash": "0" * 64, "headers": dict(given), "requester_metadata": {"headers": dict(given)}}
    return {
        **sent,
        "litellm_call_id": "chosen-by-the-client",
        "proxy_server_request": {
            "url": f"http://localhost:4000{path}",
            "method": "POST",
            "headers": dict(given),
            "body": dict(sent),
        },
        "secret_fields": {"raw_headers": dict(given)},
        "litellm_metadata" if litellm_metadata else "metadata": own,
    }


def group(
    identifier: str = STUDENTS, name: str = "Students", parent: str | None = None, priority: int = 20, **scopes: Any
) -> Group:
    """A group with limits, as in `group(member={"daily": {"hard": 100}})`."""
    limits = parse_limits({"version": 1, "priority": priority, **scopes}) if scopes else None
    return Group(identifier, name, parent, limits)


class PolicyStub:
    """A policy cache without a database: `groups` is what is loaded, `stored` what the next reload finds."""

    def __init__(self) -> None:
        self.rules = PolicyRules()
        self.groups: dict[str, Group] = {}
        self.revision = 1
        self.stored: tuple[int, dict[str, Group]] | None = None
        self.users: dict[str, PolicyUser] = {}
        self.down = False
        self.reloads = 0

    def put(self, *groups: Group) -> None:
        self.groups = {each.id: each for each in groups}

    def store(self, revision: int, *groups: Group) -> None:
        self.stored = (revision, {each.id: each for each in groups})

    @property
    def policy(self) -> Policy:
        return Policy(self.groups, self.rules)

    async def reload(self) -> None:
        self.reloads += 1
        await asyncio.sleep(0)
        if self.down:
            raise LedgerUnavailableError("down")
        if self.stored is not None:
            self.revision, self.groups = self.stored

    async def user(self, user_id: str) -> PolicyUser | None:
        if self.down:
            raise LedgerUnavailableError("down")
        return self.users.get(user_id)

    async def user_by_email(self, email: str) -> PolicyUser | None:
        return next((user for user in self.users.values() if user.email == email.lower()), None)


class FakeSpool:
    """A spool that keeps its records in a list, or is broken."""

    def __init__(self) -> None:
        self.records: list[Settlement | str] = []
        self.broken = False
        self.replayed = 0

    def append(self, record: Settlement | str) -> None:
        if self.broken:
            raise SpoolError("the spool cannot be written: No space left on device")
        self.records.append(record)

    def depth(self) -> int:
        return len(self.records)

    async def replay(self, ledger: Any) -> int:
        self.replayed += 1
        for record in list(self.records):
            await (ledger.settle(record) if isinstance(record, Settlement) else ledger.release(record))
            self.records.remove(record)
        return 0


class Flaky:
    """A ledger that can be down (`down`), slow (`delay` seconds), or answer with an error of its own (`error`)."""

    def __init__(self, inner: MemoryLedger) -> None:
        self.inner = inner
        self.down = False
        self.delay = 0.0
        self.error: Exception | None = None
        self.reserved: list[Reserve] = []
        self.settled: list[Settlement] = []
        self.released: list[str] = []
        self.claims = 0

    async def _pass(self) -> None:
        if self.delay:
            await asyncio.sleep(self.delay)
        if self.down:
            raise LedgerUnavailableError("connection refused")
        if self.error is not None:
            raise self.error

    def now(self) -> float:
        return self.inner.now()

    async def reserve(self, request: Reserve) -> ReserveOutcome:
        await self._pass()
        self.reserved.append(request)
        return await self.inner.reserve(request)

    async def settle(self, settlement: Settlement) -> bool:
        await self._pass()
        self.settled.append(settlement)
        return await self.inner.settle(settlement)

    async def release(self, reservation_id: str) -> bool:
        await self._pass()
        self.released.append(reservation_id)
        return await self.inner.release(reservation_id)

    async def renew(self, reservation_ids: Sequence[str]) -> None:
        await self._pass()
        await self.inner.renew(reservation_ids)

    async def standings(self, limits: Iterable[LimitInForce]) -> tuple[Standing, ...]:
        await self._pass()
        return await self.inner.standings(limits)

    async def claim_notice(self, claims: Sequence[NoticeClaim]) -> Sequence[NoticeClaim]:
        self.claims += 1
        await self._pass()
        return await self.inner.claim_notice(claims)


class Walk:
    """The rooms of one process, connected as the runtime connects them."""

    def __init__(
        self, limits: Limits, ledger: Flaky, spool: FakeSpool, policy: PolicyStub, settings: dict[str, Any]
    ) -> None:
        self.limits = limits
        self.ledger = ledger
        self.spool = spool
        self.policy = policy
        self.zone = limits.zone
        self.problems: tuple[str, ...] = ()
        self.monotonic = 0.0
        self.registry = Registry()
        self.typical = TypicalCompletion(limits.estimate.completion_floor, limits.estimate.completion_ceiling)
        self.gate = Gate(ledger, spool, limits, ledger.now, lambda: self.monotonic)  # type: ignore[arg-type]
        self.ender = Ender(limits, self.gate, self.registry, self.typical)
        self.identifier = identifier(policy, match_email=limits.match_email, **settings)
        self.admitter = Admitter(
            limits,
            self.identifier,
            policy,
            ledger,
            self.gate,
            self.typical,
            ledger.now,  # type: ignore[arg-type]
        )
        self.notices = Notices(ledger, limits.thresholds, limits.zone, ledger.now)  # type: ignore[arg-type]

    def now(self) -> float:
        return self.ledger.now()

    def refuse_if_unsafe(self) -> None:
        """Nothing is unsafe here."""

    async def admit(
        self, data: dict[str, Any], by: UserAPIKeyAuth = CONNECTION, call_type: str = "acompletion"
    ) -> InFlight:
        admitted = await self.admitter.admit(by, data, call_type)
        assert admitted is not None
        return admitted[0]

    async def use(self, counter: Counter, tokens: int) -> None:
        await self.ledger.inner.adjust(counter, tokens, "used before")

    async def used(self, *limits: LimitInForce) -> list[tuple[int, int]]:
        """What is used and held of each limit."""
        return [(each.used, each.held) for each in await self.ledger.inner.standings(limits)]


def identifier(policy: Any, *, match_email: bool = False, secret: str | None = SECRET) -> Identifier:
    settings = HooksSettings(
        jwt_secret=SecretStr(secret) if secret else None, connection_keys=(SecretStr(CONNECTION_KEY),)
    )
    return Identifier(settings, policy, match_email=match_email)


def in_flight(
    call_type: str = "acompletion",
    *,
    model: str = "gpt-5",
    decision: Decision | None = None,
    shape: Shape | None = None,
    estimate: Estimate | None = None,
    held: bool = True,
    user: str = "ann",
) -> InFlight:
    """An admitted call of `ann`, of 40 bytes of prompt (14 tokens) unless told otherwise."""
    route = ROUTES.get(call_type, Route("other"))
    return InFlight(
        route=route,
        call=Call(Caller.OPENWEBUI, Kind.CHAT, route.name, model, user_id=user),
        counters=(Counter(CounterKind.USER, user),),
        admitted_at=NOW,
        decision=decision or Allowed(()),
        estimate=estimate or Estimate(14, 256),
        shape=shape or Shape(text_bytes=40, messages=1, generates=route.generates),
        weight=Decimal(1),
        held=held,
        id=f"call-{next(_numbers)}",
    )


def event(
    prompt: int = 10,
    completion: int = 5,
    *,
    model: str = "gpt-5",
    cache_hit: bool = False,
    call_type: str = "acompletion",
    answer_bytes: int = 0,
) -> Event:
    return Event(Usage(prompt, completion), model, cache_hit, call_type, answer_bytes)
