"""What a client of LiteLLM receives: headers, warnings and the 429, byte for byte."""

import json
from datetime import UTC, datetime, timedelta

import pytest
from support.proxied import Proxied, eventually

pytestmark = pytest.mark.stack


def test_within_the_limits_headers_tell_where_the_user_stands(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"soft": 800, "hard": 1000}, "monthly": {"hard": 50_000}})
    person = proxied.person(group)
    person.chat()
    person.events(1)
    used = person.used()
    answer = person.chat()
    assert answer.status_code == 200
    headers = answer.headers
    assert headers["x-budget-status"] == "ok"
    assert headers["x-budget-policy"] == f"group={group};scope=member;window=daily;limit=1000;soft=800;used={used}"
    assert headers["x-budget-remaining-tokens"] == str(1000 - used)
    midnight = (datetime.now(UTC) + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0)
    assert headers["x-budget-reset"] == midnight.isoformat()
    assert headers["ratelimit-policy"].startswith(
        '"daily";q=1000;qu="tokens";w=86400, "monthly";q=50000;qu="tokens";w='
    )
    assert headers["ratelimit"].startswith(f'"daily";r={1000 - used};t=')
    assert "x-budget-warning" not in headers


@pytest.mark.parametrize("stream", [False, True])
def test_past_the_soft_limit_the_answer_goes_through_with_a_warning(proxied: Proxied, *, stream: bool) -> None:
    group = proxied.group({"daily": {"soft": 20, "hard": 10_000}})
    person = proxied.person(group)
    person.chat("[[sim tokens=30]] hi")
    person.events(1)
    answer = person.chat(stream=stream)
    assert answer.status_code == 200
    assert answer.headers["x-budget-status"] == "soft"
    assert answer.headers["x-budget-warning"] == "0% of your daily token limit is used; it resets at 00:00 (UTC)."


@pytest.mark.parametrize("stream", [False, True])
def test_past_the_hard_limit_the_answer_is_a_429_that_says_it_all(proxied: Proxied, *, stream: bool) -> None:
    group = proxied.group({"daily": {"hard": 20}}, name="Students")
    person = proxied.person(group)
    person.chat("[[sim tokens=30]] hi")
    person.events(1)
    used = person.used()
    answer = person.chat(stream=stream)
    assert answer.status_code == 429
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["x-should-retry"] == "false"
    assert answer.headers["x-budget-status"] == "hard"
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    error = json.loads(answer.content)["error"]
    assert error["message"].startswith(
        f"Daily limit of 20 tokens for group Students reached ({used} used). It resets at "
    )
    assert error["message"].endswith(" min.") or error["message"].endswith(" h.") or error["message"].endswith(" s.")
    assert (error["type"], error["param"], error["code"]) == ("insufficient_quota", None, "budget_exceeded")
    assert error["budget"] == {
        "window": "daily",
        "scope": "member",
        "group": "Students",
        "limit": 20,
        "used": used,
        "remaining": 0,
        "resets_at": answer.headers["x-budget-reset"],
    }


def test_a_refused_call_changes_nothing_and_never_reaches_the_provider(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 20}}, pool={"daily": {"hard": 10_000}})
    person = proxied.person(group)
    person.chat("[[sim tokens=30]] hi")
    before = person.events(1)
    used, pool = person.used(), proxied.counter(f"pool:{group}", "daily_used")
    refused = [person.chat(f"[[sim tokens=5]] refused-{person.id}") for _ in range(3)]
    assert [answer.status_code for answer in refused] == [429] * 3
    assert person.events(1) == before
    assert (person.used(), person.held(), proxied.counter(f"pool:{group}", "daily_used")) == (used, 0, pool)
    assert proxied.calls_with(f"refused-{person.id}") == []


def test_a_pool_counts_all_members_and_refuses_each(proxied: Proxied) -> None:
    group = proxied.group(pool={"monthly": {"hard": 60}}, name="Lab")
    first, second = proxied.person(group), proxied.person(group)
    for person in (first, second):
        person.chat("[[sim tokens=30]] hi")
        person.events(1)
    answer = first.chat()
    assert answer.status_code == 429
    error = answer.json()["error"]
    used = proxied.counter(f"pool:{group}", "monthly_used")
    assert used == first.used("monthly") + second.used("monthly")
    assert error["message"].startswith(
        f"Monthly pool of 60 tokens for group Lab reached ({used} used by all its members)."
    )
    assert error["budget"]["scope"] == "pool"


def test_the_next_window_admits_again(proxied: Proxied) -> None:
    group = proxied.group({"hourly": {"hard": 20}})
    person = proxied.person(group)
    person.chat("[[sim tokens=30]] hi")
    person.events(1)
    refused = person.chat()
    assert refused.status_code == 429
    proxied.move_clock(int(refused.headers["retry-after"]) + 1)
    again = eventually(person.chat, lambda answer: answer.status_code == 200)
    assert again.status_code == 200
    assert again.headers["x-budget-policy"].endswith("used=0")


def test_anthropics_route_keeps_status_and_headers_in_its_own_envelope(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 1}}, name="Students")
    person = proxied.person(group)
    body = {"model": "sim-claude", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
    assert person.post("/v1/messages", body).status_code == 200
    person.events(1)
    answer = person.post("/v1/messages", body)
    assert answer.status_code == 429
    assert int(answer.headers["retry-after"]) > 0
    content = answer.json()
    assert content["type"] == "error"
    assert content["error"]["message"].startswith("Daily limit of 1 tokens for group Students reached (")
