"""Every route that spends tokens: is it enforced, is it recorded, and with which number? docs/routes.md says the same."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import httpx
import pytest
from support.proxied import PNG, Person, Proxied

pytestmark = pytest.mark.stack

MESSAGES = [{"role": "user", "content": "[[sim tokens=12]] hi there"}]
SOUND = ("a.wav", b"RIFF$\x00\x00\x00WAVEfmt " + bytes(24), "audio/wav")


@dataclass(frozen=True)
class Case:
    name: str
    call: Callable[[Person], httpx.Response]
    route: str
    number: str
    """`exact`: the provider's own count; `estimated`: LiteLLM does not tell it; `none`: the route counts no tokens."""


def _json(path: str, body: dict[str, Any]) -> Callable[[Person], httpx.Response]:
    return lambda person: person.post(path, body)


def _form(path: str, data: dict[str, str], files: dict[str, Any]) -> Callable[[Person], httpx.Response]:
    return lambda person: person.proxied.http.post(path, data=data, files=files, headers=person.headers())


CASES = [
    Case("chat", _json("/v1/chat/completions", {"model": "sim-gpt", "messages": MESSAGES}), "chat", "exact"),
    Case("chat stream", _json("/v1/chat/completions", {"model": "sim-gpt", "messages": MESSAGES, "stream": True}), "chat", "exact"),
    Case("chat on claude", _json("/chat/completions", {"model": "sim-claude", "messages": MESSAGES}), "chat", "exact"),
    Case("completion", _json("/v1/completions", {"model": "sim-gpt", "prompt": "[[sim tokens=12]] hi"}), "completion", "exact"),
    Case("completion stream", _json("/v1/completions", {"model": "sim-gpt", "prompt": "[[sim tokens=12]] hi", "stream": True}), "completion", "exact"),
    Case("embedding", _json("/v1/embeddings", {"model": "sim-embed", "input": "some text"}), "embedding", "exact"),
    Case("responses", _json("/v1/responses", {"model": "sim-gpt", "input": "[[sim tokens=12]] hi"}), "responses", "exact"),
    Case("responses stream", _json("/v1/responses", {"model": "sim-gpt", "input": "[[sim tokens=12]] hi", "stream": True}), "responses", "exact"),
    Case("messages", _json("/v1/messages", {"model": "sim-claude", "messages": MESSAGES, "max_tokens": 50}), "messages", "exact"),
    Case("messages stream", _json("/v1/messages", {"model": "sim-claude", "messages": MESSAGES, "max_tokens": 50, "stream": True}), "messages", "exact"),
    Case("messages on an OpenAI model", _json("/v1/messages", {"model": "sim-gpt", "messages": MESSAGES, "max_tokens": 50}), "messages", "exact"),
    Case("image", _json("/v1/images/generations", {"model": "sim-image", "prompt": "a cat"}), "image_generation", "exact"),
    Case("image edit", _form("/v1/images/edits", {"model": "sim-image", "prompt": "a cat"}, {"image": ("a.png", PNG, "image/png")}), "image_edit", "exact"),
    Case("speech", _json("/v1/audio/speech", {"model": "sim-tts", "input": "hi", "voice": "alloy"}), "speech", "none"),
    Case("transcription", _form("/v1/audio/transcriptions", {"model": "sim-stt"}, {"file": SOUND}), "transcription", "exact"),
    Case("rerank", _json("/v1/rerank", {"model": "sim-rerank", "query": "a", "documents": ["a", "b"]}), "rerank", "exact"),
    Case("moderation", _json("/v1/moderations", {"model": "sim-moderation", "input": "hi"}), "moderation", "none"),
    Case(
        "generateContent",
        _json("/v1beta/models/sim-gpt:generateContent", {"contents": [{"role": "user", "parts": [{"text": "[[sim tokens=12]] hi"}]}]}),
        "generate_content",
        "exact",
    ),
    Case(
        "generateContent stream",
        _json("/v1beta/models/sim-gpt:streamGenerateContent", {"contents": [{"role": "user", "parts": [{"text": "[[sim tokens=12]] hi"}]}]}),
        "generate_content",
        "estimated",
    ),
]  # fmt: skip
IDS = [case.name for case in CASES]


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_recorded_once_with_the_providers_number(proxied: Proxied, case: Case) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 10**9}}))
    first = len(proxied.calls())
    answer = case.call(person)
    assert answer.status_code == 200, answer.text
    events = person.events(1)
    assert [event["route"] for event in events] == [case.route]
    event = events[0]
    mine = proxied.calls()[first:]
    assert len(mine) == 1, mine
    truth = mine[0]["prompt_tokens"] + mine[0]["completion_tokens"]
    recorded = event["prompt"] + event["completion"]
    if case.number == "estimated":
        assert event["estimated"]
        assert truth / 3 <= recorded <= truth * 3
    else:
        assert not event["estimated"]
        assert recorded == (truth if case.number == "exact" else 0)
    assert event["charge"] == recorded == person.used()
    assert person.held() == 0
    assert answer.headers["x-budget-status"] == "ok"


@pytest.mark.parametrize("case", CASES, ids=IDS)
def test_refused_past_the_hard_limit(proxied: Proxied, case: Case) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 0}}, name="Students"))
    answer = case.call(person)
    assert answer.status_code == 429, answer.text
    error = answer.json()["error"]
    assert error["message"].startswith("Daily limit of 0 tokens for group Students reached (0 used)")
    assert error["code"] == "budget_exceeded"
    assert error["budget"]["group"] == "Students"
    assert int(answer.headers["retry-after"]) > 0
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-budget-status"] == "hard"
    assert proxied.events(person.id) == []


def test_unknown_call_types_and_batches_are_refused_for_limited_users(proxied: Proxied) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 10**9}}))
    batch = {
        "model": "sim-gpt",
        "input_file_id": "file-1",
        "endpoint": "/v1/chat/completions",
        "completion_window": "24h",
    }
    answer = person.post("/v1/batches", batch)
    assert answer.status_code == 400, answer.text
    assert "batches: allow" in answer.text
