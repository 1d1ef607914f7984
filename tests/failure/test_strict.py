"""Strict admission on the real proxy: not one token over a hard limit, whatever is sent at once."""

import asyncio

import httpx
import pytest
from support.proxied import Person, eventually

from failure.fleet import STRICT, Fleet

pytestmark = pytest.mark.stack


def body(text: str, **more: object) -> dict[str, object]:
    return {"model": "sim-gpt", "messages": [{"role": "user", "content": text}], **more}


@pytest.fixture
def strict(fleet: Fleet) -> Fleet:
    fleet.up(STRICT)
    return fleet


def limited(fleet: Fleet, hard: int, pool: int | None = None) -> Person:
    proxied = fleet[STRICT]
    return proxied.person(proxied.group({"daily": {"hard": hard}}, pool={"daily": {"hard": pool}} if pool else None))


async def test_no_token_over_the_limit_with_and_without_a_cap(strict: Fleet) -> None:
    limit, pool = 3_000, 2_600
    person = limited(strict, limit, pool)
    kinds = (
        {"max_tokens": 90},
        {},
        {"max_tokens": 10**6},
        {"max_completion_tokens": 300, "stream": True},
        {"n": 3, "max_tokens": 40},
    )
    async with httpx.AsyncClient(base_url=str(person.proxied.http.base_url), timeout=120, trust_env=False) as http:

        async def call(number: int) -> int:
            text = f"[[sim tokens=120 delay=0.005]] {person.id} " + "word " * (number % 9)
            content = body(text, **kinds[number % len(kinds)])
            return (await http.post("/v1/chat/completions", json=content, headers=person.headers())).status_code

        statuses = [status for _ in range(3) for status in await asyncio.gather(*(call(n) for n in range(20)))]
    assert set(statuses) <= {200, 429}
    assert statuses.count(200) > 1
    events = person.events(statuses.count(200))
    assert len({event["reservation_id"] for event in events}) == statuses.count(200)
    provider = sum(call["total_tokens"] for call in person.proxied.calls_with(person.id))
    assert person.used() == provider <= pool
    assert person.proxied.counter(f"pool:{person.groups[0]}", "daily_used") == provider
    assert person.held() == 0
    # A call without a cap holds all that is left while it runs; once it has ended, the rest is there for others.
    assert person.chat(f"[[sim tokens=5000]] {person.id}").status_code in (200, 429)
    assert eventually(person.held, lambda held: held == 0) == 0
    assert provider <= person.used() <= pool
    assert person.proxied.discrepancies() == []


@pytest.mark.parametrize("asked", [None, 50, 100_000])
def test_the_provider_receives_the_cap_that_was_reserved(strict: Fleet, asked: int | None) -> None:
    person = limited(strict, 1_000)
    more = {} if asked is None else {"max_tokens": asked}
    text = f"[[sim tokens=5000]] {person.id}"
    answer = person.post("/v1/chat/completions", body(text, **more))
    assert answer.status_code == 200, answer.text
    [call] = person.proxied.calls_with(person.id)
    cap = call["body"].get("max_tokens") or call["body"].get("max_completion_tokens")
    assert cap == 50 if asked == 50 else 700 < cap < 1_000
    assert call["completion_tokens"] == cap
    assert person.events(1)[0]["completion"] == cap
    assert person.used() <= 1_000


def test_a_prompt_that_does_not_fit_is_refused_and_changes_nothing(strict: Fleet) -> None:
    person = limited(strict, 300)
    answer = person.post("/v1/chat/completions", body(f"{person.id} " + "x" * 2_000))
    assert answer.status_code == 429, answer.text
    assert person.proxied.calls_with(person.id) == []
    assert (person.used(), person.held()) == (0, 0)


@pytest.mark.parametrize(
    ("path", "content"),
    [
        ("/v1/responses", {"model": "sim-gpt", "input": "hi", "previous_response_id": "resp_1"}),
        ("/v1/responses", {"model": "sim-gpt", "input": "hi", "tools": [{"type": "web_search"}]}),
        ("/v1/chat/completions", body("hi", web_search_options={})),
        ("/v1/chat/completions", body("hi", web_search_options={"search_context_size": "low"})),
        ("/v1/chat/completions", body("hi", tools=[{"type": "code_interpreter"}])),
        ("/v1/images/generations", {"model": "sim-image", "prompt": "hi"}),
    ],
)
def test_what_cannot_be_bounded_is_refused(strict: Fleet, path: str, content: dict[str, object]) -> None:
    person = limited(strict, 10**6)
    answer = person.post(path, {**content, "user": person.id})
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["code"] == "budget_unbounded"
    assert person.proxied.calls_with(person.id) == []


def test_a_free_model_is_not_bounded(strict: Fleet) -> None:
    person = limited(strict, 1)
    assert person.chat("[[sim tokens=500]] hi", model="sim-free").status_code == 200
    assert person.events(1)[0]["completion"] == 500
