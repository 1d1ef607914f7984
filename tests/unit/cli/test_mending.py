import pytest
import sqlalchemy as sa
from support.ledgers import DAY

from owui_budget.database.tables import counters, policy_users, usage_daily, usage_events
from owui_budget.domain.windows import Window
from owui_budget.ledger import audit

from .conftest import EVIL, Outcome, Run, World


def used(cli: Run, who: str) -> dict[str, int]:
    return {each["window"]: each["used"] for each in cli("usage", who, "--json").json["windows"]}


# --- reset


def test_reset_a_user(cli: Run, world: World) -> None:
    world.spend("u-bob", 120)
    world.clock.advance(DAY)
    world.spend("u-bob", 30)
    done = cli("reset", "Bob", "--yes", "--reason", "by request", "--json")
    assert done.code == 0, done.err
    assert done.json == {
        "reset": {"kind": "user", "id": "u-bob", "name": "Bob"},
        "used_before": {
            "user": {"hourly": 30, "daily": 30, "weekly": 150, "monthly": 150},
            "task": dict.fromkeys(map(str, Window), 0),
        },
    }
    assert used(cli, "u-bob") == dict.fromkeys(map(str, Window), 0)
    with world.engine.connect() as connection:
        events = usage_events.c
        rows = connection.execute(sa.select(events.charge, events.reason).where(events.type == "adjustment")).all()
        assert {row.reason for row in rows} == {"by request"}
        assert sum(row.charge for row in rows) == -150
    assert audit.verify(world.engine) == []


def test_reset_admits_again(cli: Run, world: World) -> None:
    world.spend("u-bob", 120)
    assert cli("explain", "Bob", "--json").json["next_call"]["verdict"] == "refused"
    assert cli("reset", "Bob", "--yes").code == 0
    assert cli("explain", "Bob", "--json").json["next_call"]["verdict"] == "allowed"


def test_reset_a_groups_pool_leaves_its_members_alone(cli: Run, world: World) -> None:
    world.spend("u-alice", 70, "g-staff")
    done = cli("reset", "Staff", "--yes")
    assert done.out.splitlines()[0] == "group Staff (g-staff): these windows are at zero now"
    assert ["pool", "daily", "70"] in done.rows
    assert used(cli, "group:Staff")["daily"] == 0
    assert used(cli, "Alice")["daily"] == 70


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 1), ("", 1)])
def test_reset_asks(cli: Run, world: World, answer: str, code: int) -> None:
    world.spend("u-bob", 120)
    done = cli("reset", "Bob", stdin=answer)
    assert done.code == code
    assert "Reset the current windows of user Bob <bob@example.com> (u-bob) to zero?" in done.err
    assert used(cli, "Bob")["daily"] == (0 if code == 0 else 120)
    if code:
        assert "error: nothing was changed" in done.err or "nobody answered" in done.err


def test_reset_while_another_process_serves(cli: Run, world: World) -> None:
    """The command line works beside the LiteLLM process that holds the SQLite file's serving lock."""
    from owui_budget.ledger.open import open_ledger
    from owui_budget.limits_file import Limits

    world.spend("u-bob", 5)
    serving = open_ledger(world.settings, Limits(), world.clock, "hooks")
    assert serving._serve_lock is not None
    serving._serve_lock.acquire()
    try:
        assert cli("reset", "Bob", "--yes").code == 0
    finally:
        serving._serve_lock.release()
        serving._engine.dispose()


# --- erase


def erase(cli: Run, *more: str) -> Outcome:
    return cli("erase", "alice@example.com", "--yes", *more)


def test_erase_keeps_sums_and_drops_the_identity(cli: Run, world: World) -> None:
    world.spend("u-alice", 70, "g-staff")
    world.spend("u-alice", 30, "g-staff")
    done = erase(cli, "--json")
    assert done.code == 0, done.err
    answer = done.json
    assert answer["erased"] == "u-alice"
    assert answer["events"] == 2
    assert answer["pseudonym"].startswith("erased-")
    report = cli("usage", "--json").json
    assert [(line["key"], line["charge"], line["name"]) for line in report["lines"]] == [
        (answer["pseudonym"], 100, None)
    ]
    assert used(cli, "Staff")["daily"] == 100
    with world.engine.connect() as connection:
        for table in (policy_users, usage_events, usage_daily, counters):
            assert "u-alice" not in str(connection.execute(sa.select(table)).all())
    assert audit.verify(world.engine) == []
    assert cli("usage", "alice@example.com").code == 1


def test_erase_says_that_a_known_user_comes_back(cli: Run, world: World) -> None:
    assert "unless deleted in Open WebUI, he comes back" in erase(cli).err
    world.spend("u-gone", 3)
    done = cli("erase", "u-gone", "--yes")
    assert done.err == ""
    assert done.out.startswith("user u-gone is erased; 1 events are kept as erased-")


def test_erase_waits_for_the_spool(cli: Run, world: World) -> None:
    world.beat(spool_depth=2)
    done = erase(cli)
    assert done.code == 1
    assert "2 records wait in a spool and might bring the user back" in done.err
    assert erase(cli, "--force").code == 0


def test_erase_asks_and_shows_hostile_names_as_text(cli: Run, world: World) -> None:
    world.user("u-evil", EVIL)
    done = cli("erase", "u-evil", stdin="n\n")
    assert done.code == 1
    assert "Erase the identity of user [bold red]x[/] gnp.exe second line <evil@example.com> (u-evil)" in done.err
    assert world.store.user("u-evil") is not None


def test_groups_cannot_be_erased(cli: Run, world: World) -> None:
    assert "there is no user 'Staff'" in cli("erase", "Staff", "--yes").err
