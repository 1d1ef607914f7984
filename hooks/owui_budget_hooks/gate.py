"""The door to the ledger as the hooks use it: bounded waits, the failure policy, and the spool behind every end.

While the ledger cannot be reached, `on_ledger_error: open` admits for at most `open_for` seconds per outage, except
whoever was last seen over a limit of the current window; `closed` refuses with 503. Usage that cannot be written goes
to the spool and is replayed; a spool that cannot be written closes admission, because usage would be lost.
"""

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Callable

from owui_budget.clock import Clock, SystemClock
from owui_budget.domain.decisions import Allowed, Refused, Standing, decide
from owui_budget.domain.windows import span_of
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.protocol import (
    Admitted,
    Declined,
    Ledger,
    OperationRejectedError,
    Reserve,
    ReserveOutcome,
    Settlement,
)
from owui_budget.ledger.spool import Spool, SpoolError
from owui_budget.limits_file import Limits, OnLedgerError
from owui_budget_hooks import answers, metrics
from owui_budget_hooks.patience import patience

log = logging.getLogger("owui_budget.gate")

_REFUSED_KEPT = 50_000


class Gate:
    """Admits through the ledger, and decides what happens without it."""

    def __init__(
        self,
        ledger: Ledger,
        spool: Spool,
        limits: Limits,
        now: Callable[[], float],
        monotonic: Callable[[], float] = time.monotonic,
        wall: Clock | None = None,
    ) -> None:
        """Use `ledger`; `now` gives the ledger's time in epoch seconds, `monotonic` measures outages."""
        self._ledger = ledger
        self._spool = spool
        self._limits = limits
        self._now = now
        self._monotonic = monotonic
        self._wall = (wall or SystemClock()).now
        self._refused: OrderedDict[str, Refused] = OrderedDict()
        self._replaying = asyncio.Lock()
        self.outage_since: float | None = None
        self.spool_broken: str | None = None

    async def reserve(self, request: Reserve) -> tuple[ReserveOutcome, bool]:
        """Return the outcome, and whether the ledger holds the reservation.

        Raises:
            BudgetAnswer: 503, the policy is closed, or the spool cannot be written.

        """
        if self.spool_broken is not None:
            raise answers.unavailable(30, f"Budget accounting is stopped: {self.spool_broken}")
        asked = self._monotonic()
        try:
            async with patience(self._limits.reserve_timeout):
                outcome = await self._ledger.reserve(request)
        except (TimeoutError, LedgerUnavailableError) as error:
            return self._without_ledger(request, error), False
        metrics.RESERVE_SECONDS.observe(self._monotonic() - asked)
        self._ledger_answered()
        if isinstance(outcome, Declined) and isinstance(outcome.decision, Refused):
            self._remember(outcome.decision)
        elif isinstance(outcome, Admitted):
            for limit in request.limits:
                self._refused.pop(limit.counter.key, None)
        return outcome, isinstance(outcome, Admitted)

    @property
    def open_since(self) -> float | None:
        """When the present outage began (the machine's clock, epoch seconds); None while the ledger answers."""
        if self.outage_since is None:
            return None
        return self._wall() - (self._monotonic() - self.outage_since)

    async def look(self) -> None:
        """Notice the end of an outage where no call comes that would.

        Raises:
            LedgerUnavailableError: the outage lasts.

        """
        if self.outage_since is not None:
            await self._ledger.renew((_NOBODYS,))
            self._ledger_answered()

    async def try_spool(self) -> None:
        """Open admission again once the spool can be written.

        Raises:
            SpoolError: it still cannot.

        """
        if self.spool_broken is not None:
            await asyncio.to_thread(self._spool.append, _NOBODYS)
            self._spool_written()

    def _spool_written(self) -> None:
        if self.spool_broken is not None:
            log.warning("the spool can be written again, admission is open")
            self.spool_broken = None
            metrics.SPOOL_BROKEN.set(0)

    def _ledger_answered(self) -> None:
        if self.outage_since is not None:
            log.warning("the ledger answers again after %.1f s", self._monotonic() - self.outage_since)
            self.outage_since = None
            metrics.LEDGER_UP.set(1)

    def _remember(self, refused: Refused) -> None:
        if refused.blocking.used < (refused.blocking.limit.bounds.hard or 0):
            return  # only calls still running were in the way; they end
        key = refused.blocking.limit.counter.key
        self._refused[key] = refused
        self._refused.move_to_end(key)
        while len(self._refused) > _REFUSED_KEPT:
            self._refused.popitem(last=False)

    def _without_ledger(self, request: Reserve, error: Exception) -> ReserveOutcome:
        metrics.LEDGER_ERRORS.labels(operation="reserve").inc()
        metrics.LEDGER_UP.set(0)
        if self.outage_since is None:
            self.outage_since = self._monotonic()
            log.error(
                "the ledger cannot be reached (%s: %s); on_ledger_error is %s",
                type(error).__name__,
                error,
                self._limits.on_ledger_error,
            )
        if self._limits.on_ledger_error is OnLedgerError.CLOSED:
            raise answers.unavailable(10, "Token budgets cannot be checked at the moment. Try again shortly.")
        if self._monotonic() - self.outage_since > self._limits.open_for:
            raise answers.unavailable(
                30,
                "Token budgets cannot be checked at the moment, and the time for which calls are admitted unchecked"
                " has passed. Try again shortly.",
            )
        known = self._still_refused(request)
        if known is not None:
            return Declined(known)
        metrics.ADMITTED_OPEN.inc()
        return Admitted(Allowed(()), self._now())

    def _still_refused(self, request: Reserve) -> Refused | None:
        """Return the refusal last given for one of the request's limits, while its window lasts and it still holds.

        Else that of a limit which admits nothing even where nothing has been used, as a hard limit of 0.
        """
        now = self._now()
        for limit in request.limits:
            known = self._refused.get(limit.counter.key)
            if known is None:
                continue
            blocking: Standing = known.blocking
            if blocking.limit == limit and blocking.span.contains(now):
                return known
        untouched = [
            Standing(limit, span_of(limit.window, now, self._limits.zone), used=0, held=0) for limit in request.limits
        ]
        decision = decide(untouched, request.estimate, request.admission)
        return decision if isinstance(decision, Refused) else None

    async def settle(self, settlement: Settlement) -> None:
        """Charge a finished call, through the spool when the ledger cannot be reached."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await self._ledger.settle(settlement)
        except (TimeoutError, LedgerUnavailableError) as error:
            # A settle that timed out may still have been written: the replay of the same id then changes nothing.
            self._failed("settle", error)
            await self._keep(settlement)
        except OperationRejectedError as error:
            # A defect of ours, not of the store: the spool's replay sets the record aside with the reason.
            log.error("the ledger refuses a settlement: %s", error)  # noqa: TRY400 - the record itself tells more
            self._failed("settle", error)
            await self._keep(settlement)

    async def release(self, reservation_id: str) -> None:
        """Give a hold back; what cannot be written now is spooled like a settlement."""
        try:
            async with asyncio.timeout(_WRITE_TIMEOUT):
                await self._ledger.release(reservation_id)
        except (TimeoutError, LedgerUnavailableError) as error:
            self._failed("release", error)
            await self._keep(reservation_id)

    def _failed(self, operation: str, error: Exception) -> None:
        metrics.LEDGER_ERRORS.labels(operation=operation).inc()
        log.warning("%s goes to the spool: %s: %s", operation, type(error).__name__, error)

    async def _keep(self, record: Settlement | str) -> None:
        try:
            await asyncio.to_thread(self._spool.append, record)
        except SpoolError as error:
            self.spool_broken = str(error)
            metrics.SPOOL_BROKEN.set(1)
            log.critical("usage cannot be kept, admission is closed: %s; lost: %s", error, record)
        else:
            self._spool_written()
        metrics.SPOOL_DEPTH.set(self._spool.depth())

    async def replay(self) -> int:
        """Write what the spool holds, oldest first; return how many records are left."""
        if self._replaying.locked():
            return self._spool.depth()
        async with self._replaying:
            await self._spool.replay(self._ledger)
        depth = self._spool.depth()
        metrics.SPOOL_DEPTH.set(depth)
        return depth


_WRITE_TIMEOUT = 10.0
"""Seconds after which the end of a call goes to the spool. Longer than an admission's: nobody waits for it."""
_NOBODYS = "nobodys"
"""The id of no reservation: to renew it takes the calls' own way through the ledger and changes nothing."""
