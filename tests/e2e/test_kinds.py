"""Every way to spend tokens through Open WebUI is counted and enforced: chats saved or temporary, the API, tasks."""

from itertools import product

import pytest
from support.openwebui import Door, House, User

pytestmark = pytest.mark.stack

EXEMPT = 20_000
"""`task_allowance` in limits.yaml, tokens per user and day."""


@pytest.fixture
def group(house: House) -> str:
    return house.group({"daily": {"hard": 10**9}}, pool={"daily": {"hard": 10**9}})


@pytest.fixture
def user(house: House, group: str) -> User:
    return house.user(group)


@pytest.mark.parametrize(("door", "stream"), list(product(["jwt", "sk-"], [False, True])))
def test_api_calls_are_counted_and_enforced(house: House, door: Door, *, stream: bool) -> None:
    group = house.group({"daily": {"hard": 30}})
    user = house.user(group)
    assert user.ask("[[sim tokens=40]] hi", door=door, stream=stream).status_code == 200
    (event,) = user.events(1)
    assert (event["kind"], event["completion"], event["charge"]) == ("api", 40, event["prompt"] + 40)
    assert event["deciding_group_id"] == group
    assert user.used() == event["charge"]
    assert user.ask(door=door, stream=stream).status_code == 429


@pytest.mark.parametrize("stream", [False, True])
def test_saved_chats_are_counted_and_enforced(house: House, *, stream: bool) -> None:
    group = house.group({"daily": {"hard": 30}}, pool={"daily": {"hard": 10**9}})
    user = house.user(group)
    with user.browser() as browser:
        chat = browser.saved_chat()
        reply = chat.say("[[sim tokens=40]] hi", stream=stream)
        (event,) = user.events(1)
        assert (event["kind"], event["completion"]) == ("chat", 40)
        assert user.used() == event["charge"] == house.proxied.counter(f"pool:{group}", "daily_used")
        stored = chat.stored(reply)
        assert (stored["usage"]["prompt_tokens"], stored["usage"]["completion_tokens"]) == (event["prompt"], 40)
        assert "Daily limit of 30 tokens" in (chat.say(stream=stream).error or "")
    assert user.events(1) == [event]


@pytest.mark.parametrize("stream", [False, True])
def test_temporary_chats_are_counted_and_enforced(house: House, *, stream: bool) -> None:
    user = house.user(house.group({"daily": {"hard": 30}}))
    with user.browser() as browser:
        chat = browser.temporary_chat()
        assert chat.say("[[sim tokens=40]] hi", stream=stream).text
        (event,) = user.events(1)
        assert (event["kind"], event["completion"]) == ("temporary_chat", 40)
        assert user.used() == event["charge"]
        assert "Daily limit of 30 tokens" in (chat.say(stream=stream).error or "")


def test_all_models_of_a_chat_are_counted(user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat("sim-gpt", "sim-gpt-mini").say_all("[[sim tokens=15]] hi")
    assert sorted(event["model"] for event in user.events(2)) == ["sim-gpt", "sim-gpt-mini"]


def test_every_call_of_a_tool_loop_is_counted(user: User) -> None:
    with user.browser() as browser:
        reply = browser.saved_chat().say("[[sim tokens=15 tool=1]] hi")
    assert reply.error is None
    events = user.events(2)
    assert len(events) == 2
    assert user.used() == sum(event["charge"] for event in events)


def test_deleting_a_chat_changes_no_count(house: House, group: str, user: User) -> None:
    with user.browser() as browser:
        chat = browser.saved_chat()
        chat.say()
        events = user.events(1)
        before = (user.used(), user.used("monthly"), house.proxied.counter(f"pool:{group}", "daily_used"))
        chat.delete()
    assert house.analytics(user)["total_tokens"] == 0, "Open WebUI forgets a deleted chat's tokens"
    assert user.events(1) == events
    assert (user.used(), user.used("monthly"), house.proxied.counter(f"pool:{group}", "daily_used")) == before
    assert user.ask("[[sim tokens=1]] hi").status_code == 200
    latest = user.events(2)[-1]
    assert user.used() == before[0] + latest["charge"]


def test_background_tasks_are_recorded_and_do_not_count(house: House, group: str, user: User) -> None:
    with user.browser() as browser:
        browser.saved_chat().say(tasks=True)
    events = user.events(4)
    assert sorted(event["kind"] for event in events) == ["chat", "task", "task", "task"]
    chats = sum(event["charge"] for event in events if event["kind"] == "chat")
    tasks = sum(event["charge"] for event in events if event["kind"] == "task")
    assert tasks > 0
    assert user.used() == house.proxied.counter(f"pool:{group}", "daily_used") == chats
    assert house.proxied.counter(f"task:{user.id}", "daily_used") == tasks


def title(user: User, words: int = 5) -> int:
    """Ask Open WebUI for a title, as anybody may; return the status."""
    messages = [{"role": "user", "content": "word " * words}, {"role": "assistant", "content": "ok"}]
    return user.post("/api/v1/tasks/title/completions", {"model": "sim-gpt", "messages": messages}).status_code


def test_tasks_of_a_blocked_user_pass_within_the_allowance_and_count_past_it(house: House) -> None:
    user = house.user(house.group({"daily": {"hard": 30}}))
    used = user.spend()
    assert user.ask().status_code == 429
    assert title(user) == 200
    assert title(user, EXEMPT) == 200
    events = user.events(3)
    assert [event["kind"] for event in events] == ["api", "task", "task"]
    assert house.proxied.counter(f"task:{user.id}", "daily_used") > EXEMPT
    assert user.used() == used
    assert title(user) == 429
    assert user.events(3) == events


def test_tasks_past_the_allowance_count_as_chat(user: User) -> None:
    assert title(user, EXEMPT) == 200
    user.events(1)
    assert user.used() == 0
    assert title(user) == 200
    latest = user.events(2)[-1]
    assert user.used() == latest["charge"] > 0


def test_a_forged_task_is_charged_to_the_forgers_own_allowance(house: House) -> None:
    user = house.user(house.group({"daily": {"hard": 30}}))
    used = user.spend()
    body = {"model": "sim-gpt", "messages": [{"role": "user", "content": "[[sim tokens=20]] hi"}]}
    forged = {**body, "metadata": {"task": "title_generation"}}
    assert user.post("/openai/chat/completions", body).status_code == 429
    assert user.post("/openai/chat/completions", forged).status_code == 200
    event = user.events(2)[-1]
    assert (event["kind"], user.used()) == ("task", used)
    assert house.proxied.counter(f"task:{user.id}", "daily_used") == event["charge"]
