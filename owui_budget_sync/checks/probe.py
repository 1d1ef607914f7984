"""One real, tiny chat through Open WebUI, and whether the ledger has it as its user's.

The only way to see that Open WebUI signs who is calling, that LiteLLM's hooks know the connection's key, and that both
write to and read from this ledger.
"""

import asyncio
from collections.abc import Mapping
from typing import Any, Final

import httpx
import sqlalchemy as sa

from owui_budget.database.tables import usage_events
from owui_budget.domain.identity import Caller
from owui_budget.errors import BudgetError
from owui_budget.ledger.access import snapshot
from owui_budget.wording import shown
from owui_budget_sync.checks.findings import Area, Finding, Notes
from owui_budget_sync.openwebui.client import OpenWebuiClient

_NOTES = Notes(Area.OPENWEBUI)
PATIENCE: Final = 10.0
"""Seconds until the event must be in the ledger: it is written behind the answer."""
_LATEST: Final = 200
_LOOKS_EVERY: Final = 0.25
_LONGEST: Final = 300

Events = dict[str, tuple[str | None, str]]
"""The user and the caller of some events, by reservation."""


async def probe(client: OpenWebuiClient, engine: sa.Engine, model: str, *, patience: float = PATIENCE) -> list[Finding]:
    """Ask `model` for one token as sync's admin, and look for the call in the ledger."""
    call = {
        "model": model,
        "messages": [{"role": "user", "content": "Answer with one word."}],
        "max_tokens": 1,
        "stream": False,
    }
    try:
        session = await client.get("/api/v1/auths/", dict[str, Any])
        before = await asyncio.to_thread(_latest, engine)
        answer = await client.ask("POST", "/api/chat/completions", call)
    except BudgetError as error:
        return [_NOTES.skipped("the probe", str(error))]
    if not answer.is_success:
        return [_refused(answer, model)]
    return [await _in_ledger(engine, str(session.get("id")), before, patience)]


def _refused(answer: httpx.Response, model: str) -> Finding:
    error = _json(answer).get("error") or _json(answer).get("detail") or {}
    said = str(error.get("message") if isinstance(error, Mapping) else error)
    code = error.get("code") if isinstance(error, Mapping) else None
    what = f"a real call of {shown(model)} was answered with {answer.status_code}: {said[:_LONGEST]}"
    if code == "budget_exceeded":
        return _NOTES.ok("a real call arrived as its user, who is over a limit: limits hold")
    if code == "budget_identity_refused":
        return _NOTES.error(
            what,
            "no chat of any user gets through",
            "Open WebUI: ENABLE_FORWARD_USER_INFO_HEADERS=true, and FORWARD_USER_INFO_HEADER_JWT_SECRET the same as"
            " OWUI_BUDGET_JWT_SECRET of LiteLLM",
        )
    return _NOTES.error(what, "users probably get the same", "see the logs of LiteLLM and Open WebUI")


async def _in_ledger(engine: sa.Engine, user_id: str, before: Events, patience: float) -> Finding:
    deadline = asyncio.get_running_loop().time() + patience
    while True:
        # By what is new, not by time: the clocks of two machines differ, and a test clock may be on.
        new = {key: row for key, row in (await asyncio.to_thread(_latest, engine)).items() if key not in before}
        if (user_id, Caller.OPENWEBUI) in new.values():
            return _NOTES.ok("a real call arrived as its user and is in the ledger")
        if asyncio.get_running_loop().time() > deadline:
            break
        await asyncio.sleep(_LOOKS_EVERY)
    if any(caller == Caller.SERVICE for _, caller in new.values()):
        return _NOTES.error(
            "a real call is in the ledger as a service's, not as its user's",
            "no chat counts against anybody's limits",
            "OWUI_BUDGET_CONNECTION_KEYS of the LiteLLM process must hold the key of Open WebUI's connection",
        )
    return _NOTES.error(
        "a real call was answered and is not in the ledger",
        "nothing is counted",
        "the connection must lead to the LiteLLM with the hooks, whose OWUI_BUDGET_DATABASE_URL must be this ledger's",
    )


def _latest(engine: sa.Engine) -> Events:
    columns = usage_events.c
    latest = (
        sa.select(columns.reservation_id, columns.user_id, columns.caller).order_by(columns.at.desc()).limit(_LATEST)
    )
    with snapshot(engine) as connection:
        return {row.reservation_id: (row.user_id, row.caller) for row in connection.execute(latest)}


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}
