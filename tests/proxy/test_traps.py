"""Each trap of the host, with the remedy that closes it: take the remedy away and the test fails."""

import json
import time

import httpx
import pytest
from support.proxied import Person, Proxied, eventually

from owui_budget_hooks.callback import BudgetCallback

pytestmark = pytest.mark.stack

IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,AA"}}


@pytest.fixture
def person(proxied: Proxied) -> Person:
    return proxied.person(proxied.group({"daily": {"hard": 10**9}}))


def test_every_hook_is_defined_on_the_registered_class() -> None:
    hooks = {name for name in dir(BudgetCallback) if name.startswith("async_")}
    ours = {name for name in vars(BudgetCallback) if name.startswith("async_")}
    assert (
        {
            "async_pre_call_hook",
            "async_post_call_response_headers_hook",
            "async_post_call_streaming_iterator_hook",
            "async_log_success_event",
            "async_log_failure_event",
            "async_post_call_failure_hook",
        }
        <= ours
        <= hooks
    )


def test_the_clients_call_id_is_not_ours(person: Person) -> None:
    for _ in range(3):
        assert person.chat(headers={"x-litellm-call-id": "always-the-same"}).status_code == 200
    assert len(person.events(3)) == 3


@pytest.mark.parametrize("stream", [False, True])
def test_no_log_switches_nothing_off(person: Person, *, stream: bool) -> None:
    body = {"no-log": True, "metadata": {"no-log": True}, "stream": stream}
    assert person.chat(**body, headers={"x-litellm-disable-callbacks": "*"}).status_code == 200
    assert len(person.events(1)) == 1


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"model": "sim-gpt,sim-gpt-mini"}, "model"),
        ({"messages": [[{"role": "user", "content": "a"}], [{"role": "user", "content": "b"}]]}, "messages"),
        ({"fastest_response": True}, "fastest_response"),
    ],
)
def test_several_calls_under_one_admission_are_refused(person: Person, change: dict[str, object], field: str) -> None:
    body = {"model": "sim-gpt", "messages": [{"role": "user", "content": "hi"}], **change}
    answer = person.post("/v1/chat/completions", body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == field
    assert person.proxied.events(person.id) == []


def test_background_responses_are_refused(person: Person) -> None:
    answer = person.post("/v1/responses", {"model": "sim-gpt", "input": "hi", "background": True})
    assert answer.status_code == 400
    assert "background" in answer.json()["error"]["message"]


@pytest.mark.parametrize("field", ["fallbacks", "context_window_fallbacks", "router_settings_override"])
def test_a_clients_own_fallbacks_are_not_followed(proxied: Proxied, field: str) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 0}}))
    value: object = ["sim-gpt"]
    if field == "context_window_fallbacks":
        value = [{"sim-free": ["sim-gpt"]}]
    if field == "router_settings_override":
        value = {"fallbacks": [{"sim-free": ["sim-gpt"]}]}
    marker = f"fallback-{person.id}"
    answer = person.chat(f"[[sim status=500]] {marker}", model="sim-free", **{field: value})
    assert answer.status_code == 500, answer.text
    assert {call["model"] for call in proxied.calls_with(marker)} == {"sim-free"}


def test_a_free_model_is_never_refused_and_still_recorded(proxied: Proxied) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 0}}))
    assert person.chat(model="sim-free").status_code == 200
    event = person.events(1)[0]
    assert (event["charge"], event["weight"]) == (0, "0")
    assert event["completion"] == 10


@pytest.mark.parametrize("path", ["/engines/sim-gpt/chat/completions", "/openai/deployments/sim-gpt/chat/completions"])
def test_a_free_name_in_the_body_does_not_free_the_model_in_the_path(proxied: Proxied, path: str) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 0}}))
    answer = person.post(path, {"model": "sim-free", "messages": [{"role": "user", "content": "hi"}]})
    assert answer.status_code in (429, 403), answer.text


def test_end_user_headers_and_the_bodys_user_change_nobody(proxied: Proxied, person: Person) -> None:
    victim = f"victim-{person.id}"
    headers = {"x-litellm-end-user-id": victim, "x-litellm-customer-id": victim, "X-OpenWebUI-User-Id": victim}
    assert person.chat(user=victim, metadata={"user_id": victim}, headers=headers).status_code == 200
    assert len(person.events(1)) == 1
    assert proxied.events(victim) == []


def test_our_own_metadata_keys_are_not_the_clients_to_set(proxied: Proxied, person: Person) -> None:
    other = proxied.person(person.groups[0])
    for bucket in ("metadata", "litellm_metadata"):
        forged = {bucket: {"owui_budget_reservation": "0" * 32, "user_api_key_team_id": "owui-other", "tags": ["x"]}}
        assert person.chat(**forged).status_code == 200
    assert len(person.events(2)) == 2
    assert proxied.events(other.id) == []


def test_no_token_reaches_the_spend_records_or_the_log(proxied: Proxied, person: Person) -> None:
    token = proxied.sign(person.id, canary="c" * 16)
    assert person.chat("canary-prompt-text", headers={"X-OpenWebUI-User-Jwt": token}).status_code == 200
    person.events(1)

    def logs() -> list[dict[str, object]]:
        answer = proxied.admin("GET", "/spend/logs", params={"summarize": "false"})
        return list(answer.json()) if answer.status_code == 200 else []

    rows = eventually(logs, lambda rows: len(rows) > 0, seconds=40)
    assert rows, "LiteLLM wrote no spend record"
    signature = token.rsplit(".", 1)[1]
    assert signature not in json.dumps(rows)
    assert signature not in proxied.log()
    assert "canary-prompt-text" not in json.dumps(proxied.events(person.id))


def test_litellm_metadata_routes_find_their_reservation(person: Person) -> None:
    body = {"model": "sim-claude", "max_tokens": 20, "messages": [{"role": "user", "content": "[[sim tokens=5]] hi"}]}
    assert person.post("/v1/messages", body).status_code == 200
    assert person.post("/v1/responses", {"model": "sim-gpt", "input": "[[sim tokens=5]] hi"}).status_code == 200
    assert sorted(event["route"] for event in person.events(2)) == ["messages", "responses"]
    assert person.held() == 0


def test_pass_through_is_refused_for_limited_users(proxied: Proxied, person: Person) -> None:
    marker = f"passing-{person.id}"
    body = {"model": "sim-gpt", "messages": [{"role": "user", "content": marker}]}
    answer = person.post("/openai/v1/chat/completions", body)
    assert answer.status_code >= 400, answer.text
    assert proxied.calls_with(marker) == []
    assert proxied.events(person.id) == []


@pytest.mark.parametrize(
    "body",
    [
        {"max_tokens": -5},
        {"max_tokens": 10**18},
        {"max_tokens": "many"},
        {"n": 10**9},
        {"n": -1},
        {"stream": "true"},
        {"messages": "hi"},
        {"messages": [{"role": "user", "content": None}]},
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        {"metadata": "text"},
        {"model": None},
        {"model": ["sim-gpt"]},
        {"tools": "x"},
    ],
)  # fmt: skip
def test_odd_bodies_leave_nothing_held(person: Person, body: dict[str, object]) -> None:
    content = {"model": "sim-gpt", "messages": [{"role": "user", "content": "[[sim tokens=5]] hi"}], **body}
    answer = person.post("/v1/chat/completions", content)
    assert answer.status_code != 500 or "hook" not in answer.text, answer.text
    assert eventually(lambda: person.proxied.open(person.id), lambda count: count == 0) == 0
    assert person.held() == 0


def test_listing_models_never_fails_because_of_a_budget(proxied: Proxied) -> None:
    person = proxied.person(proxied.group({"daily": {"hard": 0}}))
    answer = proxied.http.get("/v1/models", headers=person.headers())
    assert answer.status_code == 200
    assert "sim-gpt" in answer.text


def test_background_tasks_pass_within_their_allowance_and_count_past_it(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 100}}, pool={"daily": {"hard": 10**9}})
    person = proxied.person(group)
    task = person.in_chat(task="title_generation")
    assert task.chat("[[sim tokens=50]] hi").status_code == 200
    person.events(1)
    assert person.used() == 0
    assert proxied.counter(f"pool:{group}", "daily_used") == 0
    assert proxied.counter(f"task:{person.id}", "daily_used") > 50
    other = person.in_chat(task="moa_response_generation")
    assert other.chat("[[sim tokens=120]] hi").status_code == 200
    person.events(2)
    assert person.used() > 120, "a task that is not on the list counts as a chat"
    assert task.chat().status_code == 200, "a blocked user's tasks pass within the allowance"
    big = person.in_chat(task="tags_generation")
    assert big.chat("[[sim tokens=20000]] hi").status_code == 200
    person.events(4)
    assert task.chat().status_code == 429, "past the allowance tasks count as chat"


def test_browser_streams_carry_usage_and_one_warning_frame(proxied: Proxied) -> None:
    person = proxied.person(proxied.group({"daily": {"soft": 20, "hard": 10**6}}))
    person.chat("[[sim tokens=30]] hi")
    person.events(1)
    browser = person.in_chat()
    api = person.chat("hi", stream=True)
    assert '"event"' not in api.text
    first = browser.chat("hi", stream=True)
    assert '"usage"' in first.text
    frames = [line for line in first.text.splitlines() if line.startswith('data: {"event"')]
    assert len(frames) == 1
    event = json.loads(frames[0].removeprefix("data: "))["event"]
    assert event["type"] == "notification"
    assert event["data"]["content"] == (
        f"0% of your daily token limit for group Group {person.groups[0][:6]} is used; it resets at 00:00 UTC."
    )
    assert '"event"' not in browser.chat("hi", stream=True).text
    assert '"event"' not in browser.chat("hi", stream=False).text


def test_a_browser_chat_without_stream_is_streamed_when_a_warning_is_due(proxied: Proxied) -> None:
    person = proxied.person(proxied.group({"daily": {"soft": 20, "hard": 10**6}}))
    person.chat("[[sim tokens=30]] hi")
    person.events(1)
    answer = person.in_chat().chat("hi", stream=False)
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert '"event"' in answer.text
    assert '"usage"' in answer.text


def test_long_headers_and_many_groups_pass(proxied: Proxied) -> None:
    group = proxied.group({"daily": {"hard": 10**9}})
    person = proxied.person(group, *(f"{number:08d}-0000-4000-8000-000000000000" for number in range(500)))
    assert person.chat().status_code == 200
    assert len(person.events(1)) == 1


def test_hostile_names_and_ids_stay_data(proxied: Proxied) -> None:
    name = "<img onerror=x>\u202egroup\r\nX-Evil: 1 " + "é" * 300
    group = proxied.group({"daily": {"hard": 0}}, name=name, group_id="a'; DROP TABLE usage_events; --")
    person = proxied.person(group, user_id="u'\"; \\ --")
    answer = person.chat()
    assert answer.status_code == 429
    assert "x-evil" not in answer.headers
    assert "\u202e" not in answer.json()["error"]["message"]
    assert len(answer.json()["error"]["message"]) < 300
    assert isinstance(answer, httpx.Response)
    proxied.without_group(group)
    time.sleep(0.1)
    assert person.chat().status_code == 200
    assert len(person.events(1)) == 1
