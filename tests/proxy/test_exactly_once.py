"""However a call ends, it is charged once, and what it held is given back."""

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.proxied import Person, Proxied, eventually

pytestmark = pytest.mark.stack

SLOW = "[[sim tokens=200 delay=0.05]] hi"


@pytest.fixture
def person(proxied: Proxied) -> Person:
    return proxied.person(proxied.group({"daily": {"hard": 10**9}}, pool={"daily": {"hard": 10**9}}))


def settled(person: Person) -> None:
    assert person.held() == 0
    assert person.proxied.open(person.id) == 0
    assert person.used() == sum(event["charge"] for event in person.proxied.events(person.id))
    for group in person.groups:
        assert person.proxied.counter(f"pool:{group}", "daily_used") == person.used()


def test_a_retry_that_succeeds_is_charged_once(person: Person) -> None:
    answer = person.chat(f"[[sim tokens=10 fail=1 key={person.id}]] hi", num_retries=2)
    assert answer.status_code == 200, answer.text
    events = person.events(1)
    time.sleep(0.5)
    assert len(person.proxied.events(person.id)) == 1
    assert events[0]["ending"] == "completed"
    assert events[0]["completion"] == 10
    settled(person)


def test_a_call_that_fails_for_good_is_charged_nothing(person: Person) -> None:
    answer = person.chat("[[sim status=500]] hi")
    assert answer.status_code == 500
    assert eventually(lambda: person.proxied.open(person.id), lambda count: count == 0) == 0
    assert person.proxied.events(person.id) == []
    settled(person)


def test_a_client_cannot_cut_a_call_short_by_a_timeout_and_pay_nothing(person: Person) -> None:
    answer = person.chat("[[sim tokens=10 first=2]] hi", headers={"x-litellm-timeout": "1"}, timeout=1)
    assert answer.status_code == 200, answer.text
    assert person.events(1)[0]["completion"] == 10
    settled(person)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/v1/chat/completions", {"messages": [{"role": "user", "content": SLOW}]}),
        ("/v1/completions", {"prompt": SLOW}),
        ("/v1/responses", {"input": SLOW}),
        ("/v1/messages", {"messages": [{"role": "user", "content": SLOW}], "max_tokens": 500}),
    ],
)  # fmt: skip
def test_a_client_that_leaves_in_mid_stream_pays_for_what_it_got(
    person: Person, path: str, body: dict[str, object]
) -> None:
    with person.streaming(path, {"model": "sim-gpt", "stream": True, **body}) as stream:
        lines = stream.iter_lines()
        for _ in range(20):
            next(lines)
    events = person.events(1)
    assert len(events) == 1, events
    assert events[0]["ending"] == "partial"
    assert 3 <= events[0]["completion"] < 150
    assert events[0]["prompt"] > 0
    settled(person)


def test_a_client_that_leaves_before_the_answer_pays_for_the_whole_of_it(person: Person) -> None:
    with contextlib.suppress(httpx.ReadTimeout):
        person.proxied.http.post(
            "/v1/chat/completions",
            json={"model": "sim-gpt", "messages": [{"role": "user", "content": "[[sim tokens=20 first=2]] hi"}]},
            headers=person.headers(),
            timeout=0.7,
        )
    events = person.events(1)
    assert [event["completion"] for event in events] == [20]
    settled(person)


@pytest.mark.parametrize("route", ["/v1/chat/completions", "/v1/messages", "/v1/responses"])
def test_a_provider_that_dies_in_mid_stream_is_charged_for_what_it_sent(person: Person, route: str) -> None:
    text = "[[sim tokens=50 die=10 delay=0.02]] hi"
    body = {"model": "sim-gpt", "stream": True, "max_tokens": 100, "messages": [{"role": "user", "content": text}]}
    if route == "/v1/responses":
        body = {"model": "sim-gpt", "stream": True, "input": text}
    with contextlib.suppress(httpx.HTTPError), person.streaming(route, body) as stream:
        for _ in stream.iter_lines():
            pass
    events = person.events(1)
    assert len(events) == 1, events
    assert events[0]["ending"] in ("failed", "partial")
    assert 1 <= events[0]["completion"] < 50
    settled(person)


def test_a_provider_without_usage_is_estimated_and_flagged(person: Person) -> None:
    assert person.chat("[[sim tokens=40 usage=none]] hi there").status_code == 200
    event = person.events(1)[0]
    assert event["estimated"]
    assert event["prompt"] > 0
    assert 10 <= event["completion"] <= 160
    settled(person)


def test_cached_and_reasoning_tokens_are_kept_apart(person: Person) -> None:
    text = "[[sim tokens=10 cached=5 reasoning=7]] " + "word " * 50
    assert person.chat(text).status_code == 200
    event = person.events(1)[0]
    assert (event["cached"], event["reasoning"]) == (5, 7)
    assert event["charge"] == event["prompt"] + event["completion"]


def test_sixteen_clients_at_once_leave_the_books_exact(person: Person) -> None:
    def one(number: int) -> int:
        return person.chat(f"[[sim tokens={number % 7 + 1}]] hi {number}", stream=bool(number % 2)).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(one, range(96))) == {200}
    events = person.events(96)
    assert len(events) == 96
    assert sum(event["completion"] for event in events) == sum(number % 7 + 1 for number in range(96))
    settled(person)
    assert person.proxied.discrepancies() == []


async def test_last_request_overshoots_by_the_crossing_call_where_estimates_suffice(proxied: Proxied) -> None:
    limit = 3_000
    person = proxied.person(proxied.group({"daily": {"hard": limit}}, pool={"daily": {"hard": 10**9}}))
    person.chat("[[sim tokens=100]] hi", max_tokens=100)
    person.events(1)
    async with httpx.AsyncClient(base_url=str(proxied.http.base_url), timeout=60, trust_env=False) as http:
        body = {
            "model": "sim-gpt",
            "max_tokens": 100,
            "messages": [{"role": "user", "content": "[[sim tokens=100 delay=0.01]] " + "word " * 60}],
        }
        # As many connections as calls: they all arrive while the first ones run.
        calls = [http.post("/v1/chat/completions", json=body, headers=person.headers()) for _ in range(60)]
        statuses = [answer.status_code for answer in await asyncio.gather(*calls)]
    assert set(statuses) == {200, 429}
    events = person.events(1 + statuses.count(200))
    largest = max(event["charge"] for event in events)
    assert person.used() < limit + largest
    settled(person)
