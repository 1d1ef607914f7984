"""Streams: make providers report their usage, watch how a stream ends, and slip a warning into it."""

import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from typing import Any

from owui_budget_hooks.inflight import InFlight
from owui_budget_hooks.notices import Notices
from owui_budget_hooks.shape import utf8_length


def ask_for_usage(data: dict[str, Any], call: InFlight) -> None:
    """Ask for the usage chunk on `/v1/completions`: LiteLLM asks by itself on chat only, and reports 0 without it."""
    if call.route.name != "completion" or not call.streaming:
        return
    options = data.get("stream_options")
    asked = isinstance(options, dict) and bool(options.get("include_usage"))
    if not asked:
        data["stream_options"] = {**(options if isinstance(options, dict) else {}), "include_usage": True}
        call.hide_usage = True


async def watch(call: InFlight, response: AsyncIterator[Any], notices: Notices) -> AsyncGenerator[Any, None]:
    """Pass the stream on, counting what is delivered; the first chunk is followed by a due warning."""
    watched = call.route.watched
    call.read_by_current_task()
    try:
        async for chunk in response:
            if call.hide_usage and _is_usage_only(chunk):
                continue
            call.delivered += 1
            if watched:
                call.delivered_bytes += _text_bytes(chunk)
            yield chunk
            if call.notices and call.delivered == 1:
                yield notices.frame(call.notices)
            call.read_by_current_task()
        call.stream_done = True
    except (GeneratorExit, asyncio.CancelledError):
        call.stream_cut = True
        raise


def _is_usage_only(chunk: Any) -> bool:
    """Whether a chunk carries the usage we asked for and nothing the client asked for."""
    if getattr(chunk, "usage", None) is None:
        return False
    return not any(
        getattr(choice, "text", None) or getattr(choice, "finish_reason", None) for choice in _choices(chunk)
    )


def _choices(chunk: Any) -> list[Any]:
    choices = getattr(chunk, "choices", None)
    return choices if isinstance(choices, list) else []


def _text_bytes(chunk: Any) -> int:
    """Return the bytes of text a chunk shows; 0 where its form is not known (chunks are counted beside)."""
    if isinstance(chunk, (bytes, str)):
        return sum(_spoken(event) for event in _events(chunk))
    if isinstance(chunk, Mapping):
        return _spoken(chunk)
    total = 0
    for choice in _choices(chunk):
        text = getattr(choice, "text", None) or getattr(getattr(choice, "delta", None), "content", None)
        total += utf8_length(text) if isinstance(text, str) else 0
    delta = getattr(chunk, "delta", None)
    return total + (utf8_length(delta) if isinstance(delta, str) else 0)


def _events(chunk: bytes | str) -> list[Any]:
    """Return the JSON of each server-sent event in `chunk`; what is no JSON (`[DONE]`, half an event) is left out."""
    text = chunk.decode("utf-8", "replace") if isinstance(chunk, bytes) else chunk
    found = []
    for line in text.splitlines():
        try:
            found.append(json.loads(line.removeprefix("data:")))
        except (ValueError, RecursionError):
            continue
    return found


_SPOKEN = frozenset({"text", "thinking", "partial_json", "delta", "content", "arguments", "args"})
"""Where providers' stream events keep what the model has said."""


def _spoken(event: Any) -> int:
    """Return the bytes of text under the names in `_SPOKEN`, however deep."""
    total = 0
    stack: list[tuple[Any, bool]] = [(event, False)]
    while stack:
        item, spoken = stack.pop()
        if isinstance(item, str):
            total += utf8_length(item) if spoken else 0
        elif isinstance(item, Mapping):
            stack.extend((value, key in _SPOKEN or (spoken and key != "type")) for key, value in item.items())
        elif isinstance(item, list):
            stack.extend((value, spoken) for value in item)
    return total
