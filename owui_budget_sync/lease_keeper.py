"""Keeps what must not lapse while long work is under way: the lease, the heartbeat, and the ear for other replicas."""

import asyncio
import logging
from collections.abc import Callable

from owui_budget.errors import LedgerUnavailableError
from owui_budget_sync.health import Health
from owui_budget_sync.leader import Leadership
from owui_budget_sync.policy_sync import Depth
from owui_budget_sync.runner import STANDBY, Runner

log = logging.getLogger(__name__)


async def keep_lease(
    leadership: Leadership, runner: Runner, health: Health, beat: Callable[[], None], *, every: float = STANDBY
) -> None:
    """Renew the lease and the heartbeat beside long work, and hear what reached other replicas.

    Losing the lease is noticed by the next write's fence at the latest.
    """
    while True:
        try:
            if health.leading:
                health.leading = await asyncio.to_thread(leadership.acquire) is not None
                for wanted in await asyncio.to_thread(leadership.passed_on):
                    runner.trigger(Depth(wanted))
            await asyncio.to_thread(beat)
        except LedgerUnavailableError as error:
            log.warning("the lease could not be renewed: %s", error)
        await asyncio.sleep(every)
