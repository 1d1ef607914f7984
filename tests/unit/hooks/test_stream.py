import asyncio
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kit import Walk, in_flight, limit, standing

from owui_budget.domain.decisions import Notice
from owui_budget_hooks.inflight import InFlight
from owui_budget_hooks.stream import ask_for_usage, watch

NOTICE = Notice(standing(limit(), used=81_750), "75")


def chunk(text: str | None = None, *, usage: object = None, finish: str | None = None) -> SimpleNamespace:
    """A chunk of `/v1/completions`."""
    choices = [] if text is None and finish is None else [SimpleNamespace(text=text, finish_reason=finish)]
    return SimpleNamespace(choices=choices, usage=usage)


async def of(*chunks: Any, error: BaseException | None = None) -> AsyncGenerator[Any, None]:
    for each in chunks:
        await asyncio.sleep(0)
        yield each
    if error is not None:
        raise error


async def read(call: InFlight, response: AsyncIterator[Any], walk: Walk) -> list[Any]:
    return [each async for each in watch(call, response, walk.notices)]


async def test_a_stream_passes_unchanged_and_is_counted(walk: Callable[..., Walk]) -> None:
    call, chunks = in_flight(), [chunk("a"), chunk("b"), chunk(finish="stop")]

    assert await read(call, of(*chunks), walk()) == chunks
    assert (call.delivered, call.stream_done, call.stream_cut) == (3, True, False)


async def test_a_warning_follows_the_first_chunk_once(walk: Callable[..., Walk]) -> None:
    call = in_flight()
    call.notices = (NOTICE,)

    first, frame, *rest = await read(call, of(chunk("a"), chunk("b"), chunk("c")), walk())

    assert first.choices[0].text == "a"
    assert json.loads(frame.removeprefix(b"data: "))["event"]["type"] == "notification"
    assert [each.choices[0].text for each in rest] == ["b", "c"]
    assert call.delivered == 3


async def test_a_stream_that_dies_at_once_carries_no_warning(walk: Callable[..., Walk]) -> None:
    call = in_flight()
    call.notices = (NOTICE,)

    with pytest.raises(ConnectionError):
        await read(call, of(error=ConnectionError()), walk())
    assert (call.delivered, call.stream_done, call.stream_cut) == (0, False, False)


async def test_a_reader_that_leaves_is_noted(walk: Callable[..., Walk]) -> None:
    call = in_flight()
    stream = watch(call, of(chunk("a"), chunk("b")), walk().notices)
    await anext(stream)

    await stream.aclose()

    assert (call.stream_cut, call.stream_done, call.delivered) == (True, False, 1)


async def test_a_request_that_is_cancelled_is_noted(walk: Callable[..., Walk]) -> None:
    call, rooms = in_flight(), walk()

    async def endless() -> AsyncGenerator[Any, None]:
        yield chunk("a")
        await asyncio.sleep(3_600)

    task = asyncio.create_task(read(call, endless(), rooms))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert call.stream_cut


async def test_whoever_asks_for_a_chunk_is_the_reader(walk: Callable[..., Walk]) -> None:
    call = in_flight()
    stream = watch(call, of(chunk("a"), chunk("b"), chunk("c")), walk().notices)

    await asyncio.ensure_future(anext(stream))
    first = call.reader
    await anext(stream)

    assert first is not None
    assert call.reader is not None
    assert call.reader() is asyncio.current_task()


async def test_a_usage_chunk_nobody_asked_for_is_hidden(walk: Callable[..., Walk]) -> None:
    call = in_flight("atext_completion")
    call.hide_usage = True
    chunks = [chunk("a", usage=None), chunk(finish="stop", usage={"total": 3}), chunk(usage={"total": 3})]

    assert await read(call, of(*chunks), walk()) == chunks[:2]


SAID: list[tuple[Any, int]] = [
    (chunk("hello"), 5),
    (chunk("日本"), 6),
    (SimpleNamespace(type="response.output_text.delta", delta="hello"), 5),
    (SimpleNamespace(choices=[SimpleNamespace(delta=SimpleNamespace(content="hello"))]), 5),
    (SimpleNamespace(type="response.created"), 0),
    (b'data: {"candidates":[{"content":{"parts":[{"text":"' + b"x" * 400 + b'"}]}}]}\n\n', 400),
    ('data: {"candidates":[{"content":{"parts":[{"text":"hello"}]}}]}\n\n', 5),
    (
        b'event: x\ndata: {"type":"content_block_delta","delta":{"type":"text_delta","text":"hi"}}\n\n',
        2,
    ),
    (b'data: {"type":"content_block_delta","delta":{"type":"thinking_delta","thinking":"hm"}}\n\n', 2),
    ({"candidates": [{"content": {"parts": [{"text": "hello"}]}}]}, 5),
    ({"candidates": [{"content": {"parts": [{"functionCall": {"name": "f", "args": {"q": "abc"}}}]}}]}, 4),
    (b"data: [DONE]\n\n", 0),
    (b'data: {"half', 0),
    (b"\xff\xfe", 0),
    (b"[" * 100_000, 0),
    (None, 0),
    (7, 0),
]


@pytest.mark.parametrize(("piece", "size"), SAID)
async def test_what_was_said_is_measured_on_watched_routes(walk: Callable[..., Walk], piece: Any, size: int) -> None:
    watched, other = in_flight("agenerate_content_stream"), in_flight("acompletion")

    await read(watched, of(piece), walk())
    await read(other, of(piece), walk())

    assert (watched.delivered, watched.delivered_bytes) == (1, size)
    assert other.delivered_bytes == 0


USAGE: list[tuple[str, bool, Any, Any, bool]] = [
    ("atext_completion", True, None, {"include_usage": True}, True),
    ("atext_completion", True, {"include_usage": False, "x": 1}, {"include_usage": True, "x": 1}, True),
    ("atext_completion", True, {"include_usage": True}, {"include_usage": True}, False),
    ("atext_completion", True, "odd", {"include_usage": True}, True),
    ("atext_completion", False, None, None, False),
    ("acompletion", True, None, None, False),
    ("aresponses", True, None, None, False),
]


@pytest.mark.parametrize(("call_type", "streaming", "given", "asked", "hidden"), USAGE)
def test_usage_is_asked_for_where_litellm_does_not(
    call_type: str,
    *,
    streaming: bool,
    given: Any,
    asked: Any,
    hidden: bool,
) -> None:
    call = in_flight(call_type)
    call.streaming = streaming
    data = {} if given is None else {"stream_options": given}

    ask_for_usage(data, call)

    assert data.get("stream_options") == asked
    assert call.hide_usage is hidden
