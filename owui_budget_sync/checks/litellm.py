"""LiteLLM: reachable, its version, its database, the connection's key, our callback, no header that forges users.

Its admin API shows general_settings field by field and the callbacks by class name; it does not show the rest of
litellm_settings. What it hides the hooks check from the inside at their start and report in their heartbeat.
"""

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import httpx
from pydantic import SecretStr

from owui_budget.config import SyncSettings
from owui_budget_sync.checks import versions
from owui_budget_sync.checks.findings import Area, Finding, Notes
from owui_budget_sync.litellm.objects import ROUTES

_NOTES = Notes(Area.LITELLM)
_TIMEOUT = httpx.Timeout(15.0, connect=5.0)
_CALLBACK = "BudgetCallback"


async def look(settings: SyncSettings) -> list[Finding]:
    """Ask LiteLLM's admin API."""
    if not settings.litellm_url or not settings.litellm_master_key:
        missing = "OWUI_BUDGET_LITELLM_URL" if not settings.litellm_url else "OWUI_BUDGET_LITELLM_MASTER_KEY"
        why = f"{missing} is not set, so sync mirrors no teams and this cannot be checked"
        return [_NOTES.skipped("its configuration", why, f"set {missing}")]
    headers = {"Authorization": f"Bearer {settings.litellm_master_key.get_secret_value()}"}
    async with httpx.AsyncClient(
        base_url=settings.litellm_url, headers=headers, timeout=_TIMEOUT, trust_env=False
    ) as http:
        try:
            return await _look(http, settings)
        except httpx.TransportError as error:
            return [
                _NOTES.error(
                    f"LiteLLM at {settings.litellm_url} does not answer: {type(error).__name__}",
                    "sync cannot mirror teams; if it is down for Open WebUI too, nobody can chat",
                    "start it, or mend OWUI_BUDGET_LITELLM_URL (without /v1)",
                )
            ]


async def _look(http: httpx.AsyncClient, settings: SyncSettings) -> list[Finding]:
    details = await http.get("/health/readiness/details")
    if details.status_code in (401, 403):
        return [
            _NOTES.error(
                f"LiteLLM at {settings.litellm_url} refuses the master key",
                "sync cannot mirror teams or create the connection's key",
                "set OWUI_BUDGET_LITELLM_MASTER_KEY to LiteLLM's LITELLM_MASTER_KEY",
            )
        ]
    health = _json(details)
    version = health.get("litellm_version")
    if not isinstance(version, str):
        return [
            _NOTES.error(
                f"{settings.litellm_url} answered {details.status_code}, and not as LiteLLM does",
                "sync cannot mirror teams",
                "mend OWUI_BUDGET_LITELLM_URL: LiteLLM's address, without /v1",
            )
        ]
    found = [_NOTES.ok(f"reachable at {settings.litellm_url}"), versions.litellm(_NOTES, version), *_database(health)]
    found += await _callback(http)
    found += await _mappings(http)
    for number, key in enumerate(settings.connection_keys, start=1):
        found += await _key(http, key, number)
    return found


def _database(health: Mapping[str, Any]) -> list[Finding]:
    state = health.get("db")
    if state == "connected":
        return [_NOTES.ok("its database is connected")]
    return [
        _NOTES.error(
            f"LiteLLM's database is {state or 'not connected'}",
            "without it there are no keys but the master key, and no teams",
            "set DATABASE_URL for LiteLLM, and see its log",
        )
    ]


async def _callback(http: httpx.AsyncClient) -> list[Finding]:
    answer = await http.get("/callbacks/list")
    if not answer.is_success:
        return [_NOTES.skipped("its callbacks", f"LiteLLM answered {answer.status_code}")]
    names = [name for group in _json(answer).values() if isinstance(group, list) for name in group]
    if _CALLBACK in names:
        return [_NOTES.ok("the budget callback is registered")]
    return [
        _NOTES.error(
            "the budget callback is not registered in LiteLLM",
            "nothing is counted or refused",
            "litellm_settings.callbacks: [owui_budget_hooks.callback.budget] in config.yaml, and our"
            " package installed beside LiteLLM",
        )
    ]


async def _mappings(http: httpx.AsyncClient) -> list[Finding]:
    answer = await http.get("/config/field/info", params={"field_name": "user_header_mappings"})
    # LiteLLM answers 400 for a field that is not set.
    value = _json(answer).get("field_value") if answer.is_success else None
    mappings = [each for each in (value if isinstance(value, list) else [value]) if isinstance(each, Mapping)]
    forging = [each.get("header_name") for each in mappings if each.get("litellm_user_role") == "internal_user"]
    if forging:
        return [
            _NOTES.error(
                f"user_header_mappings maps the header {forging[0]} to internal_user",
                "whoever holds any key can then claim to be any user",
                "use litellm_user_role: customer in general_settings.user_header_mappings",
            )
        ]
    if not any(each.get("litellm_user_role") == "customer" for each in mappings):
        return [
            _NOTES.warning(
                "user_header_mappings names no customer header",
                "limits hold all the same, but LiteLLM's spend pages do not show who used what",
                "general_settings.user_header_mappings:"
                " [{header_name: X-OpenWebUI-User-Id, litellm_user_role: customer}]",
            )
        ]
    return [_NOTES.ok("header mappings name customers only")]


async def _key(http: httpx.AsyncClient, key: SecretStr, number: int) -> list[Finding]:
    # By its hash: keys in an address end up in access logs.
    hashed = hashlib.sha256(key.get_secret_value().encode()).hexdigest()
    which = f"connection key {number} (hash {hashed[:12]}…)"
    answer = await http.get("/key/info", params={"key": hashed})
    info = _json(answer).get("info")
    if not answer.is_success or not isinstance(info, Mapping):
        return [
            _NOTES.error(
                f"LiteLLM does not know {which}",
                "Open WebUI's calls with it are refused",
                "owui-budget apply (sync creates it with the routes that are counted)",
            )
        ]
    found = []
    if info.get("blocked"):
        found.append(
            _NOTES.error(f"{which} is blocked", "Open WebUI's calls are refused", "unblock it in LiteLLM's key page")
        )
    routes = info.get("allowed_routes") or []
    # Every name that is no path stands for a family of routes, some of which nobody counts.
    if not routes or not all(str(route).startswith("/") for route in routes):
        found.append(
            _NOTES.warning(
                f"{which} may call {'any route' if not routes else ', '.join(map(str, routes))}",
                "whoever reads it out of Open WebUI reaches routes that no budget counts, and LiteLLM's administration"
                " as far as the key's user may",
                f"set the key's allowed_routes to {json.dumps(ROUTES)}",
            )
        )
    return found or [_NOTES.ok(f"{which} exists, for {', '.join(map(str, routes))}")]


def _json(answer: httpx.Response) -> Mapping[str, Any]:
    try:
        value = answer.json()
    except ValueError:
        return {}
    return value if isinstance(value, Mapping) else {}
