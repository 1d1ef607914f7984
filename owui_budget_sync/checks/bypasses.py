"""Ways around LiteLLM in Open WebUI: what takes them is neither counted nor limited."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import httpx

from owui_budget.errors import BudgetError
from owui_budget.wording import shown
from owui_budget_sync.checks.findings import Finding, Notes
from owui_budget_sync.openwebui.client import OpenWebuiClient

Json = Mapping[str, Any]

_UNCOUNTED: Final = "what it takes is neither counted nor limited"
_PROBE_PATH: Final = "/openai/owui-budget-check"
_SPEECH_PROVIDERS: Final = frozenset({"openai", "elevenlabs", "azure", "mistral", "deepgram"})
_PICTURE_PROVIDERS: Final = frozenset({"openai", "gemini"})


def ollama(notes: Notes, config: Json) -> list[Finding]:
    """Ollama has connections of its own."""
    if not config.get("ENABLE_OLLAMA_API"):
        return [notes.ok("Ollama is off")]
    return [
        notes.error(
            "the Ollama API is on",
            f"Ollama's models are reached directly: {_UNCOUNTED}",
            "ENABLE_OLLAMA_API=false; put Ollama behind LiteLLM (model: ollama_chat/…)",
        )
    ]


def direct_connections(notes: Notes, config: Json) -> list[Finding]:
    """Users may be allowed to bring providers of their own."""
    if not config.get("ENABLE_DIRECT_CONNECTIONS"):
        return [notes.ok("direct connections are off")]
    return [
        notes.warning(
            "users may add direct connections",
            f"their browsers then call other providers, with keys of their own: {_UNCOUNTED}",
            "ENABLE_DIRECT_CONNECTIONS=false",
        )
    ]


def audio(notes: Notes, config: Json, keys: frozenset[str]) -> list[Finding]:
    """Speech has addresses and keys of its own."""
    found = []
    for part, name, variable in (("tts", "speech output", "AUDIO_TTS"), ("stt", "speech recognition", "AUDIO_STT")):
        settings = config.get(part) or {}
        if settings.get("ENGINE") in _SPEECH_PROVIDERS and not (
            settings.get("ENGINE") == "openai" and settings.get("OPENAI_API_KEY") in keys
        ):
            found.append(_elsewhere(notes, name, variable))
    realtime = config.get("realtime") or {}
    if realtime.get("ENABLED") and realtime.get("OPENAI_API_KEY") not in keys:
        found.append(
            notes.warning(
                "realtime voice calls do not go through LiteLLM",
                _UNCOUNTED,
                "switch them off in Admin Settings > Audio: the hooks cannot count realtime calls",
            )
        )
    return found or [notes.ok("speech goes through LiteLLM, or runs locally")]


def images(notes: Notes, config: Json, keys: frozenset[str]) -> list[Finding]:
    """Images have addresses and keys of their own."""
    found = []
    if (
        config.get("ENABLE_IMAGE_GENERATION")
        and config.get("IMAGE_GENERATION_ENGINE") in _PICTURE_PROVIDERS
        and not (config.get("IMAGE_GENERATION_ENGINE") == "openai" and config.get("IMAGES_OPENAI_API_KEY") in keys)
    ):
        found.append(_elsewhere(notes, "image generation", "IMAGES"))
    if (
        config.get("ENABLE_IMAGE_EDIT")
        and config.get("IMAGE_EDIT_ENGINE") in _PICTURE_PROVIDERS
        and not (config.get("IMAGE_EDIT_ENGINE") == "openai" and config.get("IMAGES_EDIT_OPENAI_API_KEY") in keys)
    ):
        found.append(_elsewhere(notes, "image editing", "IMAGES_EDIT"))
    return found or [notes.ok("images go through LiteLLM, or are off or local")]


def embeddings(notes: Notes, config: Json, keys: frozenset[str]) -> list[Finding]:
    """Embeddings of documents have an address and a key of their own."""
    engine = config.get("RAG_EMBEDDING_ENGINE") or ""
    if engine == "openai" and (config.get("openai_config") or {}).get("key") in keys:
        return [notes.ok("embeddings go through LiteLLM")]
    if not engine:
        return [notes.ok("embeddings run locally")]
    return [_elsewhere(notes, "embedding of documents", "RAG")]


def functions(notes: Notes, functions: Sequence[Json]) -> list[Finding]:
    """A pipe is a model of its own, which may call any provider."""
    pipes = [each for each in functions if each.get("type") == "pipe" and each.get("is_active")]
    if not pipes:
        return [notes.ok("no pipe function is active")]
    names = ", ".join(shown(str(each.get("name"))) for each in pipes[:5])
    return [
        notes.warning(
            f"{len(pipes)} pipe functions are active: {names}",
            f"a pipe may call a provider with a key of its own: {_UNCOUNTED}",
            "switch off those that do (Admin Panel > Functions), or let them call LiteLLM",
        )
    ]


def permissions(notes: Notes, config: Json) -> list[Finding]:
    """Users who may write tools run Python inside the server."""
    workspace = config.get("workspace") or {}
    if not (workspace.get("tools") or workspace.get("tools_import")):
        return [notes.ok("users may not write tools")]
    return [
        notes.warning(
            "by default users may write or import tools",
            "a tool is Python inside Open WebUI: it can read the connection's key, which speaks for every user",
            "USER_PERMISSIONS_WORKSPACE_TOOLS_ACCESS=false and USER_PERMISSIONS_WORKSPACE_TOOLS_IMPORT=false",
        )
    ]


async def passthrough(notes: Notes, client: OpenWebuiClient) -> list[Finding]:
    """Open WebUI can pass any request on with the connection's key. Asked for a page that exists nowhere."""
    try:
        answer = await client.ask("GET", _PROBE_PATH)
    except BudgetError as error:
        return [notes.skipped("the OpenAI passthrough", str(error))]
    if answer.status_code == httpx.codes.FORBIDDEN and "passthrough is disabled" in answer.text:
        return [notes.ok("the OpenAI passthrough is off")]
    return [
        notes.error(
            "the OpenAI passthrough is on",
            "any user may call any of LiteLLM's routes that the connection's key may call",
            "ENABLE_OPENAI_API_PASSTHROUGH=false",
        )
    ]


def _elsewhere(notes: Notes, what: str, variable: str) -> Finding:
    return notes.warning(
        f"{what} does not go through LiteLLM with our key",
        _UNCOUNTED,
        f"engine openai, {variable}_OPENAI_API_BASE_URL: LiteLLM's address with /v1, {variable}_OPENAI_API_KEY: the"
        " connection's key (see docker-compose.yml)",
    )
