"""Who is recorded for each door of Open WebUI, and that each is shut past the limit."""

import io
import wave
from uuid import uuid4

import pytest
from support.openwebui import Door, House, User
from support.proxied import eventually

pytestmark = pytest.mark.stack


def silence() -> bytes:
    sound = io.BytesIO()
    with wave.open(sound, "wb") as file:
        file.setnchannels(1)
        file.setsampwidth(2)
        file.setframerate(8_000)
        file.writeframes(bytes(16_000))
    return sound.getvalue()


HI = [{"role": "user", "content": "[[sim tokens=5]] hi"}]
SENT: dict[str, tuple[str, dict[str, object]]] = {
    "chat": ("/api/chat/completions", {"model": "sim-gpt", "messages": HI}),
    "anthropic": ("/api/v1/messages", {"model": "sim-claude", "max_tokens": 9, "messages": HI}),
    "responses": ("/openai/responses", {"model": "sim-gpt", "input": "hi"}),
    "embedding": ("/api/embeddings", {"model": "sim-embed", "input": "hi"}),
    "image": ("/api/v1/images/generations", {"prompt": "a cat"}),
    "task": ("/api/v1/tasks/title/completions", {"model": "sim-gpt", "messages": HI}),
    "merge": ("/api/v1/tasks/moa/completions", {"model": "sim-gpt", "prompt": "x", "responses": ["a", "b"]}),
}
"""Doors of Open WebUI that lead to LiteLLM, and what goes through."""


def enter(user: User, what: str, door: Door = "jwt") -> int:
    """Go through one of Open WebUI's doors; return the status."""
    match what:
        case "transcription":
            files = {"file": ("a.wav", silence(), "audio/wav")}
            return user.request("POST", "/api/v1/audio/transcriptions", door, files=files).status_code
        case "document":
            files = {"file": ("a.txt", str(uuid4()).encode(), "text/plain")}
            return user.request("POST", "/api/v1/files/", door, files=files).status_code
        case "speech":
            # Open WebUI keeps what was spoken: only new words reach LiteLLM.
            spoken = {"model": "sim-tts", "input": f"hello {uuid4()}", "voice": "alloy"}
            return user.post("/api/v1/audio/speech", spoken, door).status_code
        case _:
            path, body = SENT[what]
            return user.post(path, body, door).status_code


RECORDED = {
    # what: kind, route. Whether LiteLLM's /v1/messages or chat route is used is Open WebUI's choice.
    "chat": ("api", "chat"),
    "anthropic": ("api", "chat"),
    "responses": ("api", "responses"),
    "embedding": ("api", "embedding"),
    "image": ("api", "image_generation"),
    "transcription": ("api", "transcription"),
    "speech": ("api", "speech"),
    "document": ("api", "embedding"),
    "task": ("task", "chat"),
    "merge": ("task", "chat"),
}


def known_to_sync(house: House, user: User) -> None:
    """Some doors tell no groups; there the memberships count that sync has read."""
    known = eventually(
        lambda: house.proxied.store.user(user.id), lambda each: bool(each and each.group_ids), seconds=40
    )
    assert known
    assert known.group_ids


@pytest.mark.parametrize("door", ["jwt", "sk-"])
def test_every_door_is_recorded_as_the_user_who_came_through_it(house: House, door: Door) -> None:
    group = house.group({"daily": {"hard": 10**9}}, pool={"daily": {"hard": 10**9}})
    user = house.user(group)
    known_to_sync(house, user)
    seen: set[str] = set()
    for what, (kind, route) in RECORDED.items():
        enter(user, what, door)
        new = [event for event in user.events(len(seen) + 1) if event["reservation_id"] not in seen]
        assert [(event["caller"], event["kind"], event["route"]) for event in new] == [("openwebui", kind, route)], what
        assert (new[0]["deciding_group_id"], new[0]["service_id"]) == (group, None), what
        seen |= {event["reservation_id"] for event in new}


def test_past_the_limit_every_door_is_shut(house: House) -> None:
    user = house.user(house.group({"daily": {"hard": 0}}))
    known_to_sync(house, user)
    shut = {what: enter(user, what) for what in RECORDED if what not in ("task", "document")}
    assert {what for what, status in shut.items() if status < 400} == set()
    assert user.events(0) == []
    assert {what for what in ("chat", "anthropic", "responses", "embedding", "merge") if shut[what] != 429} == set()


def test_chats_in_the_browser_are_the_users(house: House) -> None:
    user = house.user()
    with user.browser() as browser:
        browser.saved_chat().say()
        browser.temporary_chat().say()
    assert [(each["caller"], each["kind"]) for each in user.events(2)] == [
        ("openwebui", "chat"),
        ("openwebui", "temporary_chat"),
    ]


def test_nothing_a_client_sends_makes_it_somebody_else(house: House) -> None:
    victim, user = house.user(), house.user(house.group({"daily": {"hard": 20}}))
    user.spend(30)
    forged = {
        "X-OpenWebUI-User-Id": victim.id,
        "X-OpenWebUI-User-Jwt": house.proxied.sign(victim.id),
        "X-OpenWebUI-Group-Ids": "",
        "X-OpenWebUI-Task": "title_generation",
        "x-litellm-end-user-id": victim.id,
    }
    body = {
        "model": "sim-gpt",
        "messages": [{"role": "user", "content": "hi"}],
        "user": victim.id,
        "metadata": {"user_id": victim.id},
    }
    for path in ("/api/chat/completions", "/openai/chat/completions"):
        assert user.post(path, body, headers=forged).status_code == 429
    assert victim.events(0) == []
