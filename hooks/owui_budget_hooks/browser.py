"""Calls whose answer a person reads in Open WebUI's chat: they get their usage numbers, and warnings as toasts."""

from collections.abc import MutableMapping
from typing import Any

from owui_budget_hooks.inflight import InFlight
from owui_budget_hooks.notices import Notices
from owui_budget_hooks.request import Connection, path_of
from owui_budget_hooks.routes import Route


def is_browser_chat(data: MutableMapping[str, Any], route: Route, connection: Connection | None) -> bool:
    """Whether the call comes from a browser chat; never an API client, whose program an event frame would break."""
    return connection is not None and connection.is_browser_chat(route, path_of(data))


async def prepare(data: MutableMapping[str, Any], call: InFlight, notices: Notices) -> None:
    """Let the usage chunk reach Open WebUI's analytics, and claim warnings that are due."""
    call.notices = await notices.claim(call)
    if call.notices and not call.streaming:
        # Open WebUI follows the answer's content type, so a warning can ride on a stream that nobody asked for.
        data["stream"] = True
        call.streaming = True
    # LiteLLM asks some providers for usage and hides the chunk again, and lets others' (Anthropic, Gemini, Ollama …) go
    # without; Open WebUI would record 0 tokens. It never refuses the option, whatever the provider knows.
    data.pop("_litellm_strip_stream_usage", None)
    if call.streaming:
        _include_usage(data)


def _include_usage(data: MutableMapping[str, Any]) -> None:
    options = data.get("stream_options")
    data["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
    # For providers that do not know the option LiteLLM looks at its record of the request, made before the hooks ran.
    record = data.get("litellm_logging_obj")
    if record is not None:
        record.stream_options = data["stream_options"]
