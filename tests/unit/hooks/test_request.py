from typing import Any

import pytest
from kit import request, webui

from owui_budget.domain.identity import Kind
from owui_budget_hooks.request import Connection, headers_of, metadata_of, path_of
from owui_budget_hooks.routes import ROUTES

CHAT = ROUTES["acompletion"]


@pytest.mark.parametrize("litellm_metadata", [False, True])
def test_headers_are_read_from_the_request(*, litellm_metadata: bool) -> None:
    data = request({"x-openwebui-task": "title_generation"}, litellm_metadata=litellm_metadata)

    assert headers_of(data)["x-openwebui-task"] == "title_generation"
    data["proxy_server_request"] = None
    assert headers_of(data)["x-openwebui-task"] == "title_generation"


@pytest.mark.parametrize(
    "data", [{}, {"metadata": "x"}, {"proxy_server_request": {"headers": ["x"]}}, {"metadata": None}]
)
def test_a_request_without_headers_has_none(data: dict[str, Any]) -> None:
    assert headers_of(data) == {}
    assert path_of(data) == ""


def test_litellms_own_metadata_is_told_from_the_clients() -> None:
    data = request(litellm_metadata=True, metadata={"headers": {"x-openwebui-user-id": "victim"}, "mine": 1})

    assert "user_api_key_hash" in metadata_of(data)
    assert "mine" not in metadata_of(data)


KINDS = [
    ({"chat_id": "9f0c", "message_id": "m"}, Kind.CHAT),
    ({"chat_id": "temporary:Xy1", "message_id": "m"}, Kind.TEMPORARY_CHAT),
    ({"chat_id": "local:Xy1", "message_id": "m"}, Kind.TEMPORARY_CHAT),
    ({}, Kind.API),
    ({"chat_id": "  "}, Kind.API),
    ({"chat_id": "9f0c", "task": "title_generation"}, Kind.TASK),
    ({"task": "anything"}, Kind.TASK),
    ({"chat_id": "temporary:Xy1", "task": " "}, Kind.TEMPORARY_CHAT),
]


@pytest.mark.parametrize(("headers", "kind"), KINDS)
def test_kinds_of_calls(headers: dict[str, str], kind: Kind) -> None:
    assert Connection.read(webui(**headers)).kind is kind


def test_an_absent_header_differs_from_an_empty_one() -> None:
    assert Connection.read({}).group_ids is None
    assert Connection.read({"x-openwebui-group-ids": ""}).group_ids == frozenset()


BROWSER = [
    ({"chat_id": "c", "message_id": "m"}, "acompletion", "/v1/chat/completions", True),
    ({"chat_id": "c", "message_id": "m"}, "acompletion", "/chat/completions?x=1", True),
    ({"chat_id": "c", "message_id": "m", "task": "title_generation"}, "acompletion", "/v1/chat/completions", False),
    ({"chat_id": "c"}, "acompletion", "/v1/chat/completions", False),
    ({"message_id": " "}, "acompletion", "/v1/chat/completions", False),
    ({"message_id": "m"}, "anthropic_messages", "/v1/messages", False),
    ({"message_id": "m"}, "acompletion", "/v1/messages", False),
    ({"message_id": "m"}, "aresponses", "/v1/responses", False),
    ({"message_id": "m"}, "aembedding", "/v1/embeddings", False),
]


@pytest.mark.parametrize(("headers", "call_type", "path", "browser"), BROWSER)
def test_who_looks_at_the_answer(headers: dict[str, str], call_type: str, path: str, *, browser: bool) -> None:
    connection = Connection.read(webui(**headers))

    assert connection.is_browser_chat(ROUTES[call_type], path_of(request(path=path))) is browser
