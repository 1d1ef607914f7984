"""What is written is what is read back: the second plan is empty, strangers stay as they are, everything converges."""

from dataclasses import replace
from typing import Any

import pytest
from support.mirrors import Proxy

from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.errors import TargetRefusedError, TargetUnavailableError
from owui_budget_sync.changes import Added, Change, identifier
from owui_budget_sync.litellm.objects import (
    MARK,
    NO_GROUP,
    ROUTES,
    Budget,
    ConnectionKey,
    Customer,
    MirrorState,
    Team,
    object_id,
)
from owui_budget_sync.mirror_job import connection_keys
from owui_budget_sync.planner import mirror_changes

DAILY = UsageLimits(20, {Window.DAILY: Bounds(80, 100)}, {Window.MONTHLY: Bounds(None, 10**15 - 1)})


def world(proxy: Proxy) -> MirrorState:
    group, (token,) = proxy.id("g1"), connection_keys((proxy.key,))
    people = [proxy.id("u1"), proxy.id("u2")]
    return MirrorState(
        {group: Team(group, "Students | “Größe”", DAILY, frozenset(people))},
        {group: Budget(group, "1d", 100)},
        {user: Customer(user, f"Name of {user}", group) for user in people},
        {token: ConnectionKey(token)},
    )


async def differences(proxy: Proxy, desired: MirrorState, *, prune: bool = False) -> list[Change]:
    """The plan, without what other tests on the same proxy left there."""
    current = await proxy.mirror.read(desired)
    return [
        change
        for change in mirror_changes(current, desired, prune=prune)
        if proxy.mark in identifier(change) or identifier(change) == NO_GROUP or "connection" in identifier(change)
    ]


async def settle(proxy: Proxy, desired: MirrorState, *, prune: bool = False) -> list[Change]:
    """Apply the plan and check that the second one is empty."""
    changes = await differences(proxy, desired, prune=prune)
    for change in changes:
        assert await proxy.writer.apply(change) is None
    assert await differences(proxy, desired, prune=prune) == []
    return changes


async def test_the_second_plan_is_empty(proxy: Proxy) -> None:
    assert len(await settle(proxy, world(proxy))) == 5
    assert await settle(proxy, world(proxy)) == []


@pytest.mark.parametrize(
    "limits",
    [
        UsageLimits(3, {Window.MONTHLY: Bounds(5, None)}),
        UsageLimits(20, {Window.DAILY: Bounds(80, 100)}),
        UsageLimits(20, {}, {Window.HOURLY: Bounds(0, 0)}),
        UsageLimits(20, {Window.DAILY: Bounds(None, 100)}, DAILY.pool),
    ],
)
async def test_every_edit_of_limits_reaches_the_team_whole(proxy: Proxy, limits: UsageLimits) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,) = desired.teams
    edited = replace(desired, teams={group: replace(desired.teams[group], limits=limits)})
    assert len(await settle(proxy, edited)) == 1
    team = (await proxy.mirror.read(edited)).teams[group]
    assert team.limits == limits


async def test_other_metadata_of_a_team_survives(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,) = desired.teams
    team_id = object_id(group)
    await proxy.admin.patch(f"/team/{team_id}", {"metadata": {"cost_center": "1234"}})
    assert await differences(proxy, desired) == []
    await settle(proxy, replace(desired, teams={group: replace(desired.teams[group], alias="Pupils")}))
    assert (await _team(proxy, team_id))["metadata"]["cost_center"] == "1234"


async def test_an_edit_by_hand_is_put_back(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,) = desired.teams
    body = {"team_alias": "Mine", "metadata": {MARK: {"limits": {"priority": 1}}}}
    await proxy.admin.patch(f"/team/{object_id(group)}", body)
    assert len(await settle(proxy, desired)) == 1


async def test_members_come_and_go(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,) = desired.teams
    members = frozenset({proxy.id("u2"), *(proxy.id(f"n{n}") for n in range(3))})
    await settle(proxy, replace(desired, teams={group: replace(desired.teams[group], members=members)}))
    await settle(proxy, replace(desired, teams={group: replace(desired.teams[group], members=frozenset())}))


async def test_budgets_and_customers_follow(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,), other, user = desired.teams, proxy.id("g2"), proxy.id("u1")
    moved = replace(
        desired,
        budgets={group: Budget(group, "1mo", None), other: Budget(other, "1d", 0)},
        customers={**desired.customers, user: Customer(user, "New name", other)},
    )
    assert len(await settle(proxy, moved)) == 3


async def test_what_loses_its_group_is_retired_and_comes_back(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (group,) = desired.teams
    nothing = MirrorState(keys=desired.keys)
    await settle(proxy, nothing)
    state = await proxy.mirror.read(desired)
    assert state.teams[group].limits is None
    assert state.teams[group].members == desired.teams[group].members
    assert state.budgets[group] == Budget(group)
    assert {customer.group_id for user, customer in state.customers.items() if user in desired.customers} == {NO_GROUP}
    await settle(proxy, desired)


async def test_prune_deletes_what_nothing_stands_behind(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    nothing = MirrorState(keys=desired.keys)
    for change in await differences(proxy, nothing, prune=True):
        await proxy.writer.apply(change)
        await proxy.writer.apply(change)  # repeated after an answer that was lost
    state = await proxy.mirror.read(desired)
    (group,) = desired.teams
    assert group not in state.teams
    assert group not in state.budgets
    assert not state.customers.keys() & desired.customers.keys()


async def test_strangers_are_reported_and_left_alone(proxy: Proxy) -> None:
    desired = world(proxy)
    (group,), user, (token,) = desired.teams, proxy.id("u1"), desired.keys
    await proxy.admin.post("/team/new", {"team_id": object_id(group), "team_alias": "By hand"})
    budget = {"budget_id": proxy.id("money"), "max_budget": 5}
    await proxy.admin.post("/budget/new", budget)
    await proxy.admin.post("/customer/new", {"user_id": user, "budget_id": budget["budget_id"]})
    await proxy.admin.post("/key/generate", {"key": proxy.key.get_secret_value(), "key_alias": proxy.id("by hand")})
    current = await proxy.mirror.read(desired)
    assert current.foreign.keys() == {("team", group), ("customer", user), ("key", token)}
    await settle(proxy, desired)
    assert (await _team(proxy, object_id(group)))["team_alias"] == "By hand"
    customer = await proxy.admin.get("/customer/info", {"end_user_id": user})
    assert customer["budget_id"] == budget["budget_id"]
    assert (await proxy.admin.get("/key/info", {"key": token}))["info"]["key_alias"] == proxy.id("by hand")


async def test_the_bare_customer_that_litellm_makes_for_spend_becomes_ours(proxy: Proxy) -> None:
    desired = world(proxy)
    user = proxy.id("u1")
    await proxy.admin.post("/customer/new", {"user_id": user})
    assert (await proxy.mirror.read(desired)).foreign == {}
    await settle(proxy, desired)
    assert (await proxy.mirror.read(desired)).customers[user] == desired.customers[user]


async def test_a_stranger_that_was_faster_is_not_touched(proxy: Proxy) -> None:
    desired = world(proxy)
    (group,), user = desired.teams, proxy.id("u1")
    await proxy.writer.apply(Added(desired.budgets[group]))
    await proxy.admin.post("/customer/new", {"user_id": user, "alias": "Somebody else's"})
    stranger = await proxy.writer.apply(Added(desired.customers[user]))
    assert stranger is not None
    assert (stranger.kind, stranger.id) == ("customer", user)


async def test_the_connection_key_may_call_models_and_nothing_administrative(proxy: Proxy) -> None:
    desired = world(proxy)
    await settle(proxy, desired)
    (token,) = desired.keys
    info = (await proxy.admin.get("/key/info", {"key": token}))["info"]
    assert tuple(info["allowed_routes"]) == ROUTES
    assert info["key_alias"] == f"owui-connection-{token[:8]}"
    fewer = {"key": token, "allowed_routes": ["/v1/models"]}
    await proxy.admin.post("/key/update", fewer)
    assert len(await settle(proxy, desired)) == 1


async def test_a_change_may_be_repeated(proxy: Proxy) -> None:
    """A request whose answer was lost is planned again: what is there already must count as done."""
    desired = world(proxy)
    changes = await settle(proxy, desired)
    for change in changes:
        await proxy.writer.apply(change)
    assert await differences(proxy, desired) == []


async def test_a_wrong_master_key_is_named(proxy: Proxy) -> None:
    proxy.admin._http.headers["authorization"] = "Bearer sk-wrong"
    with pytest.raises(TargetRefusedError, match="OWUI_BUDGET_LITELLM_MASTER_KEY") as failure:
        await proxy.admin.get("/v2/team/list", {"search": "owui-", "page": 1, "page_size": 100})
    assert "sk-wrong" not in str(failure.value)
    assert not isinstance(failure.value, TargetUnavailableError)


async def _team(proxy: Proxy, team_id: str) -> dict[str, Any]:
    params: dict[str, str | int] = {"search": team_id, "page": 1, "page_size": 100}
    found = await proxy.admin.get("/v2/team/list", params)
    return next(each for each in found["teams"] if each["team_id"] == team_id)
