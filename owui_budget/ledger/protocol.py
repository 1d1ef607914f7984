"""The ledger's contract. One suite (`tests/contract/ledger`) holds every implementation to it.

A reservation goes `held → settled | released | expired`, and `expired → settled | released` once, correcting the
difference. Its id is made by the hooks, never by a client. What it held, and in which windows, is stored with it;
settling or releasing touches exactly that, whatever the policy, the zone or the clock say by then.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from enum import StrEnum
from typing import Protocol

from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Admission, Decision, Standing
from owui_budget.domain.identity import Caller, Counter, Kind
from owui_budget.domain.policy import LimitInForce
from owui_budget.errors import FinalError


class OperationRejectedError(FinalError):
    """The store refused this one operation for good (a number out of range, an id used twice); it wrote nothing."""


@dataclass(frozen=True, slots=True)
class Call:
    """What is recorded of a call and known at its admission. Holds no prompt, no answer, no secret."""

    caller: Caller
    kind: Kind
    route: str
    """LiteLLM's call type, such as `acompletion`."""
    model: str
    """The model asked for, as the client named it."""
    user_id: str | None = None
    service_id: str | None = None
    deciding_group_id: str | None = None
    pool_group_ids: tuple[str, ...] = ()
    """Every group in whose pool the call counts, limited today or not (a pool limited later starts from these)."""


@dataclass(frozen=True, slots=True)
class Reserve:
    """Ask for admission."""

    id: str
    call: Call
    counters: tuple[Counter, ...]
    """The rows the call counts in: the user's (or task's, or service's) and one per limited pool. All four windows."""
    limits: tuple[LimitInForce, ...]
    """The limits to decide by; each one's counter is among `counters`."""
    estimate: int
    """Weighted tokens to hold on every counter."""
    admission: Admission
    revision: int
    """The policy revision the limits were resolved from."""


@dataclass(frozen=True, slots=True)
class Admitted:
    """The estimate is held. `admitted_at` (ledger time, epoch seconds) decides which windows the call belongs to."""

    decision: Decision
    admitted_at: float


@dataclass(frozen=True, slots=True)
class Declined:
    """Refused; nothing was written."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Stale:
    """The policy has moved on to `revision`; nothing was written. Reload, resolve and ask again."""

    revision: int


ReserveOutcome = Admitted | Declined | Stale


class Ending(StrEnum):
    """How a call ended, for reports."""

    COMPLETED = "completed"
    PARTIAL = "partial"
    """Cut short by the client or the provider; what was delivered is charged."""
    CACHE_HIT = "cache_hit"
    FAILED = "failed"
    """Failed, yet tokens were spent."""
    LOST = "lost"
    """Its process vanished; charged as its estimate when the lease ran out."""


@dataclass(frozen=True, slots=True)
class Settlement:
    """A finished call, complete in itself: it can be spooled and replayed, with or without a reservation row.

    Where the reservation row exists, its counters and windows are used; `counters` and `admitted_at` serve calls that
    were admitted while the ledger was out of reach.
    """

    reservation_id: str
    call: Call
    counters: tuple[Counter, ...]
    admitted_at: float
    usage: Usage
    model: str
    """The model that answered."""
    weight: Decimal
    charge: int
    """Weighted tokens."""
    ending: Ending = Ending.COMPLETED


@dataclass(frozen=True, slots=True)
class Discrepancy:
    """A counter whose figure differs from the sum of its events, or whose held differs from its open reservations."""

    counter: str
    window: str
    what: str
    """`used` or `held`."""
    counted: int
    expected: int


@dataclass(frozen=True, slots=True)
class Swept:
    """What one sweep did: leases expired, and old tombstones of released calls removed."""

    expired: int = 0
    purged: int = 0


@dataclass(frozen=True, slots=True)
class LedgerState:
    """What the ledger says of itself: read with every batch, so every process follows within one call."""

    revision: int
    zone: str
    clock_offset: float
    """Seconds the ledger's time is ahead of the machine's clock: the test clock."""


@dataclass(frozen=True, slots=True)
class NoticeClaim:
    """One warning to one user. Unique, so it is shown once over tool calls, models and replicas."""

    user_id: str
    counter: str
    window: str
    window_start: int
    threshold: str
    hard: int
    """The hard limit (0 when there is none): a changed limit warns anew."""


class Ledger(Protocol):
    """Counts, holds and remembers.

    Every method raises `LedgerUnavailableError` when the store cannot be reached, and `OperationRejectedError` when it
    refuses what it was given.
    """

    async def start(self) -> None:
        """Open the store and check its schema. Where that failed for an outage, it may be tried again.

        Raises:
            SchemaError: the schema is not the one this version needs.
            LedgerBusyError: another process already serves this embedded store.

        """
        ...

    async def close(self) -> None:
        """Finish what is queued and close the store. Safe to call twice."""
        ...

    async def state(self) -> LedgerState:
        """Read revision, zone and test clock."""
        ...

    def now(self) -> float:
        """Return the ledger's time in epoch seconds: the clock plus the test-clock offset read last. Never blocks."""
        ...

    def known_state(self) -> LedgerState | None:
        """Return what was read last with any batch; None before the first. Never blocks."""
        ...

    async def reserve(self, request: Reserve) -> ReserveOutcome:
        """Decide by `domain.decisions` and hold, in one transaction; write only if admitted.

        Callers bound the wait themselves (`asyncio.timeout`); a reserve whose caller has gone leaves nothing held.
        """
        ...

    async def settle(self, settlement: Settlement) -> bool:
        """Charge a finished call once; False if it was already settled or released.

        A charge whose estimate was already taken (the lease ran out) is corrected to the real one.
        """
        ...

    async def release(self, reservation_id: str) -> bool:
        """Give a hold back because nothing was spent; False if there was nothing open."""
        ...

    async def renew(self, reservation_ids: Sequence[str]) -> None:
        """Extend the leases of calls still running, all in one statement."""
        ...

    async def sweep(self) -> Swept:
        """Expire leases that ran out: charge each estimate, flagged `estimated`. Any process may call it."""
        ...

    async def claim_notice(self, claims: Sequence[NoticeClaim]) -> Sequence[NoticeClaim]:
        """Claim warnings; return those that nobody had claimed before."""
        ...

    async def standings(self, limits: Iterable[LimitInForce]) -> tuple[Standing, ...]:
        """Read where the given limits stand, changing nothing."""
        ...

    async def adjust(self, counter: Counter, charge: int, reason: str) -> None:
        """Add `charge` (may be negative) to the counter's current windows as an `adjustment` event."""
        ...

    async def reset(self, counter: Counter, reason: str) -> dict[str, int]:
        """Bring all four current windows to zero by adjustments; return what each had used, by window."""
        ...

    async def verify(self) -> Sequence[Discrepancy]:
        """Compare counters with the sums of their events and open reservations."""
        ...

    async def repair(self) -> Sequence[Discrepancy]:
        """Mend what `verify` finds, making the events the truth; return what was mended."""
        ...


@dataclass(frozen=True, slots=True)
class LedgerOptions:
    """How a ledger behaves, from limits.yaml."""

    zone: str = "UTC"
    lease: float = 120.0
    process_id: str = field(default="local")
