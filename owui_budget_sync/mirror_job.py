"""Mirrors the policy store to LiteLLM in the background: when the policy has changed, and from time to time in full.

It works from the policy store alone, so that Open WebUI may be away, and a mirroring that was killed goes on.
"""

import asyncio
import logging
from collections.abc import Callable
from hashlib import sha256

from pydantic import SecretStr

from owui_budget.clock import Clock
from owui_budget.errors import BudgetError, LedgerUnavailableError
from owui_budget.limits_file import Limits
from owui_budget.policy_store import SqlPolicyStore
from owui_budget_sync import desired as desire
from owui_budget_sync.health import Health
from owui_budget_sync.litellm.mirror import LitellmMirror, Mirrored
from owui_budget_sync.litellm.objects import ConnectionKey, MirrorState
from owui_budget_sync.state import Note

log = logging.getLogger(__name__)

FULL_EVERY = 3_600.0
"""Seconds between two comparisons with everything LiteLLM has."""
SETTLE = 2.0
"""Seconds after a change in which more are awaited: nobody waits for LiteLLM's pages, and edits come in bursts."""
PAUSES = (2.0, 5.0, 15.0, 60.0, 300.0)
"""Seconds after the first, second, … failure in a row."""


def connection_keys(secrets: tuple[SecretStr, ...]) -> dict[str, SecretStr]:
    """The connection keys by their hash, which is how LiteLLM names them."""
    return {sha256(secret.get_secret_value().encode()).hexdigest(): secret for secret in secrets}


def derive(store: SqlPolicyStore, limits: Limits, hashes: frozenset[str]) -> tuple[MirrorState, tuple[Note, ...]]:
    """Derive LiteLLM's objects from the policy store. Blocking: seconds for 100,000 users."""
    groups = store.groups()
    mirror = desire.Mirror(limits.rules, limits.mirror_members_max, {each: ConnectionKey(each) for each in hashes})
    return mirror.derive(groups, store.members(groups.keys()), store.users()), tuple(mirror.notes)


class MirrorJob:
    """The loop."""

    def __init__(
        self,
        mirror: LitellmMirror,
        desired: Callable[[], tuple[MirrorState, tuple[Note, ...]]],
        health: Health,
        clock: Clock,
        heavy: asyncio.Lock | None = None,
    ) -> None:
        """Mirror what `desired` returns (it may block) through `mirror`.

        `heavy` is held while all users are in memory, so that not two jobs hold them at once.
        """
        self._mirror = mirror
        self._desired = desired
        self._health = health
        self._clock = clock
        self._heavy = heavy or asyncio.Lock()
        self._wanted = asyncio.Event()
        self._wanted.set()
        self._restart = False
        self._full_at = 0.0
        self._planned = self._counted = 0
        self.notes: tuple[str, ...] = ()

    def want(self, *, at_once: bool) -> None:
        """Ask for a mirroring; `at_once` stops a long one under way, which then begins anew with groups first."""
        self._restart = self._restart or at_once
        self._wanted.set()

    async def run(self) -> None:
        """Mirror for ever, while this process leads."""
        failures = 0
        while True:
            await self._wait()
            if not self._health.leading:
                await asyncio.sleep(1)
                continue
            try:
                await self.once()
                failures = 0
            except LedgerUnavailableError as error:
                log.warning("mirroring waits for the database: %s", error)
                failures += 1
            except BudgetError as error:
                failures += 1
                self._health.litellm.failed(str(error), self._clock.now())
                log.warning("LiteLLM could not be brought up to date: %s", error, extra={"attempt": failures})
            if failures:
                self._wanted.set()
                await asyncio.sleep(PAUSES[min(failures, len(PAUSES)) - 1])

    async def once(self) -> int:
        """Mirror once; return how many changes were made."""
        self._wanted.clear()
        self._restart = False
        now = self._clock.now()
        full = now - self._full_at >= FULL_EVERY and await self._mirror.affordable()
        async with self._heavy:
            desired, notes = await asyncio.to_thread(self._desired)
            changes, current = await self._mirror.changes(desired, full=full)
        self._planned, self._counted = len(changes), 0
        done = await self._mirror.apply(changes, desired, self._go_on)
        self._count(done)
        self._health.litellm.fine()
        if full and not self._restart:
            self._full_at = now
        strangers = (*current.foreign.values(), *done.foreign)
        self.notes = (
            *(note.text for note in notes),
            *(
                f"LiteLLM {each.kind} {each.id} is not ours ({each.reason}): it is left as it is"
                for each in strangers
                # A connection key that an operator made is as good as one of ours; `check` looks at its routes.
                if each.kind != "key"
            ),
        )
        if done.applied:
            log.info("LiteLLM is up to date", extra={"changes": done.applied, "full": full})
        return done.applied

    async def _wait(self) -> None:
        """Until something changed, or the next full comparison is due."""
        due = max(0.0, self._full_at + FULL_EVERY - self._clock.now())
        try:
            async with asyncio.timeout(due):
                await self._wanted.wait()
        except TimeoutError:
            return
        await asyncio.sleep(SETTLE)

    def _count(self, done: Mirrored) -> None:
        metrics = self._health.metrics
        metrics.mirror_pending.set(self._planned - done.applied - len(done.foreign))
        metrics.mirrored.inc(done.applied - self._counted)
        self._counted = done.applied

    async def _go_on(self, done: Mirrored) -> bool:
        self._count(done)
        if self._restart:
            self._wanted.set()
        return self._health.leading and not self._restart
