"""Several LiteLLM processes on one ledger count as one."""

import asyncio
import json
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.proxied import Person, eventually

from failure.fleet import LEASE, OPEN, OTHER, Fleet

pytestmark = pytest.mark.stack


async def test_forty_callers_over_two_processes_overshoot_by_the_crossing_call_alone(fleet: Fleet) -> None:
    fleet.up(OPEN, OTHER)
    limit = 2_000
    person = fleet[OPEN].person(fleet[OPEN].group({"daily": {"hard": limit}}, pool={"daily": {"hard": 10**9}}))
    body = {
        "model": "sim-gpt",
        "max_tokens": 60,
        "messages": [{"role": "user", "content": "[[sim tokens=60 delay=0.02]] " + "word " * 40}],
    }
    for name in (OPEN, OTHER):  # both know the policy, the key and the model from here on
        assert fleet.at(person, name).post("/v1/chat/completions", body).status_code == 200
    person.events(2)
    statuses: list[int] = []

    async def caller(http: httpx.AsyncClient) -> None:
        for _ in range(2):
            answer = await http.post("/v1/chat/completions", json=body, headers=person.headers(), timeout=120)
            statuses.append(answer.status_code)

    urls = [str(fleet[name].http.base_url) for name in (OPEN, OTHER)]
    async with (
        httpx.AsyncClient(base_url=urls[0], trust_env=False) as first,
        httpx.AsyncClient(base_url=urls[1], trust_env=False) as second,
    ):
        await asyncio.gather(*(caller(first if number % 2 else second) for number in range(40)))
    assert set(statuses) == {200, 429}
    events = person.events(2 + statuses.count(200))
    assert len(events) == 2 + statuses.count(200)
    assert limit <= person.used() < limit + max(event["charge"] for event in events)
    assert person.held() == 0
    assert person.proxied.counter(f"pool:{person.groups[0]}", "daily_used") == person.used()
    assert person.proxied.discrepancies() == []


def test_a_warning_is_shown_once_over_both_processes(fleet: Fleet) -> None:
    fleet.up(OPEN, OTHER)
    person = fleet[OPEN].person(fleet[OPEN].group({"daily": {"soft": 20, "hard": 10**6}}))
    assert person.chat("[[sim tokens=30]] hi").status_code == 200
    person.events(1)

    def in_browser(number: int) -> str:
        browser = fleet.at(person, (OPEN, OTHER)[number % 2]).in_chat()
        answer = browser.chat("[[sim tokens=5]] hi", stream=True)
        assert answer.status_code == 200, answer.text
        return answer.text

    with ThreadPoolExecutor(8) as pool:
        streams = list(pool.map(in_browser, range(8)))
    frames = [line for text in streams for line in text.splitlines() if line.startswith('data: {"event"')]
    assert len(frames) == 1
    assert json.loads(frames[0].removeprefix("data: "))["event"]["type"] == "notification"


def test_a_stream_longer_than_its_lease_keeps_its_hold_and_is_charged_its_truth_once(fleet: Fleet) -> None:
    fleet.up(OPEN, OTHER)
    person = fleet[OPEN].person(fleet[OPEN].group({"daily": {"hard": 10**9}}))
    tokens, started = 56, time.monotonic()
    body = {
        "model": "sim-gpt",
        "stream": True,
        "max_tokens": 100,
        "messages": [{"role": "user", "content": f"[[sim tokens={tokens} delay=0.25]] hi"}],
    }
    with person.streaming("/v1/chat/completions", body) as stream:
        held = [person.held() for line in stream.iter_lines() if line.startswith("data:")]
    assert time.monotonic() - started > LEASE + 3
    assert min(held[:-3]) > 100, "the hold was lost while the stream ran"
    events = person.events(1)
    assert [(event["ending"], event["completion"], event["estimated"]) for event in events] == [
        ("completed", tokens, False)
    ]
    assert person.held() == 0
    assert person.used() == events[0]["charge"]


def test_a_limit_changed_for_one_process_holds_for_the_other_at_once(fleet: Fleet) -> None:
    fleet.up(OPEN, OTHER)
    group = fleet[OPEN].group({"daily": {"hard": 20}})
    person: Person = fleet[OPEN].person(group)
    other = fleet.at(person, OTHER)
    assert person.chat("[[sim tokens=30]] hi").status_code == 200
    person.events(1)
    assert [each.chat().status_code for each in (person, other)] == [429, 429]
    fleet[OPEN].group({"daily": {"hard": 10**6}}, group_id=group)
    assert [each.chat().status_code for each in (person, other)] == [200, 200]
    assert eventually(lambda: fleet[OPEN].open(person.id), lambda count: count == 0) == 0
