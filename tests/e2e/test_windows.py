"""Hourly, daily, weekly and monthly limits, soft and hard, of one member and of a whole group."""

import pytest
from support.openwebui import House, User
from support.proxied import eventually

pytestmark = pytest.mark.stack

LONGEST = {"hourly": 3_600, "daily": 86_400, "weekly": 7 * 86_400, "monthly": 31 * 86_400}


def status(user: User) -> str:
    """Where the user stands, as a stream's headers tell."""
    answer = user.ask("[[sim tokens=1]] hi", stream=True)
    known: str = answer.headers.get("x-budget-status", "none") if answer.status_code == 200 else "refused"
    return known


@pytest.mark.parametrize("window", LONGEST)
def test_a_members_limit_warns_refuses_and_ends_with_its_window(house: House, window: str) -> None:
    user = house.user(house.group({window: {"soft": 40, "hard": 150}}))
    assert status(user) == "ok"
    user.spend(40)
    assert status(user) == "soft"
    user.spend(100)
    before = user.used(window)
    refused = user.ask()
    assert refused.status_code == 429
    budget = refused.json()["error"]["budget"]
    assert (budget["window"], budget["scope"], budget["limit"]) == (window, "member", 150)
    left = int(refused.headers["retry-after"])
    assert 0 < left <= LONGEST[window]
    house.pass_time(left + 1)
    assert eventually(lambda: status(user), lambda each: each == "ok", seconds=10) == "ok"
    now = eventually(lambda: user.used(window), bool, seconds=5)
    assert 0 < now < before, "the new window counts from zero"


@pytest.mark.parametrize("window", ["hourly", "monthly"])
def test_a_pool_is_shared_by_all_members_and_ends_with_its_window(house: House, window: str) -> None:
    group = house.group(pool={window: {"soft": 60, "hard": 120}})
    first, second = house.user(group), house.user(group)
    first.spend(60)
    assert status(second) == "soft", "what one member used warns the other"
    second.spend(60)
    for user in (first, second):
        refused = user.ask()
        assert refused.status_code == 429
        budget = refused.json()["error"]["budget"]
        assert (budget["window"], budget["scope"], budget["limit"]) == (window, "pool", 120)
        assert "used by all its members" in refused.json()["error"]["message"]
    assert house.proxied.counter(f"pool:{group}", f"{window}_used") == first.used(window) + second.used(window)
    house.pass_time(int(refused.headers["retry-after"]) + 1)
    assert eventually(lambda: status(second), lambda each: each == "ok", seconds=10) == "ok"


def test_a_member_limit_and_a_pool_hold_at_once(house: House) -> None:
    group = house.group({"daily": {"hard": 150}, "monthly": {"hard": 10**6}}, {"daily": {"hard": 250}})
    heavy, other = house.user(group), house.user(group)
    heavy.spend(140)
    assert heavy.ask().json()["error"]["budget"]["scope"] == "member"
    assert status(other) == "ok", "a member at his own limit blocks nobody else"
    other.spend(80)
    refused = other.ask().json()["error"]["budget"]
    assert (refused["scope"], refused["limit"]) == ("pool", 250)
    house.limit(group, {"daily": {"hard": 150}}, {"daily": {"hard": 10**6}})
    assert other.ask().status_code == 200
    assert heavy.ask().json()["error"]["budget"]["scope"] == "member"


def test_several_windows_hold_at_once_and_all_are_shown(house: House) -> None:
    group = house.group({"hourly": {"hard": 100}, "daily": {"soft": 80, "hard": 10_000}, "monthly": {"soft": 5}})
    user = house.user(group)
    user.spend(50)
    answer = user.ask("[[sim tokens=50]] hi", stream=True)
    assert answer.headers["x-budget-status"] == "soft"
    assert [item.split(";")[0] for item in answer.headers["ratelimit"].split(", ")] == ['"hourly"', '"daily"']
    user.events(2)
    assert user.ask().json()["error"]["budget"]["window"] == "hourly"
    assert user.used("hourly") == user.used("daily") == user.used("weekly") == user.used("monthly")


def test_a_soft_limit_without_a_hard_one_warns_and_never_refuses(house: House) -> None:
    user = house.user(house.group({"daily": {"soft": 20}}))
    user.spend(30)
    answer = user.ask(stream=True)
    assert answer.status_code == 200
    assert answer.headers["x-budget-status"] == "soft"
    assert "ratelimit" not in answer.headers, "nothing will be refused, so no rate limit is claimed"
