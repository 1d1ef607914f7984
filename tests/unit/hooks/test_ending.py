import asyncio
from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kit import FakeSpool, Flaky, Walk, event, in_flight

from owui_budget.domain.charge import Usage
from owui_budget.domain.estimate import Estimate
from owui_budget.ledger.protocol import Ending, Settlement
from owui_budget_hooks.inflight import InFlight


async def started(walk: Walk, call: InFlight) -> InFlight:
    walk.registry.open(call)
    return call


async def written(walk: Walk) -> Settlement | str | None:
    """What the end of the one call wrote: its settlement, or the id that was released."""
    assert await walk.ender.drain(5.0) == 0
    ends: list[Settlement | str] = [*walk.ledger.settled, *walk.ledger.released]
    assert len(ends) <= 1
    return ends[0] if ends else None


async def settled(walk: Walk) -> Settlement:
    end = await written(walk)
    assert isinstance(end, Settlement)
    return end


async def test_a_success_settles_what_was_used(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.succeeded(call, event(10, 5))

    end = await settled(rooms)
    assert (end.reservation_id, end.charge, end.usage, end.ending) == (call.id, 15, Usage(10, 5), Ending.COMPLETED)
    assert (end.call, end.counters, end.admitted_at) == (call.call, call.counters, call.admitted_at)
    assert call.ended
    assert len(rooms.registry) == 0


async def test_signals_that_repeat_change_nothing(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    for _ in range(3):
        rooms.ender.succeeded(call, event(10, 5))
        rooms.ender.failed(call)
        rooms.ender.attempt_failed(call, event(1, 1))
        rooms.ender.vanished(call)
        rooms.ender.never_ran(call)

    assert (await settled(rooms)).charge == 15


async def test_a_failed_try_and_then_success_is_charged_once(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.attempt_failed(call, event(0, 0))
    assert not call.ended
    rooms.ender.succeeded(call, event(10, 5, model="fallback"))

    end = await settled(rooms)
    assert (end.charge, end.model, end.ending) == (15, "fallback", Ending.COMPLETED)


async def test_a_failure_without_usage_gives_the_hold_back(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.attempt_failed(call, event(0, 0))
    rooms.ender.failed(call)

    assert await written(rooms) == call.id


async def test_a_failure_after_a_part_is_charged_for_the_part(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.attempt_failed(call, event(23, 7, model="up"))
    rooms.ender.failed(call)

    end = await settled(rooms)
    assert (end.charge, end.model, end.ending, end.usage.estimated) == (30, "up", Ending.FAILED, False)


async def test_a_call_that_a_guardrail_stopped_gives_its_hold_back(walk: Callable[..., Walk]) -> None:
    """LiteLLM then says that the request failed, and no event tells of an attempt."""
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.failed(call)

    assert await written(rooms) == call.id


@pytest.mark.parametrize(("streaming", "completion"), [(False, 256), (True, 0)])
async def test_a_client_that_leaves_before_its_answer_pays(
    walk: Callable[..., Walk],
    *,
    streaming: bool,
    completion: int,
) -> None:
    """With `cancel_on_disconnect` LiteLLM reports 0 tokens for what the provider may have finished."""
    rooms = walk()
    call = await started(rooms, in_flight())
    call.streaming = streaming

    rooms.ender.attempt_failed(call, event(0, 0))
    rooms.ender.failed(call, left=True)

    end = await settled(rooms)
    assert (end.usage, end.ending) == (Usage(14, completion, estimated=True), Ending.PARTIAL)


async def test_a_failed_stream_is_charged_for_what_was_delivered(walk: Callable[..., Walk]) -> None:
    """A route whose failure event says 0 of 0: `/v1/responses`, and messages on an OpenAI model."""
    rooms = walk()
    call = await started(rooms, in_flight("aresponses"))
    call.streaming, call.delivered, call.delivered_bytes = True, 6, 100

    rooms.ender.attempt_failed(call, event(0, 0, call_type="aresponses"))
    rooms.ender.failed(call)

    end = await settled(rooms)
    assert (end.usage, end.ending) == (Usage(14, 25, estimated=True), Ending.FAILED)


async def test_a_stream_that_failed_before_it_reached_a_provider_costs_nothing(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())
    call.streaming = True

    rooms.ender.attempt_failed(call, event(0, 0))
    rooms.ender.failed(call)

    assert await written(rooms) == call.id


async def test_a_call_that_never_ran_costs_nothing_even_as_a_stream(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())
    call.streaming = True

    rooms.ender.never_ran(call)

    assert await written(rooms) == call.id


@pytest.mark.parametrize(("delivered", "usage"), [(0, Usage(14, 0, estimated=True)), (9, Usage(14, 9, estimated=True))])
async def test_a_vanished_stream_is_charged_for_its_prompt_and_what_was_delivered(
    walk: Callable[..., Walk], delivered: int, usage: Usage
) -> None:
    rooms = walk()
    call = await started(rooms, in_flight("agenerate_content_stream"))
    call.streaming, call.delivered = True, delivered

    rooms.ender.vanished(call)

    end = await settled(rooms)
    assert (end.usage, end.ending, end.charge) == (usage, Ending.PARTIAL, usage.total)


async def test_a_late_success_after_a_vanished_stream_is_not_charged_again(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())
    call.streaming, call.delivered = True, 9

    rooms.ender.vanished(call)
    rooms.ender.succeeded(call, event(10, 5))

    assert (await settled(rooms)).usage.estimated


@pytest.mark.parametrize(("setting", "charge"), [("free", 0), ("charge", 15)])
async def test_a_cache_hit_is_recorded_and_charged_as_configured(
    walk: Callable[..., Walk], setting: str, charge: int
) -> None:
    rooms = walk(cache_hits=setting)
    call = await started(rooms, in_flight())

    rooms.ender.succeeded(call, event(10, 5, cache_hit=True))

    end = await settled(rooms)
    assert (end.charge, end.usage, end.ending) == (charge, Usage(10, 5), Ending.CACHE_HIT)


async def test_a_cut_stream_is_partial(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())
    call.stream_cut = True

    rooms.ender.succeeded(call, event(25, 9))

    assert (await settled(rooms)).ending is Ending.PARTIAL


async def test_a_provider_without_usage_is_estimated(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.succeeded(call, event(0, 0, answer_bytes=101))

    assert (await settled(rooms)).usage == Usage(14, 26, estimated=True)


async def test_what_is_missing_is_estimated_and_not_bounded(walk: Callable[..., Walk]) -> None:
    """Strict admission holds a token per byte; a charge by that would be several times too high."""
    rooms = walk(admission="strict")
    call = await started(rooms, in_flight(estimate=Estimate(4_000, 9_000)))

    rooms.ender.succeeded(call, event(0, 0, answer_bytes=40))

    assert (await settled(rooms)).usage == Usage(14, 10, estimated=True)


async def test_an_embedding_without_usage_is_estimated_by_its_input(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    call = await started(rooms, in_flight("aembedding"))

    rooms.ender.succeeded(call, event(0, 0, call_type="aembedding", answer_bytes=9_999))

    assert (await settled(rooms)).usage == Usage(14, 0, estimated=True)


@pytest.mark.parametrize(("charges", "charge"), [({}, 0), ({"speech": 1_000}, 1_000), ({"image_generation": 5}, 0)])
async def test_routes_without_tokens_are_charged_per_call(
    walk: Callable[..., Walk], charges: dict[str, int], charge: int
) -> None:
    rooms = walk(route_charges=charges)
    call = await started(rooms, in_flight("aspeech"))

    rooms.ender.succeeded(call, event(0, 0, call_type="aspeech"))

    end = await settled(rooms)
    assert (end.charge, end.usage) == (charge, Usage())


async def test_usage_goes_before_a_route_charge(walk: Callable[..., Walk]) -> None:
    rooms = walk(route_charges={"image_generation": 1_000})
    call = await started(rooms, in_flight("aimage_generation"))

    rooms.ender.succeeded(call, event(9, 100, call_type="aimage_generation"))

    assert (await settled(rooms)).charge == 109


FOREIGN = ["list_mcp_tools", "call_mcp_tool", "aembedding", "amoderation", "arerank"]


@pytest.mark.parametrize("call_type", FOREIGN)
async def test_events_of_calls_inside_a_chat_do_not_end_it(walk: Callable[..., Walk], call_type: str) -> None:
    rooms = walk()
    call = await started(rooms, in_flight())

    rooms.ender.succeeded(call, event(3, 0, call_type=call_type))
    rooms.ender.attempt_failed(call, event(3, 1, call_type=call_type))
    assert not call.ended
    assert not call.failed
    rooms.ender.succeeded(call, event(10, 5))

    assert (await settled(rooms)).charge == 15


@pytest.mark.parametrize(
    ("route", "call_type"),
    [
        ("agenerate_content", "acompletion"),
        ("anthropic_messages", "anthropic_messages"),
        ("rerank", "arerank"),
        ("image_generation", "aimage_generation"),
        ("moderation", "amoderation"),
        ("unknown_route", "avector_store_create"),
        ("acompletion", ""),
    ],
)
async def test_events_under_another_name_end_their_call(walk: Callable[..., Walk], route: str, call_type: str) -> None:
    rooms = walk()
    call = await started(rooms, in_flight(route))

    rooms.ender.succeeded(call, event(10, 5, call_type=call_type))

    assert call.ended
    await rooms.ender.drain(5.0)


WEIGHTS = {"gpt-5*": "3", "free-*": "0", "half": "0.5"}


@pytest.mark.parametrize(
    ("asked", "answered", "charge"),
    [("gpt-5", "gpt-5", 45), ("gpt-5", "half", 8), ("free-llama", "free-llama", 0), ("free-llama", "gpt-5-mini", 45),
     ("other", "other", 15), ("gpt-5", "", 45)],
)  # fmt: skip
async def test_the_model_that_answered_weighs(
    walk: Callable[..., Walk], asked: str, answered: str, charge: int
) -> None:
    rooms = walk(weights=WEIGHTS)
    call = await started(rooms, in_flight(model=asked))

    rooms.ender.succeeded(call, event(10, 5, model=answered))

    end = await settled(rooms)
    assert (end.charge, end.model) == (charge, answered or asked)
    assert end.weight == Decimal(
        WEIGHTS.get("gpt-5*" if "gpt-5" in end.model else end.model.replace("llama", "*"), "1")
    )


async def test_a_name_for_a_model_weighs_what_the_model_weighs(
    walk: Callable[..., Walk], router: Callable[[object], None]
) -> None:
    router(
        SimpleNamespace(model_group_alias={"cheap": "gpt-5"}, model_names={"gpt-5"}, get_deployment=lambda **_: None)
    )
    rooms = walk(weights=WEIGHTS)
    call = await started(rooms, in_flight(model="cheap"))

    call.streaming, call.delivered = True, 6

    rooms.ender.vanished(call)

    assert (await settled(rooms)).charge == 3 * 20


async def test_only_complete_answers_teach(walk: Callable[..., Walk]) -> None:
    rooms = walk(estimate={"completion_floor": 1})
    for cut, reported in (
        (True, event(10, 500)),
        (False, event(0, 0, answer_bytes=4_000)),
        (False, event(10, 9_000, cache_hit=True)),
    ):
        call = await started(rooms, in_flight())
        call.stream_cut = cut
        rooms.ender.succeeded(call, reported)
    assert rooms.typical.of("gpt-5") == 1

    rooms.ender.succeeded(await started(rooms, in_flight()), event(10, 700))
    assert rooms.typical.of("gpt-5") == 700
    await rooms.ender.drain(5.0)


async def test_a_call_the_ledger_never_held_releases_nothing_and_settles(walk: Callable[..., Walk]) -> None:
    rooms = walk()
    rooms.ender.failed(await started(rooms, in_flight(held=False)))
    assert await written(rooms) is None

    rooms.ender.succeeded(await started(rooms, in_flight(held=False)), event(10, 5))
    assert (await settled(rooms)).charge == 15


async def test_a_write_that_fails_goes_to_the_spool(walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool) -> None:
    rooms = walk()
    ledger.down = True
    rooms.ender.succeeded(await started(rooms, in_flight()), event(10, 5))
    rooms.ender.failed(await started(rooms, in_flight()))
    await rooms.ender.drain(5.0)

    assert [type(each) for each in spool.records] == [Settlement, str]


async def test_drain_says_how_many_writes_are_left(walk: Callable[..., Walk], ledger: Flaky) -> None:
    rooms = walk()
    ledger.delay = 0.05
    for _ in range(3):
        rooms.ender.succeeded(await started(rooms, in_flight()), event(10, 5))

    assert await rooms.ender.drain(0.0) == 3
    assert await rooms.ender.drain(5.0) == 0
    assert len(ledger.settled) == 3


SIGNALS = st.lists(
    st.sampled_from(["success", "hit", "none", "failed try", "partial try", "over", "vanished", "never ran", "mcp"]),
    min_size=1,
    max_size=6,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=60)
@given(signals=SIGNALS, streaming=st.booleans(), delivered=st.integers(0, 20))
def test_whatever_signals_come_a_call_ends_at_most_once(
    walk: Callable[..., Walk],
    signals: list[str],
    *,
    streaming: bool,
    delivered: int,
) -> None:
    async def scenario() -> None:
        rooms = walk()
        rooms.ledger.settled, rooms.ledger.released = [], []
        call = await started(rooms, in_flight())
        call.streaming, call.delivered = streaming, delivered
        does: dict[str, Callable[[], None]] = {
            "success": lambda: rooms.ender.succeeded(call, event(10, 5)),
            "hit": lambda: rooms.ender.succeeded(call, event(10, 5, cache_hit=True)),
            "none": lambda: rooms.ender.succeeded(call, event(0, 0)),
            "failed try": lambda: rooms.ender.attempt_failed(call, event(0, 0)),
            "partial try": lambda: rooms.ender.attempt_failed(call, event(9, 1)),
            "over": lambda: rooms.ender.failed(call),
            "vanished": lambda: rooms.ender.vanished(call),
            "never ran": lambda: rooms.ender.never_ran(call),
            "mcp": lambda: rooms.ender.succeeded(call, event(0, 0, call_type="list_mcp_tools")),
        }
        for signal in signals:
            does[signal]()
        await rooms.ender.drain(5.0)
        ends = len(rooms.ledger.settled) + len(rooms.ledger.released)
        assert ends == (0 if set(signals) <= {"failed try", "partial try", "mcp"} else 1)
        assert call.ended == bool(ends)

    asyncio.run(scenario())
