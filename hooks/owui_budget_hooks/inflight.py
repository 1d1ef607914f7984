"""Calls between admission and end: what was held for them, and the one place where each is ended once.

The object travels with the request in a context variable, which LiteLLM's tasks inherit, so it never reaches a
provider or a log; where a task was started elsewhere, its random id in LiteLLM's metadata finds it again.
"""

import asyncio
from contextvars import ContextVar
from dataclasses import dataclass, field
from decimal import Decimal
from uuid import uuid4
from weakref import ReferenceType, ref

from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Decision, Notice
from owui_budget.domain.estimate import BYTES_PER_TOKEN, Estimate, Shape
from owui_budget.domain.identity import Counter
from owui_budget.ledger.protocol import Call
from owui_budget_hooks.http_request import HttpRequest, current_request
from owui_budget_hooks.routes import Route

METADATA_KEY = "owui_budget_reservation"

_current: ContextVar["InFlight | None"] = ContextVar("owui_budget_call", default=None)


@dataclass(slots=True, weakref_slot=True)
class InFlight:
    """One admitted call. Mutable: hooks of the same request meet in it."""

    route: Route
    call: Call
    counters: tuple[Counter, ...]
    admitted_at: float
    decision: Decision
    estimate: Estimate
    shape: Shape
    weight: Decimal
    held: bool
    """Whether the ledger holds a reservation; False for calls admitted while it was out of reach."""
    id: str = field(default_factory=lambda: uuid4().hex)
    notices: tuple[Notice, ...] = ()
    """Warnings claimed for this call's chat, not yet shown."""
    ended: bool = False
    partial: Usage | None = None
    """What a failed attempt is known to have used."""
    partial_model: str | None = None
    failed: bool = False
    """Whether an attempt has failed."""
    streaming: bool = False
    stream_done: bool = False
    stream_cut: bool = False
    """Whether the client left before the stream's end."""
    hide_usage: bool = False
    """Whether the stream carries a usage chunk that the client did not ask for."""
    delivered: int = 0
    """Chunks handed to the client, counted on watched routes."""
    delivered_bytes: int = 0
    """UTF-8 bytes of text in those chunks, where they show any."""
    request: HttpRequest | None = None
    """The HTTP request it came with, where the wrapper is installed."""
    task: "ReferenceType[asyncio.Task[object]] | None" = None
    """The task that was admitted."""
    reader: "ReferenceType[asyncio.Task[object]] | None" = None
    """The task that last asked the stream for a chunk: LiteLLM may hand a stream over to another one."""

    @property
    def delivered_tokens(self) -> int:
        """An estimate of the completion tokens delivered: providers send about one token per chunk, or more."""
        return max(self.delivered, -(-self.delivered_bytes // BYTES_PER_TOKEN))

    def read_by_current_task(self) -> None:
        """Note who reads the stream."""
        task = asyncio.current_task()
        if task is not None and (self.reader is None or self.reader() is not task):
            self.reader = ref(task)

    @property
    def grace(self) -> float:
        """Seconds after the request's end during which its end event is waited for."""
        if self.streaming:
            return _SILENT_GRACE if self.route.watched else _GRACE
        return _GRACE if self.request is not None else _UNSEEN_GRACE

    def owner_is_gone(self) -> bool:
        """Whether the request is over: then only a late end event can still come."""
        if self.request is not None:
            return self.request.over
        owners = (each() for each in (self.task, self.reader) if each)
        return all(owner is None or owner.done() for owner in owners)


class Registry:
    """All calls in flight of this process."""

    def __init__(self) -> None:
        """Start empty."""
        self._calls: dict[str, InFlight] = {}
        self._orphaned: dict[str, float] = {}

    def __len__(self) -> int:
        """Return how many calls are in flight."""
        return len(self._calls)

    def open(self, call: InFlight) -> None:
        """Register a call and make it the current one of this context."""
        task = asyncio.current_task()
        call.task = ref(task) if task else None
        self._calls[call.id] = call
        _current.set(call)
        call.request = current_request()
        if call.request is not None:
            call.request.call_ids.append(call.id)

    def find(self, identifier: object) -> InFlight | None:
        """Return the call with this id, if it is still in flight."""
        return self._calls.get(identifier) if isinstance(identifier, str) else None

    @staticmethod
    def current() -> InFlight | None:
        """Return the call of this context; it may have ended."""
        return _current.get()

    @staticmethod
    def forget_current() -> None:
        """Make no call the current one: a new request starts in this context."""
        _current.set(None)

    def end(self, call: InFlight) -> bool:
        """Claim the end of a call; True for exactly one caller."""
        if call.ended:
            return False
        call.ended = True
        self._calls.pop(call.id, None)
        self._orphaned.pop(call.id, None)
        return True

    def survey(self, now: float) -> "Survey":
        """Tell which leases to extend and which calls have ended without a signal.

        LiteLLM reports ends in the background, after the request. How long to wait for that depends on how well the
        route is known to report; a call whose request is only known by its task may still run at the provider.
        """
        survey = Survey()
        for identifier, call in list(self._calls.items()):
            if not call.owner_is_gone():
                survey.renew(call)
                continue
            waited = now - self._orphaned.setdefault(identifier, now)
            if waited > call.grace:
                survey.vanished.append(call)
            else:
                survey.renew(call)
        return survey


_SILENT_GRACE = 5.0
"""Seconds to wait for a signal on streams that are known to end without one."""
_GRACE = 30.0
_UNSEEN_GRACE = 900.0
"""The same where the end of the request is not seen from outside: its provider may still be answering."""


@dataclass(slots=True)
class Survey:
    """What one look at the calls in flight found."""

    leases: list[str] = field(default_factory=list)
    vanished: list[InFlight] = field(default_factory=list)

    def renew(self, call: InFlight) -> None:
        """Extend the lease of a call that holds one."""
        if call.held:
            self.leases.append(call.id)
