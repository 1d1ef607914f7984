"""LiteLLM's own spend pages show each call under the group's team and the user."""

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from support.openwebui import House
from support.proxied import eventually

pytestmark = pytest.mark.stack

FLUSHED = 75.0
"""Seconds within which LiteLLM has written its records."""


def test_spend_shows_calls_by_team_and_by_user(house: House) -> None:
    group = house.group({"daily": {"hard": 10**9}})
    team = f"owui-{group}"
    user, other = house.user(group), house.user(group)
    for stream in (False, True):
        assert user.ask(door="sk-", stream=stream).status_code == 200
    with user.browser() as browser:
        browser.saved_chat().say(tasks=True)
    events = user.events(6)
    other.spend()
    tokens = sorted(event["prompt"] + event["completion"] for event in events)

    rows = eventually(lambda: house.spend_logs(user), lambda found: len(found) >= 6, FLUSHED)
    assert {(row["team_id"], row["end_user"]) for row in rows} == {(team, user.id)}
    assert sorted(row["total_tokens"] for row in rows) == tokens, "LiteLLM's tokens are ours"

    now = datetime.now(UTC)
    days = {"start_date": f"{now - timedelta(days=1):%Y-%m-%d}", "end_date": f"{now + timedelta(days=1):%Y-%m-%d}"}

    def shown(page: str, **query: str) -> dict[str, int]:
        answer = house.proxied.admin("GET", page, params={**days, **query})
        assert answer.status_code == 200, answer.text
        metrics: list[dict[str, Any]] = [day["metrics"] for day in answer.json()["results"]]
        return {name: sum(each[name] for each in metrics) for name in ("api_requests", "total_tokens")}

    mine = {"api_requests": 6, "total_tokens": sum(tokens)}
    theirs = {"api_requests": 7, "total_tokens": sum(tokens) + other.used()}
    by_user = eventually(lambda: shown("/customer/daily/activity", end_user_ids=user.id), mine.__eq__, FLUSHED)
    assert by_user == mine
    by_team = eventually(lambda: shown("/team/daily/activity", team_ids=team), theirs.__eq__, FLUSHED)
    assert by_team == theirs

    def logs(**query: str) -> int:
        span = {
            "start_date": f"{now - timedelta(days=1):%F} 00:00:00",
            "end_date": f"{now + timedelta(days=1):%F} 00:00:00",
        }
        answer = house.proxied.admin("GET", "/spend/logs/ui", params={**span, **query})
        return int(answer.json()["total"])

    assert logs(end_user=user.id) == 6
    assert eventually(lambda: logs(team_id=team), lambda total: total == 7, FLUSHED) == 7


def test_the_group_is_a_team_with_a_budget_and_the_user_its_customer(house: House) -> None:
    group = house.group({"daily": {"hard": 4_321}}, name=None)
    user = house.user(group)
    team = f"owui-{group}"

    def mirrored() -> dict[str, Any]:
        answer = house.proxied.admin("GET", "/team/info", params={"team_id": team})
        return dict(answer.json()["team_info"]) if answer.status_code == 200 else {}

    found = eventually(mirrored, lambda each: user.id in str(each.get("members_with_roles")), seconds=40)
    assert found["team_alias"] == house.name_of(group)
    assert user.id in str(found["members_with_roles"])
    assert found["metadata"]["owui_budget"]["group_id"] == group
    customer = eventually(
        lambda: house.proxied.admin("GET", "/customer/info", params={"end_user_id": user.id}).json(),
        lambda each: each.get("budget_id") == team,
        seconds=40,
    )
    assert customer["alias"] == user.name
    assert customer["litellm_budget_table"]["tpd_limit"] == 4_321
    assert customer["litellm_budget_table"]["max_budget"] is None, "no US dollars"
