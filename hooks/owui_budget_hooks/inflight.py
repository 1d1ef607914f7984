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

    def owner_is_gone(self) -> bool:
        """Whether the request's own tasks have ended: then only a late end event can still come."""
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
        """Tell which leases to extend and which streams have ended without a signal.

        LiteLLM reports ends in the background, after the request's own task. A stream has `_STREAM_GRACE` seconds for
        that; a plain call may still run at the provider when its client is gone, so it keeps its hold for
        `_CALL_GRACE`. After that its lease runs out, and it is charged as its estimate until a late event corrects it.
        """
        survey = Survey()
        for identifier, call in list(self._calls.items()):
            if not call.owner_is_gone():
                survey.renew(call)
                continue
            waited = now - self._orphaned.setdefault(identifier, now)
            if call.streaming and waited > _STREAM_GRACE:
                survey.vanished.append(call)
            elif waited <= _CALL_GRACE:
                survey.renew(call)
            else:
                del self._calls[identifier], self._orphaned[identifier]
        return survey


_STREAM_GRACE = 5.0
_CALL_GRACE = 900.0


@dataclass(slots=True)
class Survey:
    """What one look at the calls in flight found."""

    leases: list[str] = field(default_factory=list)
    vanished: list[InFlight] = field(default_factory=list)

    def renew(self, call: InFlight) -> None:
        """Extend the lease of a call that holds one."""
        if call.held:
            self.leases.append(call.id)
