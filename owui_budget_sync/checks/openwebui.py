"""Open WebUI: reachable, its admin's login, the connection to LiteLLM with its headers, and ways around LiteLLM.

Whether ENABLE_FORWARD_USER_INFO_HEADERS and the JWT secret are set, no API tells: `probe` finds out by a real call.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final
from urllib.parse import urlsplit

from owui_budget.config import SyncSettings
from owui_budget.domain.identity import Role
from owui_budget.errors import BudgetError, SourceUnavailableError
from owui_budget.wording import shown
from owui_budget_sync.checks import bypasses, versions
from owui_budget_sync.checks.findings import Area, Finding, Notes
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.openwebui.install import FUNCTION_ID

_NOTES = Notes(Area.OPENWEBUI)

_GROUP_IDS: Final = "X-OpenWebUI-Group-Ids"
HEADERS: Final = {
    "X-OpenWebUI-User-Id": "{{USER_ID}}",
    _GROUP_IDS: "{{USER_GROUP_IDS}}",
    "X-OpenWebUI-Task": "{{TASK}}",
    "X-OpenWebUI-Message-Id": "{{MESSAGE_ID}}",
    "X-OpenWebUI-Chat-Id": "{{CHAT_ID}}",
}
"""What the connection must send, and what for: see `_WITHOUT`."""
_WITHOUT: Final = {
    "X-OpenWebUI-User-Id": "LiteLLM's spend pages do not show who used what",
    _GROUP_IDS: "a change of groups counts only after sync has read it, not from the very next call",
    "X-OpenWebUI-Task": "titles, tags and other background tasks count against the limits",
    "X-OpenWebUI-Message-Id": "nobody sees a warning in the chat",
    "X-OpenWebUI-Chat-Id": "reports cannot tell chats from API calls",
}

Json = Mapping[str, Any]


async def look(settings: SyncSettings, client: OpenWebuiClient) -> list[Finding]:
    """Ask Open WebUI's API as an admin."""
    try:
        version = await client.get("/api/version", dict[str, Any])
        session = await client.get("/api/v1/auths/", dict[str, Any])
    except SourceUnavailableError as error:
        fix = "make it answer, or mend OWUI_BUDGET_OPENWEBUI_URL"
        return [_NOTES.error(str(error), "sync reads no change of groups and limits; the last good policy holds", fix)]
    except BudgetError as error:
        fix = "give the e-mail and password, or an API key, of an admin"
        return [_NOTES.error(str(error), "sync cannot read groups", fix)]
    if Role.parse(session.get("role")) is not Role.ADMIN:
        return [
            _NOTES.error(
                f"the account that sync uses has the role {session.get('role')}",
                "Open WebUI shows it its own groups only",
                "make it an admin, or give another account",
            )
        ]
    found = [
        _NOTES.ok(f"reachable at {client.url}, the account is an admin"),
        versions.openwebui(_NOTES, str(version.get("version"))),
    ]
    for path, judge in _rooms(settings):
        found += await _judged(client, path, judge)
    found += await bypasses.passthrough(_NOTES, client)
    return found


Judge = Callable[[Any], list[Finding]]


def _rooms(settings: SyncSettings) -> list[tuple[str, Judge]]:
    keys = frozenset(key.get_secret_value() for key in settings.connection_keys)
    return [
        ("/openai/config", lambda config: connections(config, keys, settings.litellm_url)),
        ("/ollama/config", lambda config: bypasses.ollama(_NOTES, config)),
        ("/api/v1/configs/connections", lambda config: bypasses.direct_connections(_NOTES, config)),
        ("/api/v1/audio/config", lambda config: bypasses.audio(_NOTES, config, keys)),
        ("/api/v1/images/config", lambda config: bypasses.images(_NOTES, config, keys)),
        ("/api/v1/retrieval/embedding", lambda config: bypasses.embeddings(_NOTES, config, keys)),
        ("/api/v1/functions/", lambda functions: bypasses.functions(_NOTES, functions) + trigger(functions, settings)),
        ("/api/v1/users/default/permissions", lambda config: bypasses.permissions(_NOTES, config)),
    ]


async def _judged(client: OpenWebuiClient, path: str, judge: Judge) -> list[Finding]:
    try:
        answer = await client.get(path, object)
    except BudgetError as error:
        return [_NOTES.skipped(path, str(error))]
    try:
        return judge(answer)
    except (AttributeError, TypeError, KeyError, ValueError):
        return [_NOTES.skipped(path, "Open WebUI answered in a shape that this release does not know")]


def trigger(functions: Sequence[Json], settings: SyncSettings) -> list[Finding]:
    """Judge the event function that tells sync of changes."""
    if any(each.get("id") == FUNCTION_ID and each.get("is_active") for each in functions):
        return [_NOTES.ok("the event function tells sync of changes")]
    return [
        _NOTES.warning(
            "no event function tells sync of changes in Open WebUI",
            f"new limits hold only after sync's next look, up to {settings.sync_interval:.0f} s later",
            "owui-budget openwebui install",
        )
    ]


def connections(config: Json, keys: frozenset[str], litellm_url: str | None) -> list[Finding]:
    """Judge the OpenAI connections: ours must be right, and there should be no other."""
    if not config.get("ENABLE_OPENAI_API"):
        return [
            _NOTES.error(
                "the OpenAI API is switched off in Open WebUI",
                "there is no way to LiteLLM",
                "ENABLE_OPENAI_API=true, with LiteLLM as the one connection",
            )
        ]
    urls, secrets = config.get("OPENAI_API_BASE_URLS") or [], config.get("OPENAI_API_KEYS") or []
    options = config.get("OPENAI_API_CONFIGS") or {}
    found: list[Finding] = []
    ours = 0
    for index, url in enumerate(urls):
        option = options.get(str(index), options.get(url)) or {}
        if option.get("enable") is False:
            continue
        key = secrets[index] if index < len(secrets) else ""
        if key in keys:
            ours += 1
            found += _connection(index, url, option, litellm_url)
        else:
            found.append(_stranger(index, url, litellm_url))
    if not ours:
        found.append(
            _NOTES.error(
                "no connection of Open WebUI uses a key of OWUI_BUDGET_CONNECTION_KEYS",
                "no chat is counted for its user",
                "Admin Settings > Connections: LiteLLM's address with /v1, and that key",
            )
        )
    return found


def _connection(index: int, url: str, option: Json, litellm_url: str | None) -> list[Finding]:
    found = []
    where = f"connection {index + 1} ({_address(url)})"
    if litellm_url and urlsplit(url).netloc != urlsplit(litellm_url).netloc:
        found.append(
            _NOTES.skipped(
                f"{where} names another address than sync does ({_address(litellm_url)})",
                "one program may have several addresses; this cannot be told from here",
                "`owui-budget check --probe MODEL` finds out",
            )
        )
    sent = {str(name).lower(): str(value) for name, value in (option.get("headers") or {}).items()}
    for name, value in HEADERS.items():
        given = sent.get(name.lower())
        if given == value:
            continue
        found.append(_header(where, name, value, given))
    return found or [_NOTES.ok(f"{where} uses our key and sends the headers")]


def _header(where: str, name: str, value: str, given: str | None) -> Finding:
    fix = f'"{name}": "{value}" in the connection\'s headers (OPENAI_API_CONFIGS, see docker-compose.yml)'
    if given is None:
        return _NOTES.warning(f"{where} does not send the header {name}", _WITHOUT[name], f"add {fix}")
    what = f"{where} sends {shown(given)!r} as the header {name}"
    if name == _GROUP_IDS:
        why = "what is sent is taken for the ids of the user's groups, so other limits hold than those of his groups"
        return _NOTES.error(what, why, fix)
    return _NOTES.warning(what, _WITHOUT[name], fix)


def _stranger(index: int, url: str, litellm_url: str | None) -> Finding:
    where = f"connection {index + 1} ({_address(url)})"
    if litellm_url and urlsplit(url).netloc == urlsplit(litellm_url).netloc:
        return _NOTES.error(
            f"{where} leads to LiteLLM with a key that is not in OWUI_BUDGET_CONNECTION_KEYS",
            "its calls are not counted for their users",
            "add its key to OWUI_BUDGET_CONNECTION_KEYS of LiteLLM and sync, or give the connection our key",
        )
    return _NOTES.error(
        f"{where} does not lead through LiteLLM",
        "whatever its models take is neither counted nor limited",
        "put that provider behind LiteLLM (proxy_config/config.yaml) and remove the connection",
    )


def _address(url: str) -> str:
    parts = urlsplit(url)
    return shown(f"{parts.scheme}://{parts.hostname or ''}{f':{parts.port}' if parts.port else ''}{parts.path}")
