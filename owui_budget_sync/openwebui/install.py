"""Installs the event function in Open WebUI through its admin API: creates, updates and enables what differs.

The function is ours by its id. `POST /functions/sync` is never used: it removes every function that is not in its list.
"""

from collections.abc import Mapping
from importlib.resources import files
from typing import Any

from owui_budget.errors import ConfigurationError, SourceRefusedError
from owui_budget_sync.openwebui.client import OpenWebuiClient

FUNCTION_ID = "owui_budget_trigger"
_PATH = f"/api/v1/functions/id/{FUNCTION_ID}"


def source() -> str:
    """The function's text as it ships with this release."""
    return files(__package__).joinpath("function.py").read_text(encoding="utf-8")


def trigger_url(service_url: str) -> str:
    """The address that the function posts to."""
    return f"{service_url.rstrip('/')}/trigger"


async def install(client: OpenWebuiClient, *, url: str, secret: str, dry_run: bool = False) -> tuple[str, ...]:
    """Bring function, valves and switch to what they should be; return what was (or would be) done, nothing if all was.

    Raises:
        SourceUnavailableError, SourceRefusedError: Open WebUI did not do it.
        ConfigurationError: functions are switched off in Open WebUI.

    """
    done: list[str] = []
    present = await _present(client)
    body = {
        "id": FUNCTION_ID,
        "name": "Budget sync trigger",
        "content": source(),
        "meta": {"description": "Tells owui-budget's sync service that groups or users have changed.", "manifest": {}},
    }
    if present is None:
        done.append("create the function")
        if not dry_run:
            await _create(client, body)
    elif present.get("type") != "event":
        msg = f"Open WebUI has a function {FUNCTION_ID} that is no event function: delete or rename it"
        raise SourceRefusedError(msg)
    elif _text(present) != body["content"]:
        done.append("update the function's text")
        if not dry_run:
            await client.post(f"{_PATH}/update", body)
    valves = {"url": url, "secret": secret}
    if present is None or not _same(await _valves(client), valves):
        done.append("set its address and secret")
        if not dry_run:
            await client.post(f"{_PATH}/valves/update", valves)
    if present is None or not present.get("is_active"):
        done.append("switch it on")
        # The address toggles, so it is only called where the function was seen to be off (a new one is).
        if not dry_run:
            await client.post(f"{_PATH}/toggle")
    return tuple(done)


async def uninstall(client: OpenWebuiClient, *, dry_run: bool = False) -> tuple[str, ...]:
    """Delete the function if it is there; return what was (or would be) done."""
    if await _present(client) is None:
        return ()
    if not dry_run:
        await client.delete(f"{_PATH}/delete")
    return ("delete the function",)


async def _present(client: OpenWebuiClient) -> Mapping[str, Any] | None:
    listed = await client.get("/api/v1/functions/", list[dict[str, Any]])
    if not any(each.get("id") == FUNCTION_ID for each in listed):
        return None
    return await client.get(_PATH, dict[str, Any])


async def _create(client: OpenWebuiClient, body: Mapping[str, Any]) -> None:
    try:
        await client.post("/api/v1/functions/create", body)
    except SourceRefusedError as error:
        if "taken" in str(error).lower():
            # It is there and yet not listed, which Open WebUI does while functions are switched off.
            msg = "functions are switched off in Open WebUI; set ENABLE_FUNCTIONS=true, or let the sync go without"
            raise ConfigurationError(msg) from error
        raise


async def _valves(client: OpenWebuiClient) -> Mapping[str, Any]:
    found = await client.get(f"{_PATH}/valves", object)
    return found if isinstance(found, dict) else {}


def _same(present: Mapping[str, Any], wanted: Mapping[str, str]) -> bool:
    return all(present.get(name) == value for name, value in wanted.items())


def _text(present: Mapping[str, Any]) -> str:
    return str(present.get("content", ""))
