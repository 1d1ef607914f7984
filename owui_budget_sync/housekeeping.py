"""What keeps the ledger from growing for ever: usage events past their retention are rolled up and deleted, daily."""

import asyncio
import logging

from sqlalchemy import Engine, select

from owui_budget.clock import Clock
from owui_budget.database.tables import sync_state
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.access import snapshot
from owui_budget.ledger.retention import retain

log = logging.getLogger(__name__)

FIRST = 120.0
"""Seconds after the start: a process that comes up has more urgent things to do."""
EVERY = 6 * 3600.0
"""Seconds between two looks; a day's events go once the day is too old, so most looks find nothing."""


class Housekeeping:
    """Runs in every sync process; only the leader's does something."""

    def __init__(self, engine: Engine, holder: str, clock: Clock, days: int) -> None:
        """Keep usage events for `days` days."""
        self._engine = engine
        self._holder = holder
        self._clock = clock
        self._days = days

    async def run(self) -> None:
        """Look now and then, for ever."""
        await asyncio.sleep(FIRST)
        while True:
            try:
                await asyncio.to_thread(self.look)
            except LedgerUnavailableError as error:
                log.warning("old usage events wait for the next look: %s", error)
            await asyncio.sleep(EVERY)

    def look(self) -> bool:
        """Roll up and delete what is too old, if this process leads; return whether it does.

        Raises:
            LedgerUnavailableError: the database cannot be reached; what was rolled up stays so.

        """
        with snapshot(self._engine) as connection:
            leader = connection.execute(select(sync_state.c.leader_id)).scalar()
        if leader != self._holder:
            return False
        done = retain(self._engine, self._clock, self._days)
        if done.events or done.counters:
            log.info("rolled up old usage events", extra={"days": done.days, "events": done.events})
        return True
