"""The loop of the daemon: look at Open WebUI at the start, on triggers and every so often, and write what changed.

Whatever fails, the last good policy stays in force: it is in the policy store, where the hooks read it.
"""

import asyncio
import logging
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from owui_budget.clock import Clock
from owui_budget.errors import BudgetError, LedgerUnavailableError
from owui_budget.policy_store import Fence, FenceLostError
from owui_budget_sync.changes import noun
from owui_budget_sync.health import Health
from owui_budget_sync.leader import Journal, Leadership
from owui_budget_sync.policy_sync import Depth, Look, PolicySync
from owui_budget_sync.safety import UnsafePlanError

log = logging.getLogger(__name__)

PAUSES = (1.0, 2.0, 5.0, 10.0, 30.0, 60.0)
"""Seconds after the first, second, … failure in a row. A trigger cuts a pause short."""
STANDBY = 2.0
"""Seconds between two looks at the lease while another process leads."""
SETTLE = 0.1
"""Seconds after a trigger in which more of the same burst are awaited."""
USERS_SHARE = 10
"""Reading all users may take up to this fraction of the time: after a read of 2 s the next one waits 20 s."""


@dataclass(frozen=True, slots=True)
class Pace:
    """When what is read, in seconds; percentages for safety."""

    interval: float = 30.0
    everything: float = 900.0
    threshold: int = 30


class Runner:
    """One process' share in keeping the policy up to date."""

    def __init__(  # noqa: PLR0913 - the parts of the loop, each by its name
        self,
        sync: PolicySync,
        leadership: Leadership,
        journal: Journal,
        health: Health,
        *,
        clock: Clock,
        pace: Pace,
        heavy: asyncio.Lock | None = None,
        on_change: Callable[[bool], None] = lambda _revision_moved: None,
        notes: Callable[[], tuple[str, ...]] = lambda: (),
    ) -> None:
        """Run `sync`; `on_change` is told of every write, and whether it moved the revision.

        `heavy` is held while all users are in memory, so that not two jobs hold them at once.
        """
        self._sync = sync
        self._leadership = leadership
        self._journal = journal
        self._health = health
        self._clock = clock
        self._pace = pace
        self._heavy = heavy or asyncio.Lock()
        self._on_change = on_change
        self._notes = notes
        self._woken = asyncio.Event()
        self._users_wanted = True
        self._everything_wanted = False
        self._everything_at = float("-inf")
        self._users_earliest = float("-inf")
        self._fence: Fence | None = None
        self._concluding = asyncio.Lock()
        self._again = False

    def trigger(self, depth: Depth) -> None:
        """Ask for a look at once."""
        self._users_wanted = self._users_wanted or depth is Depth.USERS
        self._everything_wanted = self._everything_wanted or depth is Depth.ALL
        self._woken.set()

    async def run(self) -> None:
        """Look for ever."""
        failures = 0
        while True:
            woken, started = self._woken.is_set(), self._clock.now()
            self._woken.clear()
            self._health.last_attempt = started
            try:
                pause = await self._turn(started, woken=woken)
                failures = 0
            except FenceLostError:
                self._follow(None)
                pause = STANDBY
            except BudgetError as error:
                failures += 1
                pause = min(self._pace.interval, PAUSES[min(failures, len(PAUSES)) - 1])
                await self._report(error, started, failures)
            await self._sleep(pause)

    async def _turn(self, started: float, *, woken: bool) -> float:
        """Look as deep as is due; return the seconds until the next look."""
        self._follow(await asyncio.to_thread(self._leadership.acquire))
        if not self._health.leading:
            if woken:
                # Whoever asked reached the wrong replica.
                wanted = self._wanted()
                self._users_wanted = self._everything_wanted = False
                await asyncio.to_thread(self._leadership.pass_on, wanted.value)
            return STANDBY
        depth = self._depth(started)
        if woken or depth is Depth.ALL:
            await self.once(Depth.LIMITS)  # limits hold at once, however long it takes to read members and users
        if depth is Depth.GROUPS:
            await self.once(depth)
        else:
            await self._beside_triggers(depth)
        if self._users_wanted:
            return min(self._pace.interval, max(SETTLE, self._users_earliest - self._clock.now()))
        return self._pace.interval

    async def _beside_triggers(self, depth: Depth) -> None:
        """Look at `depth`, which may take minutes; limits that are edited meanwhile are taken over at once."""
        task = asyncio.create_task(self.once(depth))
        try:
            while not task.done():
                waiter = asyncio.create_task(self._woken.wait())
                await asyncio.wait({task, waiter}, return_when=asyncio.FIRST_COMPLETED)
                if not waiter.done():
                    waiter.cancel()
                elif not task.done():
                    self._woken.clear()
                    await self.once(Depth.LIMITS)
                    self._again = True
            await task
        finally:
            task.cancel()
        if self._again:
            self._again = False
            self._woken.set()  # members may have changed as well

    async def once(self, depth: Depth) -> Look:
        """Look and write.

        Raises:
            BudgetError: a source or store failed, or the plan is unsafe; nothing was written.

        """
        started = self._clock.now()
        if depth is Depth.ALL:
            self._users_wanted = self._everything_wanted = False
        elif depth is Depth.USERS:
            self._users_wanted = False
        try:
            async with self._heavy if depth in (Depth.USERS, Depth.ALL) else nullcontext():
                look, revision = await self._look_and_write(depth)
        except BudgetError:
            # What was asked for is still to be done.
            self._users_wanted = self._users_wanted or depth is Depth.USERS
            self._everything_wanted = self._everything_wanted or depth is Depth.ALL
            self._health.metrics.syncs.labels(depth.value, "failed").inc()
            raise
        self._remember(look, depth, started, revision)
        problems = [*self._notes(), *self._problems()]
        await asyncio.to_thread(self._journal.succeeded, self._require_fence(), started, problems)
        return look

    async def _look_and_write(self, depth: Depth) -> tuple[Look, int]:
        reading = await self._sync.read(depth)
        # One conclusion at a time: each starts from a fresh group list and what the other has written.
        async with self._concluding:
            look = await self._sync.look(reading)
            self._health.openwebui.fine()
            look.check(self._pace.threshold)
            return look, await self._sync.write(look, self._require_fence())

    def _remember(self, look: Look, depth: Depth, started: float, revision: int) -> None:
        now = self._clock.now()
        health = self._health
        if depth in (Depth.USERS, Depth.ALL):
            self._users_earliest = now + USERS_SHARE * (now - started)
        if depth is Depth.ALL:
            self._everything_at = now
        health.database.fine()
        health.last_success = now
        health.unsafe = None
        health.group_problems = sum(1 for group in look.desired.groups.values() if group.problem)
        health.notes = (*(note.text for note in look.plan.notes), *self._notes())
        health.metrics.syncs.labels(depth.value, "good").inc()
        health.metrics.seconds.labels(depth.value).observe(now - started)
        for change in look.plan.changes:
            health.metrics.changes.labels(noun(change)).inc()
        health.revision = revision
        if look.plan.changes:
            log.info(
                "the policy changed",
                extra={"changes": len(look.plan.changes), "revision": revision, "seconds": round(now - started, 3)},
            )
            self._on_change(revision != look.revision)

    def _depth(self, now: float) -> Depth:
        if self._everything_wanted or now - self._everything_at >= self._pace.everything:
            return Depth.ALL
        return Depth.USERS if self._users_wanted and now >= self._users_earliest else Depth.GROUPS

    def _wanted(self) -> Depth:
        if self._everything_wanted:
            return Depth.ALL
        return Depth.USERS if self._users_wanted else Depth.GROUPS

    def _follow(self, fence: Fence | None) -> None:
        """Take the lead with `fence`, or stand by without."""
        self._fence = fence
        leading = fence is not None
        if leading != self._health.leading:
            log.info("leading" if leading else "standing by: another process leads")
            self._everything_at = float("-inf")  # what the last leader saw is not known here
        self._health.leading = leading

    def _require_fence(self) -> Fence:
        if self._fence is None:
            msg = "another sync process leads now"
            raise FenceLostError(msg)
        return self._fence

    def _problems(self) -> tuple[str, ...]:
        return tuple(
            f"{name}: {part.error}" for name, part in (("LiteLLM", self._health.litellm),) if part.error is not None
        )

    async def _report(self, error: BudgetError, started: float, failures: int) -> None:
        now = self._clock.now()
        if isinstance(error, UnsafePlanError):
            self._health.unsafe = error.digest
        elif isinstance(error, LedgerUnavailableError):
            self._health.database.failed(str(error), now)
        else:
            self._health.openwebui.failed(str(error), now)
        log.warning("the last good policy stays in force: %s", error, extra={"attempt": failures})
        if self._fence is not None and not isinstance(error, LedgerUnavailableError):
            try:
                await asyncio.to_thread(self._journal.failed, self._fence, started, str(error))
            except LedgerUnavailableError as other:
                self._health.database.failed(str(other), now)

    async def _sleep(self, seconds: float) -> None:
        """Until the time is over or a trigger comes."""
        try:
            async with asyncio.timeout(seconds):
                await self._woken.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE)
