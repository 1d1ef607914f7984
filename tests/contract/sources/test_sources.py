"""The API and the database say the same, on fakes of both and on a real Open WebUI."""

import json
import uuid
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest
from pydantic import SecretStr
from sqlalchemy import create_engine, text
from support.fake_openwebui import API_KEY, FakeOpenWebui
from support.postgres import Postgres

import stack
from owui_budget.config import SyncSettings
from owui_budget.domain.identity import Role
from owui_budget.errors import ConfigurationError, SourceRefusedError, SourceUnavailableError
from owui_budget.policy_store import StoredUser
from owui_budget_sync.openwebui.api import ApiSource
from owui_budget_sync.openwebui.client import OpenWebuiClient
from owui_budget_sync.openwebui.database import DatabaseSource, open_database
from owui_budget_sync.openwebui.protocol import Source

LIMITS = {"version": 1, "priority": 20, "member": {"daily": {"soft": 80, "hard": 100}}}

# As Open WebUI 0.12.4 makes them (migrations on SQLite; the same statements serve PostgreSQL).
TABLES = (
    """CREATE TABLE "group" (id TEXT NOT NULL PRIMARY KEY, parent_group_id TEXT, user_id TEXT, name TEXT,
       description TEXT, data JSON, meta JSON, permissions JSON, created_at BIGINT, updated_at BIGINT)""",
    """CREATE TABLE group_member (id TEXT NOT NULL PRIMARY KEY, group_id TEXT NOT NULL, user_id TEXT NOT NULL,
       created_at BIGINT, updated_at BIGINT, UNIQUE (group_id, user_id))""",
    """CREATE TABLE "user" (id VARCHAR(255) NOT NULL PRIMARY KEY, name VARCHAR(255), email VARCHAR(255) UNIQUE,
       username VARCHAR(50), role VARCHAR(255), profile_image_url TEXT)""",
)


@dataclass
class World:
    """What both sources must say."""

    groups: dict[str, tuple[str, str | None, Any]]
    members: dict[str, frozenset[str]]
    users: set[StoredUser]


WORLD = World(
    groups={
        "g1": ("Staff", None, None),
        "g2": ("Größe 🎓 'quoted'", "g1", LIMITS),
        "g3": ("Bad", None, {"version": "x"}),
        "g4": ("Off", None, None),
    },
    members={"g1": frozenset(), "g2": frozenset({"u1", "u2"}), "g3": frozenset({"u2"}), "g4": frozenset()},
    users={
        StoredUser("u1", "alice@example.com", "Alice", Role.ADMIN),
        StoredUser("u2", "bob@example.com", "Bob", Role.USER),
        StoredUser("u3", "new@example.com", "New", Role.PENDING),
    },
)


def fill(url: str) -> None:
    engine = create_engine(url)
    with engine.begin() as connection:
        for statement in TABLES:
            connection.execute(text(statement))
        for gid, (name, parent, limits) in WORLD.groups.items():
            data = None if gid == "g1" else json.dumps({"config": {"share": "members"}, "usage_limits": limits})
            connection.execute(
                text('INSERT INTO "group" (id, name, parent_group_id, data, updated_at) VALUES (:i, :n, :p, :d, 7)'),
                {"i": gid, "n": name, "p": parent, "d": data},
            )
        for gid, members in WORLD.members.items():
            for each in members:
                connection.execute(
                    text("INSERT INTO group_member (id, group_id, user_id) VALUES (:i, :g, :u)"),
                    {"i": f"{gid}{each}", "g": gid, "u": each},
                )
        for user in WORLD.users:
            connection.execute(
                text('INSERT INTO "user" (id, name, email, role) VALUES (:i, :n, :e, :r)'),
                {"i": user.id, "n": user.name, "e": user.email.title(), "r": user.role.value},
            )
    engine.dispose()


def database_settings(url: str) -> SyncSettings:
    return SyncSettings(openwebui_database_url=SecretStr(url))


def fake_api(openwebui: FakeOpenWebui) -> ApiSource:
    settings = SyncSettings(openwebui_url="http://openwebui", openwebui_api_key=SecretStr(API_KEY))
    return ApiSource(OpenWebuiClient(settings, transport=httpx.MockTransport(openwebui)))


@pytest.fixture
def bare_postgres(postgres: Postgres) -> Iterator[str]:
    with postgres.database("template0") as url:
        yield url


@pytest.fixture(params=["api", "sqlite", "postgresql"])
async def source(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Source]:
    made: Source
    if request.param == "api":
        openwebui = FakeOpenWebui()
        openwebui.now = 7
        for gid, (name, parent, limits) in WORLD.groups.items():
            openwebui.group(gid, name, limits, parent, WORLD.members[gid])
        openwebui.users = [
            {"id": each.id, "name": each.name, "email": each.email.title(), "role": each.role.value}
            for each in WORLD.users
        ]
        made = fake_api(openwebui)
    else:
        url = f"sqlite:///{tmp_path}/webui.db"
        if request.param == "postgresql":
            url = request.getfixturevalue("bare_postgres")
        fill(url.replace("postgresql://", "postgresql+psycopg://"))
        made = DatabaseSource(open_database(database_settings(url)))
    yield made
    await made.close()


async def test_groups(source: Source) -> None:
    listed = await source.groups()
    found = {each.id: (each.name, each.parent_id, each.usage_limits) for each in listed.groups.values()}
    assert found == WORLD.groups
    assert {each.id: each.member_count for each in listed.groups.values()} == {
        gid: len(members) for gid, members in WORLD.members.items()
    }
    assert {each.updated_at for each in listed.groups.values()} == {7}
    assert listed.read_at > 0


async def test_members_of_the_groups_asked_for(source: Source) -> None:
    assert {gid: found async for gid, found in source.members(WORLD.groups.keys())} == WORLD.members
    some = {gid: found async for gid, found in source.members(["g3", "deleted", "g1"])}
    assert some == {"g3": WORLD.members["g3"], "g1": frozenset()}
    assert [each async for each in source.members([])] == []


async def test_users(source: Source) -> None:
    assert {user async for user in source.users()} == WORLD.users


async def test_data_that_is_no_json_is_one_groups_problem(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/webui.db"
    fill(url)
    engine = create_engine(url)
    with engine.begin() as connection:
        connection.execute(text("""UPDATE "group" SET data = '{"usage_' WHERE id = 'g2'"""))
    engine.dispose()
    source = DatabaseSource(open_database(database_settings(url)))
    listed = await source.groups()
    await source.close()
    assert listed.groups["g2"].usage_limits == '{"usage_'
    assert listed.groups["g3"].usage_limits == {"version": "x"}


async def test_the_database_is_only_read(tmp_path: Path, bare_postgres: str) -> None:
    for url in (f"sqlite:///{tmp_path}/webui.db", bare_postgres):
        fill(url.replace("postgresql://", "postgresql+psycopg://"))
        engine = open_database(database_settings(url))
        with pytest.raises(Exception, match=r"readonly|read-only"), engine.begin() as connection:
            connection.execute(text('DELETE FROM "user"'))
        engine.dispose()


async def test_another_database_is_not_taken_for_an_empty_open_webui(tmp_path: Path, bare_postgres: str) -> None:
    (tmp_path / "webui.db").touch()
    for url in (f"sqlite:///{tmp_path}/webui.db", bare_postgres):
        source = DatabaseSource(open_database(database_settings(url)))
        with pytest.raises(SourceRefusedError, match="OWUI_BUDGET_OPENWEBUI_DATABASE_URL"):
            await source.groups()
        await source.close()


async def test_a_database_that_is_away_is_transient(tmp_path: Path) -> None:
    source = DatabaseSource(open_database(database_settings("postgresql://u:hidden-word@127.0.0.1:1/openwebui")))
    with pytest.raises(SourceUnavailableError) as failure:
        await source.groups()
    assert "hidden-word" not in str(failure.value)
    await source.close()
    with pytest.raises(ConfigurationError, match=r"webui\.db"):
        open_database(database_settings(f"sqlite:///{tmp_path}/missing.db"))


@pytest.fixture(scope="module")
def real(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    with stack.running(tmp_path_factory.mktemp("openwebui"), services=("postgres", "openwebui")) as running:
        yield running


@pytest.mark.stack
async def test_on_a_real_open_webui_both_say_the_same(real: stack.Stack) -> None:
    openwebui = real.endpoints.openwebui
    settings = SyncSettings(
        openwebui_url=openwebui.url,
        openwebui_admin_email=openwebui.admin_email,
        openwebui_admin_password=SecretStr(openwebui.admin_password),
        openwebui_database_url=SecretStr(f"sqlite:///{Path(real.environment('openwebui')['DATA_DIR'])}/webui.db"),
    )
    client = OpenWebuiClient(settings)
    name = f"Group {uuid.uuid4().hex[:6]}"
    made = await client.post(
        "/api/v1/groups/create", {"name": name, "description": "", "data": {"usage_limits": LIMITS}}
    )
    everybody = [each["id"] for each in (await client.get("/api/v1/users/all", dict[str, Any]))["users"]]
    await client.post(f"/api/v1/groups/id/{made['id']}/users/add", {"user_ids": everybody})
    child = await client.post(
        "/api/v1/groups/create", {"name": f"{name} below", "description": "", "parent_group_id": made["id"]}
    )
    said = []
    for source in (ApiSource(client), DatabaseSource(open_database(settings))):
        listed = await source.groups()
        members = {gid: found async for gid, found in source.members(listed.groups.keys())}
        said.append((listed.groups, members, {user async for user in source.users()}))
        await source.close()
    assert said[0] == said[1]
    groups, members, users = said[0]
    assert groups[made["id"]].usage_limits == LIMITS
    assert groups[child["id"]].parent_id == made["id"]
    assert members[made["id"]] == set(everybody)
    assert len(users) == len(everybody)
