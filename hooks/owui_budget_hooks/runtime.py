"""Everything one LiteLLM worker process needs, made once, and the tasks that keep it going.

Started by LITELLM_WORKER_STARTUP_HOOKS inside the worker's event loop, or by the first call where that is not set.
"""

import asyncio
import logging
import os
import socket
import time
from collections.abc import Callable, Coroutine
from typing import Any
from uuid import uuid4
from zoneinfo import ZoneInfo

from owui_budget import __version__
from owui_budget.clock import SystemClock
from owui_budget.config import HooksSettings, load_hooks_settings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget.errors import BudgetError, LedgerUnavailableError
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.processes import Heartbeat, forget_process, write_heartbeat
from owui_budget.ledger.spool import Spool
from owui_budget.limits_file import Limits
from owui_budget.policy_store.store import SqlPolicyStore
from owui_budget_hooks import answers, metrics, seed, selfcheck
from owui_budget_hooks.admission import Admitter
from owui_budget_hooks.ending import Ender
from owui_budget_hooks.gate import Gate
from owui_budget_hooks.identify import Identifier
from owui_budget_hooks.inflight import Registry
from owui_budget_hooks.learning import TypicalCompletion
from owui_budget_hooks.notices import Notices
from owui_budget_hooks.policy_cache import PolicyCache

log = logging.getLogger("owui_budget")

_WIRING_SECONDS = 0.02
"""LiteLLM loads its configuration between our start and its first call; this must fit in between."""
_SURVEY_SECONDS = 1.0
_HEARTBEAT_SECONDS = 5.0
_REPLAY_SECONDS = 2.0
_DRAIN_SECONDS = 15.0
_FLUSH_SECONDS = 5.0


class Runtime:
    """The rooms of one process, connected."""

    _started: "Runtime | None" = None

    def __init__(self, settings: HooksSettings, limits: Limits) -> None:
        """Make every room; nothing is opened yet."""
        clock = SystemClock()
        self.process_id = uuid4().hex
        self.settings = settings
        self.limits = limits
        self.started_at = clock.now()
        self._clock = clock
        self._engine = make_engine(settings)
        self.ledger = open_ledger(settings, limits, clock, self.process_id)
        self.spool = Spool(settings.spool_dir, self.process_id)
        self.policy = PolicyCache(
            SqlPolicyStore(self._engine), limits.rules, settings.spool_dir / "policy.json", time.monotonic
        )
        self.registry = Registry()
        self.gate = Gate(self.ledger, self.spool, limits, self.now)
        typical = TypicalCompletion(limits.estimate.completion_floor, limits.estimate.completion_ceiling)
        self._typical = typical
        self.ender = Ender(limits, self.gate, self.registry, typical)
        identifier = Identifier(settings, self.policy, match_email=limits.match_email)
        self.admitter = Admitter(limits, identifier, self.policy, self.ledger, self.gate, typical, self.now)
        self.notices = Notices(self.ledger, limits.thresholds, limits.zone, self.now)
        self._tasks: list[asyncio.Task[None]] = []
        self._ledger_open = False
        self.problems: tuple[str, ...] = ()

    @classmethod
    def started(cls) -> "Runtime | None":
        """Return the running runtime of this process, None before its start."""
        return cls._started

    @property
    def zone(self) -> ZoneInfo:
        """The zone people read times in: the ledger's, once it is known."""
        state = self.ledger.known_state()
        return ZoneInfo(state.zone) if state else self.limits.zone

    def now(self) -> float:
        """Return the ledger's time in epoch seconds."""
        return self.ledger.now()

    async def start(self) -> None:
        """Open the ledger, take over what earlier processes left, and start the tasks.

        Raises:
            SchemaError, LedgerBusyError, SpoolError: starting would lose usage; LiteLLM must not serve.

        """
        await asyncio.to_thread(self.spool.adopt)
        await self._open_ledger()
        await self.policy.start()
        metrics.POLICY_REVISION.set(self.policy.revision)
        for name, seconds, work in (
            ("survey", _SURVEY_SECONDS, self._survey),
            ("leases", self.limits.lease / 3, self._renew_and_sweep),
            ("heartbeat", _HEARTBEAT_SECONDS, self._heartbeat),
            ("spool", _REPLAY_SECONDS, self._replay),
        ):
            self._tasks.append(asyncio.create_task(self._every(name, seconds, work), name=f"owui-budget {name}"))
        self._tasks.append(asyncio.create_task(self._check_wiring_before_the_first_call(), name="owui-budget wiring"))
        log.info("token budgets are on: version %s, policy revision %d", __version__, self.policy.revision)

    async def _open_ledger(self) -> None:
        try:
            if self._engine.dialect.name == "sqlite":
                # The embedded ledger has no operator's migration step: whoever opens the file owns it.
                await asyncio.to_thread(migrate.upgrade, self._engine)
            await self.ledger.start()
            self._ledger_open = True
            await asyncio.to_thread(seed.learn_from_events, self._engine, self._typical)
        except LedgerUnavailableError as error:
            log.error("the ledger cannot be opened yet: %s", error)  # noqa: TRY400 - expected, retried by the tasks

    async def _every(self, name: str, seconds: float, work: Callable[[], Coroutine[Any, Any, None]]) -> None:
        while True:
            try:
                await work()
            except BudgetError as error:
                log.warning("%s: %s: %s", name, type(error).__name__, error)
            except Exception:  # the task must outlive any bug in one round; the traceback is logged
                log.exception("%s failed; it goes on", name)
            await asyncio.sleep(seconds)

    async def _survey(self) -> None:
        survey = self.registry.survey(time.monotonic())
        for call in survey.vanished:
            self.ender.vanished(call)
        metrics.IN_FLIGHT.set(len(self.registry))
        self._check_wiring()

    def _check_wiring(self) -> bool:
        """Look for what makes limits worth nothing; True once LiteLLM has loaded its callbacks."""
        if not self.problems:
            self.problems = selfcheck.problems(self.settings)
            if self.problems:
                for problem in self.problems:
                    log.critical("every call is refused: %s", problem)
                selfcheck.make_sure_that_calls_are_refused()
        return bool(self.problems) or selfcheck.is_loaded()

    async def _check_wiring_before_the_first_call(self) -> None:
        while not self._check_wiring():  # noqa: ASYNC110 - LiteLLM tells nobody when it has loaded
            await asyncio.sleep(_WIRING_SECONDS)

    async def _renew_and_sweep(self) -> None:
        leases = self.registry.survey(time.monotonic()).leases
        if leases:
            await self.ledger.renew(leases)
        swept = await self.ledger.sweep()
        if swept.expired:
            log.warning("%d calls of vanished processes were charged as their estimates", swept.expired)

    async def _replay(self) -> None:
        await self.gate.try_spool()
        if not self._ledger_open:
            await self._open_ledger()
        await self._follow_policy()
        metrics.POLICY_REVISION.set(self.policy.revision)
        await self.gate.look()
        if self.spool.depth():
            await self.gate.replay()

    async def _follow_policy(self) -> None:
        """Keep the policy current between calls too, so that the first call after a change need not wait for it."""
        state = await self.ledger.state()
        if self.policy.from_disk or self.policy.revision != state.revision:
            await self.policy.reload()

    async def _heartbeat(self) -> None:
        beat = Heartbeat(
            id=self.process_id,
            kind="hooks",
            host=socket.gethostname(),
            pid=os.getpid(),
            version=__version__,
            started_at=self.started_at,
            seen_at=self._clock.now(),
            policy_revision=self.policy.revision,
            limits_digest=self.limits.digest,
            spool_depth=self.spool.depth(),
            open_since=self.gate.open_since,
            problems=self.problems,
        )
        await asyncio.to_thread(write_heartbeat, self._engine, beat)

    def refuse_if_unsafe(self) -> None:
        """Refuse every call while the proxy is wired so that limits could be walked round.

        Raises:
            BudgetAnswer: 503, naming the setting to change.

        """
        if self.problems:
            raise answers.unavailable(
                60, f"Token budgets are not safe with this LiteLLM configuration: {self.problems[0]}"
            )

    async def stop(self, flush: Callable[[], Coroutine[Any, Any, Any]]) -> None:
        """Finish the ends of all calls before the process goes: LiteLLM itself does not wait for them."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        try:
            async with asyncio.timeout(_FLUSH_SECONDS):
                await flush()
        except TimeoutError:
            log.warning("LiteLLM's logging queue was not empty after %.0f s", _FLUSH_SECONDS)
        await asyncio.sleep(0)
        left = await self.ender.drain(_DRAIN_SECONDS)
        if left:
            log.error("%d ends of calls were not written; their leases will charge the estimates", left)
        await self.ledger.close()
        try:
            await asyncio.to_thread(forget_process, self._engine, self.process_id)
        except LedgerUnavailableError as error:
            log.warning("the heartbeat row stays until it is old: %s", error)
        self.spool.close()
        self._engine.dispose()


_starting = asyncio.Lock()


async def current_runtime() -> Runtime:
    """Return this process' runtime, starting it at the first call.

    Raises:
        BudgetError: it cannot start; the call is answered with 500 and the reason is in the log.

    """
    runtime = Runtime.started()
    if runtime is not None:
        return runtime
    async with _starting:
        if Runtime._started is None:  # noqa: SLF001 - this function is the class's own door
            settings = load_hooks_settings()
            fresh = Runtime(settings, settings.limits())
            await fresh.start()
            Runtime._started = fresh  # noqa: SLF001
        return Runtime._started  # noqa: SLF001
