"""LiteLLM ends: asked to, with calls under way, or killed."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest
from support.proxied import Person, eventually

from failure.fleet import CLOSED, LEASE, OPEN, STRICT, Fleet, moved_clock

pytestmark = pytest.mark.stack


def calls_of(person: Person) -> list[dict[str, object]]:
    return person.proxied.calls_with(person.id)


def test_on_sigterm_clients_get_their_answers_and_every_call_is_settled(fleet: Fleet) -> None:
    fleet.up(CLOSED, OPEN)
    ending = fleet[CLOSED]
    person = ending.person(ending.group({"daily": {"hard": 10**9}}, pool={"daily": {"hard": 10**9}}))
    assert person.chat("[[sim tokens=1]] hi").status_code == 200
    person.events(1)

    def stream(number: int) -> str:
        text = f"[[sim tokens={30 + number} delay=0.1]] {person.id}"
        answer = person.chat(text, stream=True)
        assert answer.status_code == 200, answer.text
        return answer.text.rstrip()[-12:]

    def plain(number: int) -> int:
        answer = person.chat(f"[[sim tokens={number + 1} first=3]] {person.id}")
        assert answer.status_code == 200, answer.text
        return answer.json()["usage"]["completion_tokens"]  # type: ignore[no-any-return]

    with ThreadPoolExecutor(16) as pool:
        streams = [pool.submit(stream, number) for number in range(4)]
        plains = [pool.submit(plain, number) for number in range(6)]
        assert eventually(lambda: len(calls_of(person)), lambda count: count == 10) == 10
        fleet.stack.stop(CLOSED)
        assert [each.result(60) for each in streams] == ["data: [DONE]"] * 4
        assert [each.result(60) for each in plains] == [1, 2, 3, 4, 5, 6]
    # The process is gone: nobody will write anything any more.
    events = ending.events(person.id)
    assert sorted(event["completion"] for event in events) == sorted([1, 1, 2, 3, 4, 5, 6, 30, 31, 32, 33])
    assert not any(event["estimated"] for event in events)
    assert sum(event["charge"] for event in events[1:]) == sum(call["total_tokens"] for call in calls_of(person))  # type: ignore[misc]
    assert (person.held(), ending.open(person.id)) == (0, 0)
    assert "owui" not in "".join(path.name for path in fleet.spool() if path.stat().st_size)
    assert ending.discrepancies() == []


def test_on_sigkill_another_process_charges_the_estimate_once_the_lease_is_over(fleet: Fleet) -> None:
    fleet.up(STRICT, OPEN)
    dying, living = fleet[STRICT], fleet[OPEN]
    person = dying.person(dying.group({"daily": {"hard": 10**6}}, pool={"daily": {"hard": 10**6}}))
    got: list[str] = []

    def stream() -> None:
        body = {
            "model": "sim-gpt",
            "stream": True,
            "max_tokens": 300,
            "messages": [{"role": "user", "content": f"[[sim tokens=300 delay=0.1]] {person.id}"}],
        }
        try:
            with person.streaming("/v1/chat/completions", body) as answer:
                got.extend(line for line in answer.iter_lines() if line)
        except httpx.HTTPError as error:
            got.append(type(error).__name__)

    reading = threading.Thread(target=stream)
    reading.start()
    held = eventually(person.held, lambda held: held > 0)
    assert eventually(lambda: len(got), lambda count: count > 5) > 5
    fleet.stack.kill(STRICT)
    reading.join(20)
    assert not got[-1].startswith("data: [DONE]")
    assert living.events(person.id) == []
    assert (person.held(), living.open(person.id)) == (held, 1), "the hold outlives its process until the lease is over"
    with moved_clock(living, LEASE + 1):
        events = eventually(lambda: living.events(person.id), lambda rows: len(rows) == 1)
    assert [(each["type"], each["ending"], each["estimated"], each["charge"]) for each in events] == [
        ("estimate", "lost", True, held)
    ]
    assert person.used() == living.counter(f"pool:{person.groups[0]}", "daily_used") == held
    assert (person.held(), living.open(person.id)) == (0, 0)
    assert living.discrepancies() == []
    logs = "".join(path.read_text() for path in fleet.stack.state.logs.glob("litellm*.log"))
    assert "1 calls of vanished processes were charged as their estimates" in logs


def test_a_clock_ahead_of_a_running_call_does_not_change_what_it_is_charged(fleet: Fleet) -> None:
    fleet.up(OPEN)
    proxied = fleet[OPEN]
    person = proxied.person(proxied.group({"daily": {"hard": 10**9}}))
    with ThreadPoolExecutor(1) as pool:
        running = pool.submit(person.chat, f"[[sim tokens=9 first=6]] {person.id}")
        eventually(person.held, lambda held: held > 0)
        started = time.monotonic()
        with moved_clock(proxied, LEASE + 1):
            eventually(lambda: proxied.events(person.id), lambda rows: len(rows) == 1, seconds=5)
        assert running.result(60).status_code == 200
    assert time.monotonic() - started < LEASE

    def completion() -> int:
        return sum(event["completion"] for event in proxied.events(person.id))

    # Charged as its estimate, since its lease seemed to be over; then corrected.
    assert eventually(completion, lambda tokens: tokens == 9) == 9
    events = proxied.events(person.id)
    assert person.used() == sum(event["charge"] for event in events)
    assert person.held() == 0
    assert proxied.discrepancies() == []
