from typing import Any

import pytest
import sqlalchemy as sa
from support.ledgers import DAY, NOON, admit, call, reserve, settled

from owui_budget.database.tables import policy_users
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind

from .conftest import EVIL, Run, World


@pytest.fixture
def spent(world: World) -> World:
    """Two days: on Monday alice took 400 + 300, bob 50; on Tuesday (now) alice takes 20."""
    world.spend("u-alice", 400, "g-staff", model="m1")
    world.spend("u-alice", 300, "g-staff", model="m2", kind=Kind.API)
    world.spend("u-bob", 50, "g-interns", "g-staff", model="m1")
    world.clock.advance(DAY)
    world.spend("u-alice", 20, "g-staff", model="m1")
    return world


def lines(report: dict[str, Any]) -> dict[str, int]:
    return {line["key"]: line["charge"] for line in report["lines"]}


def test_everybody_by_user_with_a_total(cli: Run, spent: World) -> None:
    report = cli("usage", "--json").json
    assert report["of"] is None
    assert report["by"] == "user"
    assert lines(report) == {"u-alice": 720, "u-bob": 50}
    assert [line["name"] for line in report["lines"]] == ["Alice", "Bob"]
    assert report["total"]["charge"] == 770
    assert report["total"]["calls"] == 4
    assert (report["from"], report["until"]) == ("2026-07-01T00:00:00+00:00", "2026-08-01T00:00:00+00:00")


def test_one_user_by_model_with_the_current_windows(cli: Run, spent: World) -> None:
    report = cli("usage", "alice@example.com", "--json").json
    assert report["of"] == {"kind": "user", "id": "u-alice", "name": "Alice", "email": "alice@example.com"}
    assert lines(report) == {"m1": 420, "m2": 300}
    assert {each["window"]: each["used"] for each in report["windows"]} == {
        "hourly": 20, "daily": 20, "weekly": 720, "monthly": 720,
    }  # fmt: skip
    assert report["windows"][1]["resets_at"] == "2026-07-22T00:00:00+00:00"


def test_a_groups_pool_by_user(cli: Run, spent: World) -> None:
    report = cli("usage", "Staff", "--window", "weekly", "--json").json
    assert report["of"]["kind"] == "group"
    assert lines(report) == {"u-alice": 720, "u-bob": 50}


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--by", "kind"], {"chat": 470, "api": 300}),
        (["--by", "group"], {"g-staff": 770, "g-interns": 50}),
        (["--by", "day", "--from", "2026-07-20"], {"2026-07-21": 20, "2026-07-20": 750}),
        (["--from", "2026-07-20", "--to", "2026-07-20"], {"u-alice": 700, "u-bob": 50}),
        (["--window", "daily"], {"u-alice": 20}),
        (["--limit", "1"], {"u-alice": 720}),
        (["--limit", "1", "--page", "2"], {"u-bob": 50}),
    ],
)
def test_what_a_report_can_be_narrowed_by(cli: Run, spent: World, options: list[str], expected: dict[str, int]) -> None:
    assert lines(cli("usage", "--json", *options).json) == expected


def test_days_follow_the_ledgers_zone(cli: Run, world: World) -> None:
    world.execute(sa.text("UPDATE meta SET zone = 'Pacific/Auckland'"))
    world.spend("u-alice", 7)
    report = cli("usage", "--window", "daily", "--json").json
    assert report["zone"] == "Pacific/Auckland"
    assert report["from"] == "2026-07-21T00:00:00+12:00"
    assert lines(report) == {"u-alice": 7}


def test_a_pipe_gets_tab_separated_lines(cli: Run, spent: World) -> None:
    rows = cli("usage").rows
    assert rows[0] == ["# usage from 2026-07-01 00:00 UTC to before 2026-08-01 00:00 UTC, by user"]
    assert rows[1] == ["user", "calls", "prompt", "completion", "charge", "of it estimated"]
    assert rows[2] == ["Alice (u-alice)", "3", "360", "360", "720", "0"]
    assert rows[4] == ["total", "4", "385", "385", "770", "0"]


def test_services_are_found_by_their_id(cli: Run, world: World) -> None:
    async def work(ledger: Any) -> None:
        asked = reserve(
            call=call(None, service_id="key-1234", caller=Caller.SERVICE, kind=Kind.SERVICE),
            counters=(Counter(CounterKind.SERVICE, "key-1234"),),
            revision=(await ledger.state()).revision,
        )
        await admit(ledger, asked)
        await ledger.settle(settled(asked, 9))

    world.with_ledger(work)
    for word in ("key-1234", "service:key-1234"):
        assert lines(cli("usage", word, "--json").json) == {"m1": 9}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["nobody"], "there is no user or group 'nobody': give an id, an e-mail address or a name"),
        (["user:Staff"], "there is no user or group 'user:Staff'"),
        (["--to", "2026-07-20"], "--to needs --from"),
        (["--from", "2026-07-21", "--to", "2026-07-20"], "--from 2026-07-21 is after --to 2026-07-20"),
    ],
)
def test_what_cannot_be_reported(cli: Run, world: World, arguments: list[str], said: str) -> None:
    done = cli("usage", *arguments)
    assert done.code == 1
    assert done.out == ""
    assert said in done.err


def test_a_date_that_is_none_is_a_usage_error(cli: Run, world: World) -> None:
    done = cli("usage", "--from", "yesterday")
    assert done.code == 2
    assert "'yesterday' is no date; write YYYY-MM-DD" in done.err


def test_a_name_of_two_is_refused_with_both_ids(cli: Run, world: World) -> None:
    world.user("u-s1", "Sam")
    world.user("u-s2", "Sam")
    done = cli("usage", "sam")
    assert done.code == 1
    assert "'sam' means 2: user:u-s1, user:u-s2; say which by its id" in done.err
    assert cli("usage", "user:u-s1").code == 0


def test_a_user_and_a_group_of_one_name(cli: Run, world: World) -> None:
    world.user("u-plain", "Plain")
    done = cli("usage", "Plain")
    assert "user:u-plain, group:g-plain" in done.err
    assert cli("usage", "group:Plain", "--json").json["of"]["id"] == "g-plain"


def test_whom_only_the_ledger_remembers(cli: Run, world: World) -> None:
    world.spend("u-alice", 5)
    world.execute(sa.delete(policy_users))
    report = cli("usage", "u-alice", "--json").json
    assert report["of"] == {"kind": "user", "id": "u-alice", "name": None, "email": None}
    assert lines(report) == {"m1": 5}
    assert "sync has not read any user yet" in cli("usage", "nobody").err


def test_hostile_names_are_shown_as_text_on_one_line(cli: Run, world: World) -> None:
    world.user("u-evil", EVIL)
    world.spend("u-evil", 3)
    rows = cli("usage").rows
    assert rows[2][0] == "[bold red]x[/] gnp.exe second line (u-evil)"
    assert cli("usage", "--json").json["lines"][0]["name"] == EVIL


def test_noon_is_what_it_says() -> None:
    assert NOON % DAY == DAY / 2


def test_what_was_added_by_hand_is_named(cli: Run, spent: World) -> None:
    cli("reset", "Bob", "--yes")
    rows = cli("usage", "Bob").rows
    assert ["m1", "1", "25", "25", "50", "0"] in rows
    assert ["(adjustments)", "0", "0", "0", "-50", "0"] in rows
    assert rows[-1] == ["total", "1", "25", "25", "0", "0"]
