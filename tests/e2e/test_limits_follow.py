"""Limits that an admin writes to a group hold within seconds, without restarting anything."""

import json
import time
from collections.abc import Iterator

import pytest
from support.openwebui import IN_FORCE, House, User, usage_limits
from support.proxied import eventually

pytestmark = pytest.mark.stack


@pytest.fixture
def untouched_processes(house: House) -> Iterator[None]:
    """Everything that runs before the test runs after it."""
    names = ("litellm", "openwebui", "sync")
    before = {name: house.stack.pid(name) for name in names}
    yield
    assert {name: house.stack.pid(name) for name in names} == before


def seconds_until(user: User, status: int) -> float:
    """How long it takes until the user's next chat gets `status`, looking for some time longer than it may take."""
    start = time.monotonic()
    answer = eventually(lambda: user.ask("[[sim tokens=1]] hi"), lambda each: each.status_code == status, seconds=25)
    assert answer.status_code == status, answer.text
    return time.monotonic() - start


@pytest.mark.usefixtures("untouched_processes")
def test_set_changed_raised_and_removed_limits_hold_for_the_next_chats(house: House) -> None:
    group = house.group()
    user = house.user(group)
    user.spend(30)
    house.write_limits(group, usage_limits({"daily": {"hard": 20}}, None))
    assert seconds_until(user, 429) < IN_FORCE, "a limit set in mid-window sees what was used before"
    house.write_limits(group, usage_limits({"daily": {"hard": 100_000}}, None))
    assert seconds_until(user, 200) < IN_FORCE
    house.write_limits(group, usage_limits({"monthly": {"hard": 20}}, None))
    assert seconds_until(user, 429) < IN_FORCE
    assert user.ask().json()["error"]["budget"]["window"] == "monthly"
    house.write_limits(group, usage_limits(None, {"weekly": {"hard": 20}}))
    eventually(user.ask, lambda answer: "Weekly pool" in answer.text, seconds=IN_FORCE)
    assert user.ask().json()["error"]["budget"]["scope"] == "pool"
    house.write_limits(group, None)
    assert seconds_until(user, 200) < IN_FORCE


def test_membership_counts_from_the_very_next_request(house: House) -> None:
    closed = house.group({"daily": {"hard": 0}})
    user = house.user()
    assert user.ask().status_code == 200
    house.join(closed, user)
    assert user.ask().status_code == 429
    house.leave(closed, user)
    assert user.ask().status_code == 200


def test_membership_of_a_child_group_counts_from_the_very_next_request(house: House) -> None:
    closed = house.group({"daily": {"hard": 0}})
    child = house.group(parent=closed)
    user = house.user()
    house.join(child, user)
    assert user.ask().status_code == 429
    house.leave(child, user)
    assert user.ask().status_code == 200


@pytest.mark.usefixtures("untouched_processes")
def test_a_deleted_group_binds_nobody(house: House) -> None:
    group = house.group({"daily": {"hard": 0}})
    user = house.user(group)
    assert user.ask().status_code == 429
    house.admin.call("DELETE", f"/api/v1/groups/id/{group}/delete")
    assert user.ask().status_code == 200
    gone = eventually(lambda: group in house.proxied.store.groups(), lambda known: not known, seconds=IN_FORCE)
    assert not gone


@pytest.mark.usefixtures("untouched_processes")
def test_bad_limits_are_reported_by_name_and_reason_and_stop_nothing_else(house: House) -> None:
    bad, other, never = house.group({"daily": {"hard": 25}}), house.group(), house.group()
    user = house.user(bad)
    user.spend(30)
    reason = "member.daily.soft (50) is above member.daily.hard (20)"
    house.write_limits(bad, usage_limits({"daily": {"soft": 50, "hard": 20}}, None))
    house.write_limits(never, {"version": 1, "priority": 1, "member": {"dayly": {"hard": 20}}})
    house.limit(other, {"daily": {"hard": 0}})
    assert house.user(other).ask().status_code == 429, "another group's limits still sync"

    eventually(lambda: [house.proxied.problems_of_group(group) for group in (bad, never)], all, seconds=IN_FORCE)
    status = house.budget("status", "--json")
    assert status.returncode == 2, status.stderr
    found = {each["id"]: each for each in json.loads(status.stdout)["groups_with_problems"]}
    assert found[bad] == {"id": bad, "name": house.name_of(bad), "problem": reason, "limited": True}
    assert "dayly" in str(found[never]["problem"])
    assert not found[never]["limited"]

    refused = user.ask()
    assert refused.status_code == 429, "the last valid limits stay in force"
    assert refused.json()["error"]["budget"]["limit"] == 25
    assert house.user(never).ask().status_code == 200, "a group that never had valid limits carries none"

    plan = json.loads(house.budget("plan", "--json").stdout)
    notes = {note["subject"]: note["text"] for note in plan["notes"] if note["kind"] == "limits"}
    assert reason in notes[house.name_of(bad)]
    assert "dayly" in notes[house.name_of(never)]

    house.limit(bad, {"daily": {"hard": 10**9}})
    assert user.ask().status_code == 200, "mended limits hold again"
    house.limit(never, {"daily": {"hard": 10**9}})


def test_a_second_plan_is_empty(house: House) -> None:
    house.user(house.group({"daily": {"hard": 1_000}}))

    def changes() -> list[object]:
        answer = house.budget("plan", "--json")
        found: list[object] = json.loads(answer.stdout)["changes"]
        assert answer.returncode == (2 if found else 0)
        return found

    assert eventually(changes, lambda found: not found, seconds=20) == []
