"""Several groups, groups within groups, no group, and admins: which limits hold for whom."""

import json

import pytest
from support.openwebui import House

pytestmark = pytest.mark.stack

CLOSED = {"daily": {"hard": 0}}
OPEN = {"daily": {"hard": 10**9}}


def test_the_lowest_priority_number_decides(house: House) -> None:
    strict, generous = house.group(CLOSED, priority=20), house.group(OPEN, priority=10)
    user = house.user(strict, generous)
    assert user.ask().status_code == 200
    assert user.events(1)[0]["deciding_group_id"] == generous
    house.limit(strict, CLOSED, priority=5)
    refused = user.ask()
    assert refused.status_code == 429
    assert refused.json()["error"]["budget"]["group"] == house.name_of(strict)


def test_a_group_without_member_limits_decides_nothing_but_its_pool_holds(house: House) -> None:
    pooled = house.group(pool={"daily": {"hard": 30}}, priority=1)
    own = house.group(OPEN, priority=50)
    user = house.user(pooled, own, house.group())
    user.spend(30)
    assert user.events(1)[0]["deciding_group_id"] == own
    budget = user.ask().json()["error"]["budget"]
    assert (budget["scope"], budget["group"]) == ("pool", house.name_of(pooled))


def test_a_member_of_a_child_is_held_by_its_parents_limits_and_pool(house: House) -> None:
    top = house.group(pool={"daily": {"hard": 10**9}}, priority=30)
    parent = house.group({"daily": {"hard": 30}}, parent=top, priority=20)
    child = house.group(parent=parent)
    user = house.user(child)
    used = user.spend(30)
    assert house.proxied.counter(f"pool:{top}", "daily_used") == used
    assert user.ask().json()["error"]["budget"]["group"] == house.name_of(parent)
    house.limit(child, OPEN, priority=10)
    assert user.ask().status_code == 200, "the child's own number is lower"


def test_members_of_a_parent_are_not_members_of_its_child(house: House) -> None:
    parent = house.group(OPEN)
    house.group(CLOSED, parent=parent, priority=1)
    assert house.user(parent).ask().status_code == 200


def test_a_tie_goes_to_the_larger_monthly_then_the_larger_daily_limit_and_is_reported(house: House) -> None:
    small = house.group({"daily": {"hard": 0}, "monthly": {"hard": 1_000}}, priority=7)
    large = house.group({"daily": {"hard": 10_000}, "monthly": {"hard": 1_000}}, priority=7)
    largest = house.group({"daily": {"hard": 5_000}, "monthly": {"hard": 2_000}}, priority=7)
    user, other = house.user(small, large), house.user(small, large, largest)
    assert user.ask().status_code == other.ask().status_code == 200
    assert user.events(1)[0]["deciding_group_id"] == large
    assert other.events(1)[0]["deciding_group_id"] == largest
    names = {house.name_of(group) for group in (small, large, largest)}

    notes = json.loads(house.budget("plan", "--json").stdout)["notes"]
    texts = " ".join(note["text"] for note in notes if note["kind"] == "tie")
    assert {name for name in names if name in texts} == names


def test_a_user_in_no_limited_group_is_recorded_and_not_limited(house: House) -> None:
    user = house.user(house.group())
    answer = user.ask(stream=True)
    assert answer.status_code == 200
    assert "x-budget-status" not in answer.headers
    (event,) = user.events(1)
    assert (event["deciding_group_id"], user.used()) == (None, event["charge"])


def test_admins_are_exempt_and_recorded(house: House) -> None:
    group = house.group(CLOSED, CLOSED)
    admin = house.user(group, role="admin")
    assert admin.ask().status_code == 200
    with admin.browser() as browser:
        assert browser.saved_chat().say().error is None
    events = admin.events(2)
    assert admin.used() == sum(event["charge"] for event in events) > 0
    assert house.proxied.counter(f"pool:{group}", "daily_used") == 0


def test_a_new_role_counts_from_the_very_next_request(house: House) -> None:
    user = house.user(house.group(CLOSED))
    assert user.ask().status_code == 429
    form = {"role": "admin", "name": user.name, "email": user.email, "profile_image_url": "/user.png"}
    house.admin.call("POST", f"/api/v1/users/{user.id}/update", form)
    assert user.ask().status_code == 200
    house.admin.call("POST", f"/api/v1/users/{user.id}/update", {**form, "role": "user"})
    assert user.ask().status_code == 429
