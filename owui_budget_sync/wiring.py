"""Puts the parts together from the settings: for the commands and for the daemon alike."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial

from pydantic import SecretStr
from sqlalchemy import Engine

from owui_budget.clock import Clock
from owui_budget.config import SyncSettings
from owui_budget.limits_file import Limits
from owui_budget.policy_store import SqlPolicyStore
from owui_budget_sync.health import Health
from owui_budget_sync.litellm.client import LitellmAdmin
from owui_budget_sync.litellm.mirror import LitellmMirror
from owui_budget_sync.litellm.reader import LitellmReader
from owui_budget_sync.litellm.remembered import Remembered
from owui_budget_sync.litellm.writer import LitellmWriter
from owui_budget_sync.mirror_job import MirrorJob, connection_keys, derive
from owui_budget_sync.openwebui.api import ApiSource
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.openwebui.database import DatabaseSource, open_database
from owui_budget_sync.openwebui.protocol import Source
from owui_budget_sync.policy_sync import PolicySync


def make_source(settings: SyncSettings, clock: Clock) -> Source:
    """Open WebUI's database where its URL is set, else its API.

    Raises:
        ConfigurationError: neither is set completely.

    """
    if settings.openwebui_database_url is not None:
        return DatabaseSource(open_database(settings), clock)
    return ApiSource(OpenWebuiClient(settings), clock)


@dataclass(frozen=True)
class Parts:
    """What a sync works with."""

    settings: SyncSettings
    limits: Limits
    engine: Engine
    clock: Clock
    store: SqlPolicyStore
    source: Source
    mirror: LitellmMirror | None
    """None where LiteLLM's admin API is not set: then only the policy is kept up to date."""

    @property
    def policy(self) -> PolicySync:
        """The policy's part."""
        return PolicySync(self.source, self.store)

    @property
    def hashes(self) -> frozenset[str]:
        """The connection keys, by hash."""
        return frozenset(_managed_keys(self.settings))

    def mirror_job(self, health: Health, heavy: asyncio.Lock) -> MirrorJob | None:
        """LiteLLM's part."""
        if self.mirror is None:
            return None
        desired = partial(derive, self.store, self.limits, self.hashes)
        return MirrorJob(self.mirror, desired, health, self.clock, heavy)


@asynccontextmanager
async def parts(
    settings: SyncSettings, limits: Limits, engine: Engine, clock: Clock, *, paced: bool
) -> AsyncIterator[Parts]:
    """Open the sources and targets; the engine stays the caller's. `paced` bounds the rate of requests to LiteLLM.

    Raises:
        ConfigurationError: Open WebUI is not set completely.

    """
    source = make_source(settings, clock)
    admin = None
    mirror = None
    try:
        if settings.litellm_url and settings.litellm_master_key:
            admin = LitellmAdmin(settings, rate=settings.mirror_rate if paced else None)
            writer = LitellmWriter(admin, _managed_keys(settings))
            mirror = LitellmMirror(LitellmReader(admin), writer, Remembered(engine, "customer", clock))
        yield Parts(settings, limits, engine, clock, SqlPolicyStore(engine), source, mirror)
    finally:
        await source.close()
        if admin is not None:
            await admin.close()


def _managed_keys(settings: SyncSettings) -> dict[str, SecretStr]:
    """The connection keys to be made in LiteLLM; the master key, which may stand among them, is there already."""
    found = connection_keys(settings.connection_keys)
    for master in connection_keys((settings.litellm_master_key,) if settings.litellm_master_key else ()):
        found.pop(master, None)
    return found
