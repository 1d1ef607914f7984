import asyncio
from collections.abc import AsyncGenerator, Callable
from types import SimpleNamespace
from typing import Any

import pytest
from kit import CONNECTION, STUDENTS, Flaky, PolicyStub, Walk, group, key, limit, request, webui
from litellm.integrations.custom_logger import CustomLogger

from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.ledger.memory import MemoryLedger
from owui_budget_hooks.answers import BudgetAnswer, BudgetExceeded
from owui_budget_hooks.callback import BudgetCallback
from owui_budget_hooks.http_request import HttpRequest, begin_request
from owui_budget_hooks.inflight import METADATA_KEY, InFlight
from owui_budget_hooks.runtime import Runtime

ANN = Counter(CounterKind.USER, "ann")
DAILY = limit()
BROWSER = {"chat_id": "c", "message_id": "m"}
budget = BudgetCallback()


@pytest.fixture
def rooms(walk: Callable[..., Walk], policy: PolicyStub, monkeypatch: pytest.MonkeyPatch) -> Walk:
    policy.put(group(member={"daily": {"soft": 80_000, "hard": 100_000}}))
    made = walk()
    monkeypatch.setattr(Runtime, "_started", made)
    return made


async def pre_call(data: dict[str, Any], call_type: str = "acompletion", by: Any = CONNECTION) -> dict[str, Any]:
    return await budget.async_pre_call_hook(by, None, data, call_type)


def stamp(data: dict[str, Any]) -> str:
    bucket = data["litellm_metadata"] if "litellm_metadata" in data else data["metadata"]
    found = bucket[METADATA_KEY]
    assert isinstance(found, str)
    return found


def ended(data: dict[str, Any] | None, prompt: int = 10, completion: int = 5, **more: Any) -> dict[str, Any]:
    """The kwargs of an end event; `data` is the request whose metadata LiteLLM carries along."""
    carried = {name: data[name] for name in ("metadata", "litellm_metadata") if name in data} if data else {}
    record = {
        "prompt_tokens": prompt,
        "completion_tokens": completion,
        "model_group": "gpt-5",
        "call_type": "acompletion",
    }
    return {"litellm_params": carried, "standard_logging_object": {**record, **more}}


async def in_own_task(work: Any) -> Any:
    """Run as LiteLLM's background tasks do: with a copy of the context."""
    return await asyncio.create_task(work)


def test_every_hook_stands_on_the_registered_class() -> None:
    """LiteLLM skips what a class inherits."""
    ours = {name for name in vars(BudgetCallback) if name.startswith("async_")}

    assert ours == {
        "async_pre_call_hook",
        "async_post_call_response_headers_hook",
        "async_post_call_streaming_iterator_hook",
        "async_logging_hook",
        "async_log_success_event",
        "async_log_failure_event",
        "async_post_call_failure_hook",
    }
    assert all(hasattr(CustomLogger, name) for name in ours)


@pytest.mark.parametrize("litellm_metadata", [False, True])
async def test_a_call_from_admission_to_settlement(rooms: Walk, *, litellm_metadata: bool) -> None:
    data = await pre_call(request(webui(), litellm_metadata=litellm_metadata, metadata={"mine": 1}))

    headers = await budget.async_post_call_response_headers_hook(data, CONNECTION, object())
    assert headers is not None
    assert headers["X-Budget-Status"] == "ok"
    await in_own_task(budget.async_log_success_event(ended(data), None, None, None))
    await in_own_task(budget.async_log_success_event(ended(data), None, None, None))
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]
    assert len(rooms.registry) == 0


async def test_an_event_without_metadata_finds_its_call_by_the_context(rooms: Walk) -> None:
    async def serve(tokens: int) -> None:
        await pre_call(request(webui()), "agenerate_content")
        await asyncio.sleep(0)
        await in_own_task(budget.async_log_success_event(ended(None, tokens, 0), None, None, None))

    await asyncio.gather(*(asyncio.create_task(serve(tokens)) for tokens in range(1, 21)))
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(sum(range(1, 21)), 0)]
    assert sorted(each.charge for each in rooms.ledger.settled) == list(range(1, 21))


async def test_calls_that_share_a_clients_call_id_are_told_apart(rooms: Walk) -> None:
    sent = [await in_own_task(pre_call(request(webui()))) for _ in range(3)]
    for data in sent:
        await in_own_task(budget.async_log_success_event(ended(data), None, None, None))
    await rooms.ender.drain(5.0)

    assert len({stamp(data) for data in sent}) == 3
    assert await rooms.used(DAILY) == [(45, 0)]


@pytest.mark.parametrize("forged", ["", "x", 7, ["x"], {"a": 1}, None])
async def test_a_clients_own_metadata_finds_no_call(rooms: Walk, forged: object) -> None:
    data = request(webui(), litellm_metadata=True, metadata={METADATA_KEY: forged})

    await pre_call(data)
    await in_own_task(budget.async_log_success_event(ended(data), None, None, None))
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]


async def test_a_refusal_leaves_nothing_behind(rooms: Walk) -> None:
    await rooms.use(ANN, 100_000)
    data = request(webui())

    with pytest.raises(BudgetExceeded) as refusal:
        await pre_call(data)
    # LiteLLM logs a refusal as a failure, and asks for headers.
    await budget.async_log_failure_event(ended(data, 0, 0), None, None, None)
    await budget.async_post_call_failure_hook(data, refusal.value, CONNECTION)
    assert await budget.async_post_call_response_headers_hook(data, CONNECTION, None) is None

    assert await rooms.used(DAILY) == [(100_000, 0)]
    assert len(rooms.registry) == 0
    assert rooms.ledger.settled == []


async def test_a_refused_request_does_not_touch_an_earlier_one_of_its_connection(rooms: Walk) -> None:
    first = request(webui())
    await pre_call(first)
    await rooms.use(ANN, 100_000)
    with pytest.raises(BudgetExceeded) as refusal:
        await pre_call(request(webui()))  # the same context, as with pipelined requests
    await budget.async_post_call_failure_hook(request(webui()), refusal.value, CONNECTION)

    assert rooms.registry.find(stamp(first)) is not None


async def test_a_failure_releases_and_a_retry_settles(rooms: Walk) -> None:
    data = await pre_call(request(webui()))
    await budget.async_log_failure_event(ended(data, 0, 0), None, None, None)
    assert len(rooms.registry) == 1
    await budget.async_log_success_event(ended(data), None, None, None)
    await budget.async_post_call_failure_hook(data, ValueError(), CONNECTION)

    other = await in_own_task(pre_call(request(webui())))
    await budget.async_log_failure_event(ended(other, 0, 0), None, None, None)
    await budget.async_post_call_failure_hook(other, ValueError(), CONNECTION)
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]
    assert rooms.ledger.released == [stamp(other)]


async def test_a_client_that_left_pays_for_what_the_provider_may_have_done(rooms: Walk) -> None:
    data = await pre_call(request(webui(), max_tokens=100))
    await budget.async_log_failure_event(ended(data, 0, 0), None, None, None)

    left = SimpleNamespace(status_code=499)
    await budget.async_post_call_failure_hook(data, left, CONNECTION)  # type: ignore[arg-type]
    await rooms.ender.drain(5.0)

    [(used, held)] = await rooms.used(DAILY)
    assert held == 0
    assert used > 100


async def test_a_second_try_of_the_same_request_gives_the_first_back(rooms: Walk) -> None:
    """Another limiter rejects the first, and fallbacks are configured: LiteLLM runs the hooks on a fresh copy."""
    seen = begin_request()
    first, second = await pre_call(request(webui())), await pre_call(request(webui()))
    await budget.async_log_success_event(ended(second), None, None, None)
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]
    assert rooms.ledger.released == [stamp(first)]
    assert [each for each in seen.call_ids if rooms.registry.find(each)] == []


async def test_a_second_try_is_known_by_its_metadata_too(rooms: Walk) -> None:
    first, second = await pre_call(request(webui())), request(webui())
    second["metadata"][METADATA_KEY] = stamp(first)
    await pre_call(second)
    await rooms.ender.drain(5.0)

    assert rooms.ledger.released == [stamp(first)]


async def test_an_embedding_made_for_a_chat_is_not_a_second_try(rooms: Walk) -> None:
    begin_request()
    chat = await pre_call(request(webui()))
    inside = await in_own_task(pre_call(request(webui(), input="x"), "aembedding"))
    await in_own_task(budget.async_log_success_event(ended(inside, 3, 0, call_type="aembedding"), None, None, None))
    await budget.async_log_success_event(ended(chat), None, None, None)
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(18, 0)]


async def test_a_refusal_of_a_first_try_does_not_answer_for_the_second(rooms: Walk, memory: MemoryLedger) -> None:
    seen = begin_request()
    await rooms.use(ANN, 100_000)
    with pytest.raises(BudgetExceeded):
        await pre_call(request(webui()))
    await memory.reset(ANN, "mercy")

    await pre_call(request(webui()))

    assert seen.answer is None


async def test_tools_that_run_inside_a_call_do_not_take_its_place(rooms: Walk) -> None:
    data = await pre_call(request(webui()))
    for nested in ("list_mcp_tools", "call_mcp_tool"):
        await pre_call({"model": "MCP"}, nested)
        await budget.async_log_success_event(ended(None, 0, 0, call_type=nested), None, None, None)
    await budget.async_log_success_event(ended(data), None, None, None)
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]
    assert [each.reservation_id for each in rooms.ledger.settled] == [stamp(data)]


async def test_a_model_that_is_asked_inside_a_call_does_not_end_it(rooms: Walk) -> None:
    data = await pre_call(request(webui()))
    await budget.async_log_success_event(ended(None, 1, 1), None, None, None)
    await budget.async_log_success_event(ended(data), None, None, None)
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(15, 0)]


async def test_a_raw_body_is_sent_on_as_it_came(rooms: Walk, policy: PolicyStub) -> None:
    body = {"model": "x", "prompt": "y"}

    assert await pre_call(dict(body), "pass_through_endpoint", key("sk-service")) == body
    call = rooms.registry.current()
    assert isinstance(call, InFlight)
    await budget.async_log_success_event(ended(None, 3, 4, call_type="pass_through_endpoint"), None, None, None)
    assert call.ended


async def test_a_bug_after_admission_gives_the_hold_back(rooms: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: object) -> None:
        raise RuntimeError("a bug")

    monkeypatch.setattr("owui_budget_hooks.browser.prepare", broken)

    with pytest.raises(RuntimeError):
        await pre_call(request(webui(**BROWSER), stream=True))
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(0, 0)]
    assert len(rooms.ledger.released) == 1


async def test_a_client_that_leaves_while_it_is_admitted_holds_nothing(rooms: Walk, ledger: Flaky) -> None:
    ledger.delay = 0.05
    task = asyncio.create_task(pre_call(request(webui())))
    await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    ledger.delay = 0.0
    await ledger.inner.close()

    assert await rooms.used(DAILY) == [(0, 0)]
    assert len(rooms.registry) == 0


async def test_an_unsafe_proxy_admits_nobody(rooms: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    def unsafe() -> None:
        raise BudgetAnswer(503, "not safe", "server_error", "budget_unavailable")

    monkeypatch.setattr(rooms, "refuse_if_unsafe", unsafe)

    with pytest.raises(BudgetAnswer):
        await pre_call(request(webui()))
    assert rooms.ledger.reserved == []


async def test_a_refusal_and_headers_wait_for_the_end_of_the_request(rooms: Walk) -> None:
    request_seen: HttpRequest = begin_request()
    await pre_call(request(webui()))
    assert request_seen.headers["X-Budget-Status"] == "ok"

    await rooms.use(ANN, 100_000)
    refused = begin_request()
    with pytest.raises(BudgetExceeded):
        await pre_call(request(webui()))
    assert isinstance(refused.answer, BudgetExceeded)


async def test_a_browser_chat_past_a_threshold_is_streamed_with_one_toast(rooms: Walk) -> None:
    await rooms.use(ANN, 80_000)
    data = await pre_call(request(webui(**BROWSER)))
    assert data["stream"] is True

    async def chunks() -> AsyncGenerator[Any, None]:
        for _ in range(3):
            yield SimpleNamespace(choices=[])

    sent = [each async for each in budget.async_post_call_streaming_iterator_hook(CONNECTION, chunks(), data)]

    assert [isinstance(each, bytes) for each in sent] == [False, True, False, False]
    again = await in_own_task(pre_call(request(webui(**BROWSER))))
    assert "stream" not in again


@pytest.mark.parametrize("headers", [{}, {"message_id": "m", "task": "title_generation"}, {"chat_id": "c"}])
async def test_an_api_client_never_sees_a_foreign_frame(rooms: Walk, headers: dict[str, str]) -> None:
    await rooms.use(ANN, 80_000)
    data = await pre_call(request(webui(**headers), stream=True))
    call = rooms.registry.find(stamp(data))

    assert call is not None
    assert call.notices == ()
    assert rooms.ledger.claims == 0


async def test_streams_of_calls_we_do_not_know_pass_by(rooms: Walk, monkeypatch: pytest.MonkeyPatch) -> None:
    async def chunks() -> AsyncGenerator[Any, None]:
        yield 1

    response = chunks()
    assert budget.async_post_call_streaming_iterator_hook(CONNECTION, response, request()) is response
    monkeypatch.setattr(Runtime, "_started", None)
    assert budget.async_post_call_streaming_iterator_hook(CONNECTION, response, request()) is response
    await response.aclose()


@pytest.mark.parametrize(
    ("call_type", "body", "streaming"),
    [
        ("acompletion", {}, False),
        ("acompletion", {"stream": True}, True),
        ("acompletion", {"stream": None}, False),
        ("agenerate_content_stream", {}, True),
    ],
)
async def test_streams_are_told(rooms: Walk, call_type: str, body: dict[str, Any], *, streaming: bool) -> None:
    data = await pre_call(request(webui(), **body), call_type)
    call = rooms.registry.find(stamp(data))

    assert call is not None
    assert call.streaming is streaming


async def test_spend_is_shown_under_the_deciding_group(rooms: Walk) -> None:
    data = await pre_call(request(webui()))
    kwargs, result = await budget.async_logging_hook(ended(data), "result", "acompletion")

    bucket = kwargs["litellm_params"]["metadata"]
    assert (bucket["user_api_key_team_id"], bucket["user_api_key_team_alias"]) == (f"owui-{STUDENTS}", "Students")
    assert result == "result"


async def test_a_teams_own_key_keeps_its_team(rooms: Walk) -> None:
    data = request(webui())
    data["metadata"]["user_api_key_team_id"] = "their-team"
    await pre_call(data)
    kwargs, _ = await budget.async_logging_hook(ended(data), None, "acompletion")

    assert kwargs["litellm_params"]["metadata"]["user_api_key_team_id"] == "their-team"


async def test_events_of_unknown_calls_are_ignored(rooms: Walk) -> None:
    kwargs = ended(request())

    await budget.async_log_success_event(kwargs, None, None, None)
    await budget.async_log_failure_event(kwargs, None, None, None)
    await budget.async_post_call_failure_hook(request(), ValueError(), CONNECTION)
    assert await budget.async_logging_hook(kwargs, None, "acompletion") == (kwargs, None)
    assert await budget.async_post_call_response_headers_hook(request(), CONNECTION, None) is None

    assert rooms.ledger.settled == []
