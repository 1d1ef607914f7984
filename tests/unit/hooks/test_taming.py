import copy
from types import SimpleNamespace
from typing import Any

import pytest
from kit import request, token

from owui_budget_hooks.answers import BudgetAnswer
from owui_budget_hooks.taming import REMOVED, REMOVED_FROM_EXTRA_BODY, refuse_multiples, tame

MCP = {"type": "mcp", "server_url": "litellm_proxy", "server_label": "t", "require_approval": "never"}


@pytest.mark.parametrize("name", REMOVED)
def test_fields_that_escape_the_count_are_removed(name: str) -> None:
    data = request(**{name: ["paid"]}, temperature=0.5)

    tame(data)

    assert name not in data
    assert data["temperature"] == 0.5
    assert data["model"] == "gpt-5"


@pytest.mark.parametrize("name", REMOVED_FROM_EXTRA_BODY)
def test_extra_body_cannot_say_what_the_body_cannot(name: str) -> None:
    data = request(extra_body={name: "x", "top_k": 3})

    tame(data)

    assert data["extra_body"] == {"top_k": 3}


def test_a_clients_own_router_settings_are_removed_and_a_teams_stay() -> None:
    override = {"fallbacks": [{"free": ["paid"]}]}
    clients, teams = request(router_settings_override=override), request()
    teams["router_settings_override"] = override

    tame(clients)
    tame(teams)

    assert "router_settings_override" not in clients
    assert teams["router_settings_override"] == override


@pytest.mark.parametrize("odd", [None, "x", ["model"], 7])
def test_odd_values_are_no_error(odd: object) -> None:
    data = {"extra_body": odd, "proxy_server_request": odd, "metadata": odd, "secret_fields": odd, "headers": odd}

    tame(data)

    assert data["extra_body"] == odd


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"model": "a,b"}, "model"),
    ({"model": ["a", "b"]}, "model"),
    ({"model": ["a"]}, "model"),
    ({"messages": [[{"role": "user", "content": "1"}], [{"role": "user", "content": "2"}]]}, "messages"),
    ({"messages": [{"role": "user", "content": "1"}, []]}, "messages"),
    ({"fastest_response": True}, "fastest_response"),
    ({"background": True}, "background"),
    ({"background": "true"}, "background"),
    ({"tools": [MCP]}, "tools"),
    ({"tools": [{"type": "function"}, {**MCP, "server_url": "litellm_proxy/mcp/github"}]}, "tools"),
    ({"tools": [{**MCP, "server_url": "http://localhost:4000/mcp/github"}]}, "tools"),
]


@pytest.mark.parametrize(("body", "field"), REFUSED)
def test_what_makes_several_calls_of_one_is_refused(body: dict[str, Any], field: str) -> None:
    with pytest.raises(BudgetAnswer) as refusal:
        refuse_multiples(request(**body))

    assert refusal.value.code == "400"
    assert refusal.value.to_dict()["param"] == field
    assert field in refusal.value.message or field == "tools"


PASSING: list[dict[str, Any]] = [
    {},
    {"model": None},
    {"messages": None},
    {"messages": "text"},
    {"fastest_response": False},
    {"background": False},
    {"tools": [{**MCP, "require_approval": "always"}]},
    {"tools": [{key: value for key, value in MCP.items() if key != "require_approval"}]},
    {"tools": [{**MCP, "server_url": "https://mcp.example.org/sse"}]},
    {"tools": [None, "x", {"type": ["mcp"]}]},
    {"tools": {"type": "mcp"}},
    {"n": 3},
]


@pytest.mark.parametrize("body", PASSING)
def test_single_calls_pass(body: dict[str, Any]) -> None:
    data = request(**body)
    before = copy.deepcopy(data)

    refuse_multiples(data)

    assert data == before


def holds(value: object, secret: str) -> bool:
    if isinstance(value, SimpleNamespace):
        value = vars(value)
    if isinstance(value, dict):
        return any(holds(each, secret) for pair in value.items() for each in pair)
    if isinstance(value, (list, tuple)):
        return any(holds(each, secret) for each in value)
    return isinstance(value, str) and secret in value


@pytest.mark.parametrize("litellm_metadata", [False, True])
@pytest.mark.parametrize("name", ["x-openwebui-user-jwt", "X-OpenWebUI-User-Jwt"])
def test_the_users_token_reaches_no_log_and_no_provider(name: str, *, litellm_metadata: bool) -> None:
    secret = token()
    data = request({name: secret, "x-openwebui-task": ""}, litellm_metadata=litellm_metadata)
    data["headers"] = {name: secret}  # forward_client_headers_to_llm_api
    data["secret_fields"] = SimpleNamespace(raw_headers={name: secret, "authorization": "Bearer sk-x"})

    tame(data)

    assert not holds(data, secret)
    assert data["proxy_server_request"]["headers"]["x-openwebui-task"] == ""
    assert data["secret_fields"].raw_headers == {"authorization": "Bearer sk-x"}
