"""All checks in their order. One that cannot be made is a finding itself and stops no other."""

from collections.abc import Callable

import sqlalchemy as sa

from owui_budget.clock import SystemClock
from owui_budget.config import SyncSettings
from owui_budget.errors import BudgetError, ConfigurationError
from owui_budget.limits_file import Limits
from owui_budget_sync.checks import database, litellm, openwebui, programs, settings
from owui_budget_sync.checks.findings import Area, Finding, Notes, sorted_findings
from owui_budget_sync.checks.probe import probe
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.queries.status import read_status

Say = Callable[[str], None]


async def examine(say: Say, probed_model: str | None = None) -> list[Finding]:
    """Look at everything and return all findings in order. `say` hears what is looked at next.

    With `probed_model`, one real call of a single token is made through Open WebUI.
    """
    say("reading the settings")
    wiring, found = settings.read_settings()
    if wiring is None:
        return sorted_findings(found)
    limits, more = settings.read_limits(wiring)
    found += [*more, *settings.wiring(wiring)]
    say("asking LiteLLM")
    found += await litellm.look(wiring)
    say("asking Open WebUI")
    found += await _openwebui(wiring)
    say("reading the database")
    try:
        engine = database.existing_engine(wiring)
    except ConfigurationError as error:
        return sorted_findings([*found, _unusable(error)])
    try:
        readable, more = _database(engine, wiring, limits)
        found += more
        if readable and probed_model is not None and wiring.openwebui_url:
            say(f"making a real call of {probed_model}")
            found += await probe(wiring, engine, probed_model)
    finally:
        engine.dispose()
    return sorted_findings(found)


async def _openwebui(wiring: SyncSettings) -> list[Finding]:
    try:
        client = OpenWebuiClient(wiring)
    except ConfigurationError as error:
        return [Notes(Area.OPENWEBUI).skipped("its configuration", str(error))]
    async with client:
        return await openwebui.look(wiring, client)


def _database(engine: sa.Engine, wiring: SyncSettings, limits: Limits | None) -> tuple[bool, list[Finding]]:
    """Return whether the ledger can be read, and findings about it and about what is written in it."""
    state, found = database.look(engine)
    if state is None:
        return False, found
    found += database.embedded(engine, wiring)
    if limits is None:
        return True, found
    found += database.zone(state, limits)
    try:
        status = read_status(engine, SystemClock(), interval=wiring.sync_interval, digest=limits.digest)
    except BudgetError as error:
        return False, [*found, _unusable(error)]
    return True, [
        *found,
        *programs.hooks(status, limits.digest),
        *programs.sync(status, wiring.sync_interval),
        *programs.groups(status.groups),
    ]


def _unusable(error: BudgetError) -> Finding:
    return Notes(Area.DATABASE).error(str(error), "nothing can be counted or read", "do what it says")
