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
    say("reading the database")
    engine, more = _engine(wiring)
    found += more
    try:
        readable = False
        if engine is not None:
            readable, more = _database(engine, wiring, limits)
            found += more
        say("asking LiteLLM")
        found += await litellm.look(wiring)
        say("asking Open WebUI")
        found += await _openwebui(wiring, engine if readable else None, probed_model)
    finally:
        if engine is not None:
            engine.dispose()
    return sorted_findings(found)


def _engine(wiring: SyncSettings) -> tuple[sa.Engine | None, list[Finding]]:
    try:
        return database.existing_engine(wiring), []
    except ConfigurationError as error:
        return None, [_unusable(error)]


async def _openwebui(wiring: SyncSettings, engine: sa.Engine | None, probed_model: str | None) -> list[Finding]:
    notes = Notes(Area.OPENWEBUI)
    try:
        client = OpenWebuiClient(wiring)
    except ConfigurationError as error:
        return [notes.skipped("its configuration", str(error))]
    async with client:
        found = await openwebui.look(wiring, client)
        if probed_model is not None:
            if engine is None:
                return [*found, notes.skipped("the probe", "the ledger cannot be read")]
            found += await probe(client, engine, probed_model)
    return found


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
