"""The mirroring in the background: small when nothing is new, resumed when killed, never in the way of the policy."""

from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from functools import partial

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine
from support.fake_litellm import MASTER_KEY, FakeLitellm

from owui_budget.clock import ManualClock
from owui_budget.config import SyncSettings
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.errors import TargetRefusedError, TargetUnavailableError
from owui_budget.limits_file import Limits
from owui_budget.policy_store import (
    ChangeMembers,
    Fence,
    PolicyChange,
    PutGroup,
    PutUser,
    RemoveGroup,
    SqlPolicyStore,
    StoredGroup,
    StoredUser,
)
from owui_budget_sync.health import Health
from owui_budget_sync.leader import Leadership
from owui_budget_sync.litellm import mirror as mirror_module
from owui_budget_sync.litellm.client import LitellmAdmin
from owui_budget_sync.litellm.mirror import LitellmMirror
from owui_budget_sync.litellm.reader import LitellmReader
from owui_budget_sync.litellm.remembered import Remembered
from owui_budget_sync.litellm.writer import LitellmWriter
from owui_budget_sync.mirror_job import FULL_EVERY, MirrorJob, connection_keys, derive

LIMITS = UsageLimits(20, {Window.DAILY: Bounds(80, 100)})
READS = {"GET /v2/team/list", "GET /key/info", "POST /budget/info"}


@dataclass
class House:
    litellm: FakeLitellm
    store: SqlPolicyStore
    fence: Fence
    job: MirrorJob
    health: Health
    clock: ManualClock

    def write(self, *changes: PolicyChange) -> None:
        self.store.write(changes, self.fence)

    async def once(self) -> list[str]:
        """Mirror; return the requests beside the three small reads."""
        del self.litellm.requests[:]
        await self.job.once()
        return [each for each in self.litellm.requests if each not in READS]


@pytest.fixture
async def house(engine: Engine, litellm: FakeLitellm, store: SqlPolicyStore) -> AsyncIterator[House]:
    clock = ManualClock(1_800_000_000)
    fence = Leadership(engine, "me", clock).acquire()
    assert fence is not None
    key = SecretStr("sk-connection-1")
    settings = SyncSettings(litellm_url="http://litellm", litellm_master_key=SecretStr(MASTER_KEY))
    admin = LitellmAdmin(settings, transport=httpx.MockTransport(litellm))
    writer = LitellmWriter(admin, connection_keys((key,)))
    mirror = LitellmMirror(LitellmReader(admin), writer, Remembered(engine, "customer", clock))
    health = Health(clock, leading=True)
    desired = partial(derive, store, Limits(), frozenset(connection_keys((key,))))
    made = House(litellm, store, fence, MirrorJob(mirror, desired, health, clock), health, clock)
    made.write(
        PutGroup(StoredGroup("g1", "Students", None, LIMITS)),
        *(PutUser(StoredUser(f"u{n}", f"u{n}@example.com", f"User {n}", Role.USER)) for n in range(5)),
        ChangeMembers("g1", added=frozenset(f"u{n}" for n in range(4))),
    )
    yield made
    await admin.close()


async def test_the_first_mirroring_makes_everything(house: House) -> None:
    await house.once()
    assert {each["user_id"] for each in house.litellm.teams["owui-g1"]["members_with_roles"]} == {
        "u0",
        "u1",
        "u2",
        "u3",
        "default_user_id",
    }
    assert house.litellm.customers.keys() == {"u0", "u1", "u2", "u3"}
    assert house.litellm.budgets["owui-g1"]["tpd_limit"] == 100
    assert len(house.litellm.keys) == 1


async def test_with_nothing_new_no_customer_is_read(house: House) -> None:
    await house.once()
    assert await house.once() == []


async def test_one_member_more_costs_a_handful_of_requests(house: House) -> None:
    await house.once()
    house.write(ChangeMembers("g1", added=frozenset({"u4"})))
    assert sorted(await house.once()) == ["GET /customer/info", "POST /customer/new", "POST /team/member_add"]


async def test_from_time_to_time_everything_is_compared(house: House) -> None:
    await house.once()
    house.litellm.customers["u1"]["alias"] = "edited by hand"
    assert await house.once() == []
    house.clock.advance(FULL_EVERY + 1)
    assert await house.once() == ["GET /customer/list", "POST /customer/update"]
    assert house.litellm.customers["u1"]["alias"] == "User 1"


async def test_a_large_installation_is_never_listed_by_the_daemon(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    await house.once()
    monkeypatch.setattr(mirror_module, "TOO_MANY", 3)
    house.clock.advance(FULL_EVERY + 1)
    assert await house.once() == []


async def test_a_group_that_goes_leaves_a_retired_team(house: House) -> None:
    await house.once()
    house.write(RemoveGroup("g1"))
    await house.once()
    assert house.litellm.teams["owui-g1"]["metadata"]["owui_budget"]["retired"] is True
    assert {each["budget_id"] for each in house.litellm.customers.values()} == {"owui-none"}
    assert await house.once() == []


async def test_strangers_are_noted_once_and_left_alone(house: House) -> None:
    house.litellm.customers["u1"] = {"user_id": "u1", "alias": "Mine", "budget_id": "other"}
    house.litellm.teams["owui-g1"] = {"team_id": "owui-g1", "team_alias": "Mine", "metadata": {}}
    before = (dict(house.litellm.customers["u1"]), dict(house.litellm.teams["owui-g1"]))
    await house.once()
    assert (house.litellm.customers["u1"], house.litellm.teams["owui-g1"]) == before
    assert sum("is not ours" in note for note in house.job.notes) == 2
    assert await house.once() == []


@pytest.mark.parametrize("killed_at", range(11))
async def test_a_mirroring_killed_anywhere_goes_on(house: House, killed_at: int) -> None:
    left = killed_at

    def die(request: httpx.Request) -> httpx.Response | None:
        nonlocal left
        left -= 1
        return httpx.Response(500) if left < 0 and request.method != "GET" else None

    house.litellm.fail = die
    with pytest.raises(TargetUnavailableError):
        await house.job.once()
    house.litellm.fail = lambda _: None
    await house.job.once()
    assert house.litellm.customers.keys() == {"u0", "u1", "u2", "u3"}
    house.clock.advance(FULL_EVERY + 1)
    assert await house.once() == ["GET /customer/list"]


async def test_a_new_revision_stops_a_long_mirroring(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(mirror_module, "SAVED_EVERY", 2)

    def meanwhile(request: httpx.Request) -> None:
        if request.url.path == "/customer/new":
            house.job.want(at_once=True)

    house.litellm.fail = meanwhile
    await house.once()
    assert len(house.litellm.customers) == 2
    assert house.job._wanted.is_set()
    house.litellm.fail = lambda _: None
    await house.once()
    assert len(house.litellm.customers) == 4


def answers(status: int, body: str) -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, text=body)


@pytest.mark.parametrize(
    ("answer", "error", "says"),
    [
        (answers(503, "{}"), TargetUnavailableError, "503"),
        (answers(200, "<html>"), TargetRefusedError, "not JSON"),
        (answers(200, '{"teams": 5}'), TargetRefusedError, "does not know"),
        (answers(401, "{}"), TargetRefusedError, "OWUI_BUDGET_LITELLM_MASTER_KEY"),
        (
            answers(400, '{"error":{"message":"No connected db.","type":"no_db_connection"}}'),
            TargetRefusedError,
            "DATABASE_URL",
        ),
    ],
)
async def test_trouble_is_named(
    house: House, answer: Callable[[httpx.Request], httpx.Response], error: type[Exception], says: str
) -> None:
    house.litellm.fail = answer
    with pytest.raises(error, match=says):
        await house.job.once()


async def test_requests_keep_their_pace(litellm: FakeLitellm, monkeypatch: pytest.MonkeyPatch) -> None:
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr("owui_budget_sync.litellm.client.asyncio.sleep", sleep)
    monkeypatch.setattr("owui_budget_sync.litellm.client.time.monotonic", lambda: 100.0)
    settings = SyncSettings(litellm_url="http://litellm", litellm_master_key=SecretStr(MASTER_KEY))
    admin = LitellmAdmin(settings, rate=10, transport=httpx.MockTransport(litellm))
    for _ in range(4):
        await admin.post("/budget/info", {"budgets": []})
    assert slept == pytest.approx([0, 0.1, 0.2, 0.3])
    await admin.close()
