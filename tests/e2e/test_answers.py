"""Past the soft limit and past the hard one, as a client of Open WebUI's API and a chat in the browser see it."""

import re
from datetime import timedelta

import httpx
import pytest
from support.openwebui import Door, House, User
from support.proxied import eventually

pytestmark = pytest.mark.stack

DOORS: list[Door] = ["jwt", "sk-"]
LEFT = r"(\d+ h( \d+ min)?|\d+ min|\d+ s)"


def midnight(house: House) -> str:
    return (house.now() + timedelta(days=1)).replace(hour=0, minute=0, second=0, microsecond=0).isoformat()


def assert_refusal(house: House, answer: httpx.Response, group: str, used: int) -> None:
    """The answer is the documented 429, nothing missing and nothing added, of a group with 20 tokens a day."""
    name = house.name_of(group)
    assert answer.status_code == 429, answer.text
    assert answer.headers["content-type"].startswith("application/json")
    assert 0 < int(answer.headers["retry-after"]) <= 86_400
    body = answer.json()
    message = body["error"].pop("message")
    assert body == {
        "error": {
            "type": "insufficient_quota",
            "param": None,
            "code": "budget_exceeded",
            "budget": {
                "window": "daily",
                "scope": "member",
                "group": name,
                "limit": 20,
                "used": used,
                "remaining": 0,
                "resets_at": midnight(house),
            },
        }
    }
    start = f"Daily limit of 20 tokens for group {name} reached ({used} used). It resets at 00:00 UTC, in "
    assert re.fullmatch(re.escape(start) + LEFT + r"\.", message), message


@pytest.fixture
def warned(house: House) -> User:
    """Somebody past the soft limit."""
    user = house.user(house.group({"daily": {"soft": 20, "hard": 100_000}}))
    user.spend()
    return user


@pytest.mark.parametrize("door", DOORS)
def test_past_the_soft_limit_a_stream_goes_through_with_the_warning_headers(warned: User, door: Door) -> None:
    used = warned.used()
    answer = warned.ask(door=door, stream=True)
    assert answer.status_code == 200, answer.text
    assert "alpha" in answer.text
    headers = answer.headers
    assert headers["x-budget-status"] == "soft"
    assert headers["x-budget-warning"] == "0% of your daily token limit is used; it resets at 00:00 (UTC)."
    assert headers["x-budget-remaining-tokens"] == str(100_000 - used)
    assert headers["x-budget-reset"] == midnight(warned.house)
    assert headers["x-budget-policy"].endswith(f";scope=member;window=daily;limit=100000;soft=20;used={used}")
    assert headers["ratelimit-policy"] == '"daily";q=100000;qu="tokens";w=86400'
    assert headers["ratelimit"].startswith(f'"daily";r={100_000 - used};t=')
    assert '"event"' not in answer.text, "API clients see no frame that is not OpenAI's"


@pytest.mark.parametrize("door", DOORS)
def test_past_the_soft_limit_a_whole_answer_goes_through_untouched(warned: User, door: Door) -> None:
    answer = warned.ask(door=door, stream=False)
    assert answer.status_code == 200, answer.text
    assert answer.json()["choices"][0]["message"]["content"].startswith("alpha")
    assert answer.json()["usage"]["completion_tokens"] == 10


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("door", DOORS)
def test_past_the_hard_limit_the_api_answers_our_429_as_it_is(house: House, door: Door, *, stream: bool) -> None:
    group = house.group({"daily": {"hard": 20}})
    user = house.user(group)
    used = user.spend()
    assert_refusal(house, user.ask(door=door, stream=stream), group, used)
    assert user.used() == used, "a refused call changes no counter"


@pytest.mark.parametrize("path", ["/openai/chat/completions", "/api/v1/messages", "/api/v1/chat/completions"])
def test_past_the_hard_limit_every_chat_route_of_the_api_answers_our_429(house: House, path: str) -> None:
    group = house.group({"daily": {"hard": 20}})
    user = house.user(group)
    used = user.spend()
    body = {"model": "sim-gpt", "max_tokens": 20, "messages": [{"role": "user", "content": "hi"}]}
    assert_refusal(house, user.post(path, body), group, used)


def test_the_next_window_admits_again(house: House) -> None:
    user = house.user(house.group({"daily": {"hard": 20}}))
    user.spend()
    refused = user.ask()
    assert refused.status_code == 429
    house.pass_time(int(refused.headers["retry-after"]) + 1)
    again = eventually(user.ask, lambda answer: answer.status_code == 200, seconds=10)
    assert again.status_code == 200, again.text


def test_past_the_soft_limit_exactly_one_toast_over_all_chats(house: House, warned: User) -> None:
    group = next(iter(warned.events(1)))["deciding_group_id"]
    name = house.name_of(group)
    with warned.browser() as browser:
        chat = browser.saved_chat()
        first = chat.say()
        assert first.error is None
        assert [(toast["type"], toast["message_id"]) for toast in browser.toasts] == [("warning", first.id)]
        assert re.fullmatch(
            rf"\d+% of your daily token limit for group {name} is used; it resets at 00:00 UTC\.",
            browser.toasts[0]["content"],
        )
        stored = chat.stored(first)
        assert "statusHistory" not in stored
        assert browser.toasts[0]["content"] not in str(stored), "a toast leaves nothing in the chat"
        chat.say()
        chat.say(stream=False)
        browser.saved_chat("sim-gpt", "sim-gpt-mini").say_all()
        browser.temporary_chat().say()
    assert len(browser.toasts) == 1


def test_a_temporary_chat_shows_the_toast_as_well(warned: User) -> None:
    with warned.browser() as browser:
        chat = browser.temporary_chat()
        assert [chat.say().error for _ in range(3)] == [None] * 3
    assert [toast["type"] for toast in browser.toasts] == ["warning"]


def test_a_tool_loop_shows_one_toast(warned: User) -> None:
    with warned.browser() as browser:
        assert browser.saved_chat().say("[[sim tokens=5 tool=1]] hi").error is None
    assert len(warned.events(3)) == 3
    assert len(browser.toasts) == 1


def test_two_models_side_by_side_show_one_toast(warned: User) -> None:
    with warned.browser() as browser:
        replies = browser.saved_chat("sim-gpt", "sim-gpt-mini").say_all()
    assert [reply.error for reply in replies] == [None, None]
    assert len(browser.toasts) == 1


def test_a_browser_chat_without_stream_still_shows_the_toast_and_keeps_its_usage(warned: User) -> None:
    with warned.browser() as browser:
        chat = browser.saved_chat()
        reply = chat.say(stream=False)
        stored = chat.stored(reply)
    assert len(browser.toasts) == 1
    assert reply.text.startswith("alpha")
    assert stored["usage"]["total_tokens"] == warned.events(2)[-1]["charge"]


def test_a_raised_threshold_is_a_toast_of_its_own(house: House) -> None:
    user = house.user(house.group({"daily": {"hard": 1_000}}))
    toasts = []
    with user.browser() as browser:
        for tokens in (10, 650, 10, 150, 10):
            user.spend(tokens)
            browser.temporary_chat().say("[[sim tokens=1]] hi", params={"function_calling": "legacy"})
            toasts.append(len(browser.toasts))
    assert toasts[0] == 0, browser.toasts
    assert toasts[-1] == 2, browser.toasts
    percentages = [int(toast["content"].partition("%")[0]) for toast in browser.toasts]
    assert percentages[0] in range(75, 90)
    assert percentages[1] in range(90, 101)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("temporary", [False, True])
def test_past_the_hard_limit_the_chat_shows_our_message(house: House, *, temporary: bool, stream: bool) -> None:
    group = house.group({"daily": {"hard": 20}})
    user = house.user(group)
    used = user.spend()
    with user.browser() as browser:
        chat = browser.temporary_chat() if temporary else browser.saved_chat()
        reply = chat.say(stream=stream)
    start = (
        f"Daily limit of 20 tokens for group {house.name_of(group)} reached ({used} used). It resets at 00:00 UTC, in "
    )
    assert (reply.error or "").startswith(start)
    if not temporary:
        assert str(chat.stored(reply)["error"]).count(start) == 1, "it stays in the chat"
    assert browser.toasts == []
    assert user.used() == used


def test_a_blocked_chat_goes_on_when_the_limit_is_raised(house: House) -> None:
    group = house.group({"daily": {"hard": 20}})
    user = house.user(group)
    user.spend()
    with user.browser() as browser:
        chat = browser.saved_chat()
        assert chat.say().error
        house.limit(group, {"daily": {"hard": 1_000_000}})
        assert chat.say().text.startswith("alpha")
