from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from owui_budget.domain.charge import Usage
from owui_budget_hooks.outcome import read_event


def record(**more: Any) -> dict[str, Any]:
    payload = {"prompt_tokens": 11, "completion_tokens": 7, "model_group": "chat-a", "call_type": "acompletion", **more}
    return {"standard_logging_object": payload, "model": "up-a"}


def test_a_plain_success() -> None:
    event = read_event(record(), None)

    assert (event.usage, event.model, event.cache_hit, event.call_type) == (
        Usage(11, 7),
        "chat-a",
        False,
        "acompletion",
    )


@pytest.mark.parametrize("group", ["", None])
def test_a_providers_name_for_its_model_is_not_ours(group: str | None) -> None:
    """generateContent on an OpenAI model: no weight is written for the name its event has."""
    assert read_event(record(model_group=group), None).model == ""


def test_details_are_read_from_the_response_and_never_exceed_their_whole() -> None:
    usage = SimpleNamespace(
        prompt_tokens_details=SimpleNamespace(cached_tokens=5), completion_tokens_details={"reasoning_tokens": 900}
    )

    assert read_event(record(), SimpleNamespace(usage=usage)).usage == Usage(11, 7, cached=5, reasoning=7)
    responses = {
        "usage": {"input_tokens_details": {"cached_tokens": 4}, "output_tokens_details": {"reasoning_tokens": 3}}
    }
    assert read_event(record(), responses).usage == Usage(11, 7, cached=4, reasoning=3)


@pytest.mark.parametrize("value", [None, True, -5, "7", 7.5, [], {}, float("nan")])
def test_odd_numbers_count_as_none(value: object) -> None:
    assert read_event(record(prompt_tokens=value, completion_tokens=value), None).usage == Usage()


@pytest.mark.parametrize(
    ("kwargs", "hit"),
    [
        (record(cache_hit=True), True),
        ({**record(), "cache_hit": True}, True),
        (record(cache_hit=None), False),
        (record(cache_hit=False), False),
        (record(cache_hit="true"), False),
        (record(cache_hit=1), False),
    ],
)
def test_only_true_is_a_cache_hit(kwargs: dict[str, Any], *, hit: bool) -> None:
    assert read_event(kwargs, None).cache_hit is hit


@pytest.mark.parametrize("kwargs", [{}, {"standard_logging_object": None}, {"standard_logging_object": "x"}])
def test_an_event_without_its_record_is_empty(kwargs: dict[str, Any]) -> None:
    event = read_event(kwargs, None)

    assert (event.usage, event.model, event.call_type) == (Usage(), "", "")


@pytest.mark.parametrize("call_type", ["list_mcp_tools", "call_mcp_tool"])
def test_calls_inside_a_call_are_told(call_type: str) -> None:
    assert read_event(record(call_type=call_type), None).is_nested
    assert not read_event(record(), None).is_nested


def message(content: str | None, **more: Any) -> SimpleNamespace:
    return SimpleNamespace(message=SimpleNamespace(content=content, **more))


ANSWERS = [
    (SimpleNamespace(choices=[message("hello"), message("日本")]), 11),
    (SimpleNamespace(choices=[message(None, reasoning_content="hm")]), 2),
    (
        SimpleNamespace(
            choices=[message(None, tool_calls=[SimpleNamespace(function=SimpleNamespace(arguments="{}"))])]
        ),
        2,
    ),
    (SimpleNamespace(choices=[SimpleNamespace(text="old style")]), 9),
    ({"choices": [{"message": {"content": "hello"}}]}, 5),
    ({"output": [{"content": [{"text": "hello"}]}, {"content": None}]}, 5),
    (SimpleNamespace(choices=[message("\ud800")]), 3),
    (SimpleNamespace(choices=None), 0),
    (None, 0),
    ("text", 0),
]


@pytest.mark.parametrize(("response", "size"), ANSWERS)
def test_an_answers_text_is_measured(response: Any, size: int) -> None:
    assert read_event(record(), response).answer_bytes == size


def test_of_a_stream_the_assembled_answer_is_measured() -> None:
    kwargs = {**record(), "async_complete_streaming_response": SimpleNamespace(choices=[message("hello")])}

    assert read_event(kwargs, None).answer_bytes == 5


_ODD = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: st.dictionaries(
        st.sampled_from(
            ["usage", "prompt_tokens", "completion_tokens", "prompt_tokens_details", "cached_tokens", "meta"]
        ),
        inner,
        max_size=3,
    ),
    max_leaves=8,
)


@given(_ODD, _ODD)
def test_no_event_is_an_error(payload: Any, response: Any) -> None:
    usage = read_event({"standard_logging_object": payload}, response).usage

    assert 0 <= usage.cached <= usage.prompt
    assert 0 <= usage.reasoning <= usage.completion
