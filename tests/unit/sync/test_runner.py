"""The loop with a source that fails, lies, or comes back empty: the last good policy stays, and the answers say why."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import suppress
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, select
from support.fake_openwebui import EMAIL, PASSWORD, FakeOpenWebui

from owui_budget.clock import ManualClock
from owui_budget.config import SyncSettings
from owui_budget.database.tables import sync_state
from owui_budget.errors import BudgetError, ConfigurationError, SourceRefusedError, SourceUnavailableError
from owui_budget.policy_store import FenceLostError, SqlPolicyStore
from owui_budget_sync import runner as runner_module
from owui_budget_sync.health import Health
from owui_budget_sync.leader import Journal, Leadership
from owui_budget_sync.openwebui.api import ApiSource
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.policy_sync import Depth, PolicySync
from owui_budget_sync.runner import Pace, Runner
from owui_budget_sync.safety import UnsafePlanError
from owui_budget_sync.wiring import make_source

DAILY = {"version": 1, "priority": 1, "member": {"daily": {"hard": 100}}}


class House:
    """A runner on SQLite and a fake Open WebUI with two groups and three users."""

    def __init__(self, engine: Engine, source: ApiSource, openwebui: FakeOpenWebui) -> None:
        self.clock = ManualClock(float(openwebui.now))
        self.engine = engine
        self.store = SqlPolicyStore(engine)
        self.openwebui = openwebui
        self.health = Health(self.clock)
        self.leadership = Leadership(engine, "me", self.clock)
        self.written: list[bool] = []
        self.runner = Runner(
            PolicySync(source, self.store),
            self.leadership,
            Journal(engine, self.clock),
            self.health,
            clock=self.clock,
            pace=Pace(),
            on_change=self.written.append,
        )
        openwebui.group("g1", "Staff", DAILY, members=["u1"])
        openwebui.group("g2", "Students", DAILY, "g1", members=["u2", "u3"])
        for uid in ("u1", "u2", "u3"):
            openwebui.user(uid, uid.upper())
        self.lead()

    def lead(self) -> None:
        self.runner._follow(self.leadership.acquire())

    async def once(self, depth: Depth) -> list[str]:
        """Look; return the requests it took."""
        del self.openwebui.requests[:]
        await self.runner.once(depth)
        return self.openwebui.requests

    def hard(self, gid: str) -> int | None:
        limits = self.store.snapshot().groups[gid].limits
        return next(iter(limits.member.values())).hard if limits else None

    def later(self, seconds: int = 60) -> None:
        self.openwebui.now += seconds
        self.clock.advance(seconds)

    def edit(self, gid: str, usage_limits: Any) -> None:
        self.openwebui.groups[gid]["data"]["usage_limits"] = usage_limits
        self.openwebui.groups[gid]["updated_at"] = self.openwebui.now


@pytest.fixture
def house(engine: Engine, source: ApiSource, openwebui: FakeOpenWebui) -> House:
    return House(engine, source, openwebui)


LIST = ["GET /api/v1/auths/", "GET /api/v1/groups/"]
EXPORT_2 = "GET /api/v1/groups/id/g2/export"


async def test_the_first_look_brings_everything(house: House) -> None:
    await house.once(Depth.ALL)
    assert house.store.snapshot().groups.keys() == {"g1", "g2"}
    assert house.store.members(["g2"]) == {"g2": {"u2", "u3"}}
    assert house.store.user_count() == 3
    assert house.written == [True]


async def test_a_look_with_nothing_new_takes_two_requests_and_writes_nothing(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    assert await house.once(Depth.GROUPS) == LIST
    assert house.written == [True]


async def test_only_groups_that_changed_are_read(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    house.openwebui.members["g2"].append("u1")
    house.openwebui.groups["g2"]["updated_at"] = house.openwebui.now
    assert await house.once(Depth.GROUPS) == [*LIST, EXPORT_2]
    assert house.store.members(["g2"]) == {"g2": {"u1", "u2", "u3"}}
    assert house.written == [True, False]


async def test_a_group_that_has_just_changed_is_read_again(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    house.edit("g2", DAILY)
    await house.once(Depth.GROUPS)
    # A second change within the same second, after it was read.
    house.openwebui.members["g2"] = ["u1", "u2"]
    house.later(5)
    assert EXPORT_2 in await house.once(Depth.GROUPS)
    assert house.store.members(["g2"]) == {"g2": {"u1", "u2"}}
    house.later(20)
    assert EXPORT_2 not in await house.once(Depth.GROUPS)


async def test_members_that_vanish_without_a_trace_on_the_group_are_found(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    house.openwebui.members["g2"].remove("u3")  # a user was deleted
    await house.once(Depth.GROUPS)
    assert house.store.members(["g2"]) == {"g2": {"u2"}}


async def test_limits_hold_before_members_are_read(house: House) -> None:
    requests = await house.once(Depth.LIMITS)
    assert requests == LIST
    assert house.hard("g2") == 100
    assert house.store.member_counts() == {}
    house.later()
    await house.once(Depth.GROUPS)
    assert house.store.members(["g2"]) == {"g2": {"u2", "u3"}}


async def test_limits_edited_while_users_are_read_are_not_undone(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    edited = False

    def slow(request: httpx.Request) -> None:
        nonlocal edited
        if request.url.path.endswith("/users/all") and not edited:
            edited = True
            house.edit("g2", {**DAILY, "member": {"daily": {"hard": 7}}})

    house.openwebui.fail = slow
    await house.once(Depth.ALL)
    assert house.hard("g2") == 7


async def test_bad_limits_stop_nothing_else(house: House) -> None:
    await house.once(Depth.ALL)
    house.later()
    house.edit("g1", {"version": 1, "priority": -1})
    house.edit("g2", {**DAILY, "member": {"daily": {"hard": 7}}})
    await house.once(Depth.GROUPS)
    assert (house.hard("g1"), house.hard("g2")) == (100, 7)
    assert house.store.groups()["g1"].problem == "priority must be from 0 to 1,000,000, not -1"
    assert house.health.group_problems == 1
    assert "Staff" in house.health.notes[0]
    house.edit("g1", {**DAILY, "member": {"daily": {"hard": 8}}})
    await house.once(Depth.GROUPS)
    assert house.hard("g1") == 8
    assert house.store.groups()["g1"].problem is None
    assert house.health.notes == ()


def answers(status: int, body: str = "{}") -> Callable[[httpx.Request], httpx.Response]:
    return lambda _: httpx.Response(status, text=body, headers={"content-type": "application/json"})


def no_answer(request: httpx.Request) -> httpx.Response:
    raise httpx.ConnectError("connection refused", request=request)


def slow(request: httpx.Request) -> httpx.Response:
    raise httpx.ReadTimeout("", request=request)


def only(
    path: str, answer: Callable[[httpx.Request], httpx.Response]
) -> Callable[[httpx.Request], httpx.Response | None]:
    return lambda request: answer(request) if request.url.path.startswith(path) else None


@pytest.mark.parametrize(
    ("trouble", "error", "says"),
    [
        pytest.param(no_answer, SourceUnavailableError, "did not answer", id="down"),
        pytest.param(slow, SourceUnavailableError, "ReadTimeout", id="slow"),
        pytest.param(answers(500), SourceUnavailableError, "500", id="500"),
        pytest.param(answers(429), SourceUnavailableError, "429", id="429"),
        pytest.param(answers(200, "<!doctype html>"), SourceRefusedError, "not JSON", id="the web page"),
        pytest.param(answers(200, '[{"id": "g1"'), SourceRefusedError, "not JSON", id="truncated"),
        pytest.param(
            only("/api/v1/groups/", answers(200, '{"groups": 5}')), SourceRefusedError, "does not know", id="odd"
        ),
        pytest.param(
            only("/api/v1/groups/", answers(200, '[{"id": 5}]')), SourceRefusedError, "does not know", id="odder"
        ),
        pytest.param(
            answers(401, '{"detail": "expired"}'), SourceRefusedError, "OWUI_BUDGET_OPENWEBUI_API_KEY", id="key"
        ),
        pytest.param(
            only("/api/v1/users/all", answers(200, '{"users": [{"id": "u1"},')),
            SourceRefusedError,
            "unreadable",
            id="cut",
        ),
        pytest.param(
            only("/api/v1/users/all", answers(200, '{"users": [{"id": null}]}')),
            SourceRefusedError,
            "cannot read",
            id="u",
        ),
        pytest.param(only("/api/v1/groups/id/", answers(502)), SourceUnavailableError, "502", id="members"),
    ],
)
async def test_whatever_open_webui_does_the_last_good_policy_stays(
    house: House,
    monkeypatch: pytest.MonkeyPatch,
    trouble: Callable[[httpx.Request], httpx.Response],
    error: type[BudgetError],
    says: str,
) -> None:
    monkeypatch.setattr("tenacity.nap.time.sleep", lambda _: None)
    await house.once(Depth.ALL)
    before = house.store.snapshot()
    house.openwebui.fail = trouble
    with pytest.raises(error, match=says) as failure:
        await house.runner.once(Depth.ALL)
    await house.runner._report(failure.value, house.clock.now(), 1)
    assert house.store.snapshot() == before
    assert house.store.user_count() == 3
    assert house.health.status() == "degraded"
    assert says in str(house.health.to_json()["openwebui"]["error"])
    with house.engine.connect() as connection:
        assert says in str(connection.execute(select(sync_state.c.last_error)).scalar_one())
    house.openwebui.fail = lambda _: None
    await house.runner.once(Depth.ALL)
    assert house.health.status() == "ok"


async def test_an_account_that_is_no_admin_any_more_is_not_believed(house: House) -> None:
    """Open WebUI answers its group list with 200 and that user's own groups: the others would look deleted."""
    await house.once(Depth.ALL)
    house.openwebui.role = "user"
    del house.openwebui.groups["g1"]
    with pytest.raises(SourceRefusedError, match="needs an admin's"):
        await house.runner.once(Depth.GROUPS)
    assert house.store.snapshot().groups.keys() == {"g1", "g2"}


async def test_an_empty_source_changes_nothing_and_says_the_way_out(house: House) -> None:
    await house.once(Depth.ALL)
    house.openwebui.groups.clear()
    with pytest.raises(UnsafePlanError) as failure:
        await house.runner.once(Depth.GROUPS)
    await house.runner._report(failure.value, house.clock.now(), 1)
    assert house.store.snapshot().groups.keys() == {"g1", "g2"}
    assert house.health.to_json()["unsafe_plan"] == failure.value.digest
    assert house.health.status() == "degraded"


async def test_a_leader_that_was_overtaken_writes_nothing(house: House) -> None:
    Leadership(house.engine, "other", house.clock).acquire(takeover=True)
    with pytest.raises(FenceLostError):
        await house.runner.once(Depth.ALL)
    assert house.store.snapshot().groups == {}


async def test_a_session_that_ended_is_renewed_with_the_password(openwebui: FakeOpenWebui) -> None:
    settings = SyncSettings(
        openwebui_url="http://openwebui", openwebui_admin_email=EMAIL, openwebui_admin_password=SecretStr(PASSWORD)
    )
    source = ApiSource(OpenWebuiClient(settings, transport=httpx.MockTransport(openwebui)))
    await source.groups()
    openwebui.sessions += 1  # the server forgot the session
    await source.groups()
    assert openwebui.requests.count("POST /api/v1/auths/signin") == 2
    await source.close()


async def test_a_wrong_password_is_named(openwebui: FakeOpenWebui) -> None:
    settings = SyncSettings(
        openwebui_url="http://openwebui",
        openwebui_admin_email=EMAIL,
        openwebui_admin_password=SecretStr("wrong-secret"),
    )
    async with OpenWebuiClient(settings, transport=httpx.MockTransport(openwebui)) as client:
        with pytest.raises(SourceRefusedError, match="OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD") as failure:
            await client.get("/api/v1/auths/", object)
    assert "wrong-secret" not in str(failure.value)


@pytest.mark.parametrize(
    ("known", "missing"),
    [
        ({}, "OWUI_BUDGET_OPENWEBUI_URL"),
        ({"openwebui_url": "http://openwebui"}, "OWUI_BUDGET_OPENWEBUI_API_KEY"),
        (
            {"openwebui_url": "http://openwebui", "openwebui_admin_email": "a@b.c"},
            "OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD",
        ),
        ({"openwebui_database_url": "sqlite:////nowhere/webui.db"}, "webui.db in Open WebUI's DATA_DIR"),
    ],
)
def test_missing_settings_are_named(known: dict[str, Any], missing: str) -> None:
    with pytest.raises(ConfigurationError, match=missing):
        make_source(SyncSettings(**known), ManualClock(0))


@pytest.fixture
async def running(house: House, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[House]:
    monkeypatch.setattr(runner_module, "SETTLE", 0.01)
    monkeypatch.setattr(runner_module, "PAUSES", (0.01,))
    monkeypatch.setattr(runner_module, "STANDBY", 0.01)
    task = asyncio.create_task(house.runner.run())
    yield house
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def until(true: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not true():  # noqa: ASYNC110 - waits for another task's effect
            await asyncio.sleep(0.01)


async def test_the_loop_follows_triggers(running: House) -> None:
    await until(lambda: running.store.user_count() == 3)
    running.edit("g2", {**DAILY, "member": {"daily": {"hard": 7}}})
    running.runner.trigger(Depth.GROUPS)
    await until(lambda: running.hard("g2") == 7)
    running.openwebui.user("u4", "Dora")
    running.runner.trigger(Depth.USERS)
    await until(lambda: running.store.user_count() == 4)


async def test_the_loop_outlives_failures(running: House) -> None:
    await until(lambda: running.store.user_count() == 3)
    running.openwebui.fail = answers(400)
    running.runner.trigger(Depth.GROUPS)
    await until(lambda: running.health.openwebui.error is not None)
    running.edit("g2", {**DAILY, "member": {"daily": {"hard": 7}}})
    running.openwebui.fail = lambda _: None
    await until(lambda: running.hard("g2") == 7)
    assert running.health.status() == "ok"


async def test_limits_hold_while_a_long_read_of_everything_is_under_way(running: House) -> None:
    await until(lambda: running.store.user_count() == 3)
    reached, go_on = asyncio.Event(), asyncio.Event()
    inner = running.runner._sync._source

    class Slow:
        def __getattr__(self, name: str) -> Any:
            return getattr(inner, name)

        async def users(self) -> AsyncIterator[Any]:
            reached.set()
            await go_on.wait()
            async for each in inner.users():
                yield each

    running.runner._sync._source = Slow()  # type: ignore[assignment]
    running.runner.trigger(Depth.ALL)
    await reached.wait()
    running.edit("g2", {**DAILY, "member": {"daily": {"hard": 7}}})
    running.runner.trigger(Depth.GROUPS)
    await until(lambda: running.hard("g2") == 7)
    go_on.set()
    running.openwebui.user("u4", "Dora")
    await until(lambda: running.store.user_count() == 4)
    assert running.hard("g2") == 7


async def test_a_standby_passes_its_triggers_on(running: House) -> None:
    await until(lambda: running.store.user_count() == 3)
    leader = Leadership(running.engine, "other", running.clock)
    leader.acquire(takeover=True)
    running.runner.trigger(Depth.GROUPS)
    await until(lambda: not running.health.leading)
    running.runner.trigger(Depth.USERS)
    await until(lambda: "users" in leader.passed_on())
    leader.release()
    await until(lambda: running.health.leading)
