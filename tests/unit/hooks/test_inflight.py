import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from kit import in_flight

from owui_budget_hooks.http_request import HttpRequest
from owui_budget_hooks.inflight import InFlight, Registry


async def opened(
    registry: Registry, call_type: str = "acompletion", *, streaming: bool = False, held: bool = True
) -> InFlight:
    """A call whose request task has ended."""
    call = in_flight(call_type, held=held)
    call.streaming = streaming

    async def serve() -> None:
        registry.open(call)

    await asyncio.create_task(serve())
    return call


async def test_a_call_ends_exactly_once() -> None:
    registry, call = Registry(), in_flight()
    registry.open(call)

    assert [registry.end(call) for _ in range(5)] == [True, False, False, False, False]
    assert len(registry) == 0
    assert registry.find(call.id) is None
    assert registry.current() is call
    assert call.ended


async def test_a_call_is_found_by_its_id_and_by_nothing_else() -> None:
    registry, call = Registry(), in_flight()
    registry.open(call)

    assert registry.find(call.id) is call
    for other in ("", "x", None, 7, ["x"], {"id": call.id}):
        assert registry.find(other) is None


async def test_the_context_follows_into_tasks_and_not_into_other_requests() -> None:
    registry = Registry()

    async def serve() -> tuple[InFlight, InFlight | None, InFlight | None]:
        registry.forget_current()
        call = in_flight()
        registry.open(call)

        async def background() -> InFlight | None:
            await asyncio.sleep(0)
            return registry.current()

        await asyncio.sleep(0)
        return call, registry.current(), await asyncio.create_task(background())

    served = await asyncio.gather(*(asyncio.create_task(serve()) for _ in range(20)))

    assert all(call is here is there for call, here, there in served)
    assert registry.current() is None


async def test_a_new_request_in_an_old_context_has_no_call() -> None:
    registry = Registry()
    registry.open(in_flight())
    registry.forget_current()

    assert registry.current() is None


async def test_a_running_request_keeps_its_lease_however_long_it_takes() -> None:
    registry, call, over = Registry(), in_flight(), asyncio.Event()
    call.streaming = True

    async def serve() -> None:
        registry.open(call)
        await over.wait()

    task = asyncio.create_task(serve())
    await asyncio.sleep(0)

    for now in (0.0, 10.0, 100_000.0):
        survey = registry.survey(now)
        assert (survey.leases, survey.vanished) == ([call.id], [])
    over.set()
    await task
    assert registry.survey(100_001.0).vanished == []
    assert registry.survey(100_032.0).vanished == [call]


# Route, streaming, whether the request is seen from outside, and the seconds an end event is waited for.
GRACES = [
    ("acompletion", True, False, 30.0),
    ("acompletion", False, False, 900.0),
    ("acompletion", False, True, 30.0),
    ("agenerate_content_stream", True, False, 5.0),
    ("agenerate_content_stream", True, True, 5.0),
    ("aresponses", False, True, 30.0),
]


@pytest.mark.parametrize(("call_type", "streaming", "seen", "grace"), GRACES)
async def test_a_call_without_a_signal_vanishes_after_its_grace(
    call_type: str,
    *,
    streaming: bool,
    seen: bool,
    grace: float,
) -> None:
    registry = Registry()
    call = await opened(registry, call_type, streaming=streaming)
    call.request = HttpRequest(over=True) if seen else None

    assert registry.survey(100.0).vanished == []
    assert registry.survey(99.5 + grace).leases == [call.id]
    survey = registry.survey(100.5 + grace)
    assert (survey.vanished, survey.leases) == ([call], [])
    assert registry.end(call)
    assert registry.survey(200.0 + grace).vanished == []


async def test_a_request_that_is_seen_from_outside_lasts_until_its_last_byte() -> None:
    registry = Registry()
    call = await opened(registry, streaming=True)
    call.request = HttpRequest()

    assert registry.survey(0.0).leases == [call.id]
    assert registry.survey(100_000.0).leases == [call.id]


async def test_a_call_the_ledger_does_not_hold_has_no_lease() -> None:
    registry = Registry()
    await opened(registry, held=False)

    assert registry.survey(0.0).leases == []
    assert len(registry) == 1


async def test_a_stream_that_is_read_by_another_task_is_not_gone() -> None:
    """LiteLLM may make the response in one task, fetch the first chunk in another, and relay the rest in a third."""
    registry = Registry()
    call = await opened(registry, streaming=True)
    over = asyncio.Event()

    async def relay() -> None:
        call.read_by_current_task()
        await over.wait()

    task = asyncio.create_task(relay())
    await asyncio.sleep(0)

    assert registry.survey(0.0).vanished == []
    assert registry.survey(1_000.0).vanished == []
    over.set()
    await task
    registry.survey(1_001.0)
    assert registry.survey(1_032.0).vanished == [call]


async def test_an_owner_that_is_garbage_is_gone() -> None:
    registry = Registry()
    call = await opened(registry)

    assert call.task is not None
    assert call.owner_is_gone()


@pytest.mark.parametrize(("chunks", "size", "tokens"), [(0, 0, 0), (3, 0, 3), (3, 100, 25), (3, 101, 26), (9, 4, 9)])
def test_delivered_tokens_are_estimated_high(chunks: int, size: int, tokens: int) -> None:
    call = in_flight()
    call.delivered, call.delivered_bytes = chunks, size

    assert call.delivered_tokens == tokens


async def test_concurrent_ends_have_one_winner() -> None:
    registry, call = Registry(), in_flight()
    registry.open(call)

    async def end() -> bool:
        await asyncio.sleep(0)
        return registry.end(call)

    ends: list[Coroutine[Any, Any, bool]] = [end() for _ in range(50)]
    assert sum(await asyncio.gather(*ends)) == 1
