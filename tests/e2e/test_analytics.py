"""For saved, completed chats our numbers equal Open WebUI's own analytics, to the token."""

from typing import Any

import pytest
from support.openwebui import House, User

pytestmark = pytest.mark.stack


@pytest.fixture
def user(house: House) -> User:
    return house.user(house.group({"daily": {"hard": 10**9}}))


def assert_equal_books(house: House, user: User, answers: int) -> list[dict[str, Any]]:
    """Compare both counts of the user's chats and return our events of them."""
    events = [event for event in user.events(answers) if event["kind"] == "chat"]
    analytics = house.analytics(user)
    assert analytics["input_tokens"] == sum(event["prompt"] for event in events)
    assert analytics["output_tokens"] == sum(event["completion"] for event in events)
    assert analytics["total_tokens"] == sum(event["charge"] for event in events) == user.used()
    assert analytics["total_tokens"] > 0
    return events


@pytest.mark.parametrize("stream", [True, False])
def test_a_conversation(house: House, user: User, *, stream: bool) -> None:
    with user.browser() as browser:
        chat = browser.saved_chat()
        for tokens in (10, 25, 3):
            chat.say(f"[[sim tokens={tokens}]] tell me more", stream=stream)
    events = assert_equal_books(house, user, 3)
    assert [event["completion"] for event in events] == [10, 25, 3]
    assert house.analytics(user)["count"] == 3


def test_background_tasks_and_other_doors_are_left_out_by_both_ways_of_counting_chats(house: House, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat().say(tasks=True)
    assert_equal_books(house, user, 4)


def test_cached_and_reasoning_tokens_are_inside_the_same_sums(house: House, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat().say("[[sim tokens=20 cached=5 reasoning=7]] hi")
    (event,) = assert_equal_books(house, user, 1)
    assert (event["cached"], event["reasoning"]) == (5, 7)


def test_a_provider_that_litellm_does_not_ask_for_usage(house: House, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat("sim-claude").say("[[sim tokens=12]] hi")
    assert len(assert_equal_books(house, user, 1)) == 1


def test_several_models_in_one_chat(house: House, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat("sim-gpt", "sim-gpt-mini", "sim-claude").say_all("[[sim tokens=12]] hi")
    assert len(assert_equal_books(house, user, 3)) == 3


def test_a_tool_loop(house: House, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat().say("[[sim tokens=15 tool=1]] hi")
    assert len(assert_equal_books(house, user, 2)) == 2


def test_an_answer_that_a_warning_turned_into_a_stream(house: House) -> None:
    user = house.user(house.group({"daily": {"soft": 1, "hard": 10**9}}))
    with user.browser() as browser:
        chat = browser.saved_chat()
        for _ in range(3):
            chat.say("[[sim tokens=20]] hi", stream=False)
        assert len(browser.toasts) == 1
    assert len(assert_equal_books(house, user, 3)) == 3


def test_the_users_own_usage_page_agrees(user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat().say()
    (event,) = user.events(1)
    assert str(event["charge"]) in str(user.get("/api/v1/users/usage"))
