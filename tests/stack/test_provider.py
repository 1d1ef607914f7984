"""The simulated provider: honest about tokens, and failing exactly as it is asked to."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from fastapi.testclient import TestClient
from hypothesis import given
from hypothesis import strategies as st

from stack.provider import tokens
from stack.provider.app import create_app

Json = dict[str, Any]


@pytest.fixture
def provider() -> Iterator[TestClient]:
    with TestClient(create_app()) as client:
        yield client


def user(text: str) -> list[Json]:
    return [{"role": "user", "content": text}]


def events(answer: httpx.Response) -> list[Json]:
    lines = [line.removeprefix("data: ") for line in answer.text.splitlines() if line.startswith("data: ")]
    return [json.loads(line) for line in lines if line != "[DONE]"]


def last_call(provider: TestClient) -> Json:
    call: Json = provider.get("/_calls").json()["calls"][-1]
    return call


@given(st.text(alphabet=st.characters(codec="utf-8"), max_size=200))
def test_pieces_join_to_the_text_and_count_one_each(text: str) -> None:
    parts = tokens.split(text)
    if tokens.count(text):
        assert "".join(parts) == text
        assert len(parts) == tokens.count(text)


@given(st.integers(0, 500), st.integers(0, 500))
def test_a_cap_is_met_to_the_token(wanted: int, cap: int) -> None:
    text, cut = tokens.truncate(tokens.words(wanted), cap)
    assert tokens.count(text) == min(wanted, cap)
    assert cut == (wanted > cap)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("choices", [1, 3])
def test_chat(provider: TestClient, *, stream: bool, choices: int) -> None:
    body = {"model": "sim-gpt", "messages": user("[[sim tokens=20]] hi"), "n": choices, "stream": stream}
    answer = provider.post("/v1/chat/completions", json=body | {"stream_options": {"include_usage": True}})
    usage = events(answer)[-1]["usage"] if stream else answer.json()["usage"]
    call = last_call(provider)
    assert usage["completion_tokens"] == 20 * choices == call["completion_tokens"] == call["sent_tokens"]
    assert usage["prompt_tokens"] == call["prompt_tokens"] > 0
    assert usage["total_tokens"] == call["total_tokens"]
    assert call["outcome"] == "ok"
    assert call["usage_reported"]


def test_a_streams_text_is_the_whole_answers(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "messages": user("hello there")}
    whole = provider.post("/v1/chat/completions", json=body).json()["choices"][0]["message"]["content"]
    parts = events(provider.post("/v1/chat/completions", json={**body, "stream": True}))
    assert "".join(part["choices"][0]["delta"].get("content") or "" for part in parts) == whole
    assert "simulated" in whole


@pytest.mark.parametrize(
    ("wish", "options", "reported"),
    [
        ("", None, False),
        ("", {"include_usage": True}, True),
        ("usage=none", {"include_usage": True}, False),
        ("usage=always", None, True),
    ],
)
def test_usage_in_streams(provider: TestClient, wish: str, options: Json | None, *, reported: bool) -> None:
    body = {"model": "sim-gpt", "messages": user(f"[[sim tokens=3 {wish}]]"), "stream": True, "stream_options": options}
    parts = events(provider.post("/v1/chat/completions", json=body))
    assert bool(parts[-1].get("usage")) == reported == last_call(provider)["usage_reported"]


@pytest.mark.parametrize(
    ("route", "body", "cap"),
    [
        ("/v1/chat/completions", {"messages": user("[[sim tokens=50]]")}, "max_tokens"),
        ("/v1/chat/completions", {"messages": user("[[sim tokens=50]]")}, "max_completion_tokens"),
        ("/v1/completions", {"prompt": "[[sim tokens=50]]"}, "max_tokens"),
        ("/v1/responses", {"input": "[[sim tokens=50]]"}, "max_output_tokens"),
        ("/v1/messages", {"messages": user("[[sim tokens=50]]")}, "max_tokens"),
    ],
)
def test_caps_are_honoured_on_every_route(provider: TestClient, route: str, body: Json, cap: str) -> None:
    assert provider.post(route, json={"model": "sim-gpt", **body, cap: 7}).is_success
    assert last_call(provider)["completion_tokens"] == 7


def test_messages(provider: TestClient) -> None:
    body = {"model": "sim-claude", "messages": user("[[sim tokens=9 cached=4]]"), "max_tokens": 100}
    usage = provider.post("/v1/messages", json=body).json()["usage"]
    call = last_call(provider)
    assert usage["input_tokens"] + usage["cache_read_input_tokens"] == call["prompt_tokens"]
    assert usage["output_tokens"] == 9
    parts = events(provider.post("/v1/messages", json={**body, "stream": True}))
    assert parts[0]["message"]["usage"]["input_tokens"] == usage["input_tokens"]
    assert parts[-2]["usage"]["output_tokens"] == 9
    assert parts[-1]["type"] == "message_stop"
    count = provider.post("/v1/messages/count_tokens", json=body).json()["input_tokens"]
    assert count == call["prompt_tokens"]


def test_responses(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "input": "[[sim tokens=9 reasoning=5]]"}
    usage = provider.post("/v1/responses", json=body).json()["usage"]
    assert usage["output_tokens"] == 14
    assert usage["output_tokens_details"]["reasoning_tokens"] == 5
    parts = events(provider.post("/v1/responses", json={**body, "stream": True}))
    assert parts[-1]["type"] == "response.completed"
    assert parts[-1]["response"]["usage"] == usage


def test_tools_are_called_once(provider: TestClient) -> None:
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}]
    body: Json = {"model": "sim-gpt", "messages": user("[[sim tool=1]]"), "tools": tools}
    choice = provider.post("/v1/chat/completions", json=body).json()["choices"][0]
    assert choice["finish_reason"] == "tool_calls"
    assert choice["message"]["tool_calls"][0]["function"]["name"] == "weather"
    result = {"role": "tool", "tool_call_id": "call_1", "content": "sunny"}
    body["messages"] = [*user("[[sim tool=1]]"), choice["message"], result]
    assert provider.post("/v1/chat/completions", json=body).json()["choices"][0]["finish_reason"] == "stop"


def test_tools_count_as_prompt(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "messages": user("hi")}
    tools = [{"type": "function", "function": {"name": "weather", "description": "Tells the weather of a place."}}]
    plain, with_tools = (
        provider.post("/v1/chat/completions", json=body | more).json()["usage"]["prompt_tokens"]
        for more in ({}, {"tools": tools})
    )
    assert with_tools > plain


@pytest.mark.parametrize(
    ("route", "body", "usage"),
    [
        ("/v1/embeddings", {"input": ["one two", "three"]}, {"prompt_tokens": 3, "total_tokens": 3}),
        ("/v1/rerank", {"query": "one", "documents": ["one two", "three"]}, {"prompt_tokens": 5, "total_tokens": 5}),
        ("/v1/images/generations", {"prompt": "a cat"}, {"input_tokens": 2, "output_tokens": 272, "total_tokens": 274}),
        ("/v1/moderations", {"input": "a cat"}, None),
    ],
)
def test_other_routes(provider: TestClient, route: str, body: Json, usage: Json | None) -> None:
    answer = provider.post(route, json={"model": "sim", **body}).json()
    assert (usage is None) == ("usage" not in answer)
    if usage:
        assert {name: answer["usage"][name] for name in usage} == usage
        assert last_call(provider)["total_tokens"] == usage["total_tokens"]


def test_audio(provider: TestClient) -> None:
    sound = provider.post("/v1/audio/speech", json={"model": "sim-tts", "input": "hello"})
    assert sound.content.startswith(b"RIFF")
    files = {"file": ("a.wav", sound.content)}
    answer = provider.post("/v1/audio/transcriptions", data={"model": "sim-stt"}, files=files).json()
    assert answer["usage"]["total_tokens"] == last_call(provider)["total_tokens"] > 0


def test_failing_a_number_of_times(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "messages": user("[[sim fail=2 status=503 key=a]]")}
    assert [provider.post("/v1/chat/completions", json=body).status_code for _ in range(4)] == [503, 503, 200, 200]
    assert provider.get("/_calls").json()["sums"]["calls"] == 2


def test_wishes_behind_the_models_name(provider: TestClient) -> None:
    answer = provider.post("/v1/chat/completions", json={"model": "sim-gpt@tokens=7", "messages": user("hi")})
    assert answer.json()["usage"]["completion_tokens"] == 7


def test_a_misspelt_wish_is_noticed(provider: TestClient) -> None:
    answer = provider.post("/v1/chat/completions", json={"model": "sim-gpt", "messages": user("[[sim token=7]]")})
    assert answer.status_code == 400
    assert "token" in answer.json()["error"]["message"]


def test_a_wish_that_is_only_quoted_is_none(provider: TestClient) -> None:
    """As in a background task, which quotes the conversation."""
    text = "### Task:\nGenerate a concise title.\nUSER: [[sim status=500]]"
    answer = provider.post("/v1/chat/completions", json={"model": "sim-gpt", "messages": user(text)})
    assert "title" in json.loads(answer.json()["choices"][0]["message"]["content"])


def test_dying_in_the_middle_of_a_stream(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "messages": user("[[sim tokens=20 die=5]]"), "stream": True}
    with pytest.raises(RuntimeError, match="response already started"):
        provider.post("/v1/chat/completions", json=body)
    call = last_call(provider)
    assert (call["outcome"], call["sent_tokens"], call["completion_tokens"]) == ("died", 5, 20)


def test_an_error_in_the_middle_of_a_stream(provider: TestClient) -> None:
    body = {"model": "sim-gpt", "messages": user("[[sim tokens=20 error=5]]"), "stream": True}
    answer = provider.post("/v1/chat/completions", json=body)
    assert "error" in events(answer)[-1]
    assert "[DONE]" not in answer.text
    assert last_call(provider)["sent_tokens"] == 5


def test_calls_can_be_forgotten(provider: TestClient) -> None:
    provider.post("/v1/embeddings", json={"model": "sim-embed", "input": "x"})
    provider.delete("/_calls")
    assert provider.get("/_calls").json()["calls"] == []
