from support.ledgers import DAY, HOUR, NOON

from owui_budget.limits_file import load_limits

from .conftest import EVIL, Run, World


def problems(cli: Run) -> list[str]:
    done = cli("status", "--json")
    found: list[str] = done.json["problems"]
    assert done.code == (2 if found else 0)
    return found


def well(world: World) -> None:
    world.synced()
    world.beat("hooks", policy_revision=3, limits_digest=digest(world))
    world.beat("sync")


def digest(world: World) -> str:
    return load_limits(world.limits_file).digest


def test_all_is_well(cli: Run, world: World) -> None:
    well(world)
    world.spend("u-alice", 5, "g-staff")
    done = cli("status", "--json")
    assert done.code == 0
    answer = done.json
    assert answer["sync"] == {
        "leader_id": "sync-1", "leading": True, "fence": 0, "last_started_at": "2026-07-20T11:59:56+00:00",
        "last_success_at": "2026-07-20T11:59:57+00:00", "lag_seconds": 3.0, "last_error": None, "problems": [],
    }  # fmt: skip
    [hooks, sync] = sorted(answer["processes"], key=lambda each: str(each["kind"]))
    assert hooks == {
        "id": "hooks-1", "kind": "hooks", "host": "box", "pid": 77, "version": "0.1.0", "alive": True,
        "started_at": "2026-07-20T11:00:00+00:00", "seen_at": "2026-07-20T11:59:58+00:00", "seconds_since_seen": 2.0,
        "policy_revision": 3, "limits_digest": digest(world), "spool_depth": 0, "open_since": None, "problems": [],
    }  # fmt: skip
    assert sync["kind"] == "sync"
    assert answer["ledger"] == {
        "revision": 3, "zone": "UTC", "now": "2026-07-20T12:00:00+00:00", "clock_offset": 0.0, "counters": 2,
        "open_calls": 0, "events_of_a_day": 1, "oldest_event_at": "2026-07-20T12:00:00+00:00", "groups": 3,
        "limited_groups": 2, "users": 4,
    }  # fmt: skip
    assert answer["problems"] == []


def test_the_text_for_people(cli: Run, world: World) -> None:
    well(world)
    lines = cli("status").out.splitlines()
    assert "last success\t3 s ago" in lines
    assert "hooks\tbox\t77\t0.1.0\t1 h\t2 s ago\t3\t0\t-" in lines
    assert "groups\t3 (2 with limits)" in lines
    assert lines[-2:] == ["# problems", "none"]


def test_a_fresh_installation(cli: Run, world: World) -> None:
    assert problems(cli) == [
        "sync has never succeeded; start it with `owui-budget run`",
        "no LiteLLM process with the budget hooks is running: nothing is counted or refused",
    ]


def test_sync_in_trouble(cli: Run, world: World) -> None:
    well(world)
    world.synced(
        last_success_at=NOON - HOUR, last_error="Open WebUI answered 503", problems=["3 customers are strange"]
    )
    assert problems(cli) == [
        "sync last succeeded 1 h ago; its log says why",
        "the last sync failed: Open WebUI answered 503",
        "3 customers are strange",
    ]


def test_processes_in_trouble(cli: Run, world: World) -> None:
    well(world)
    world.beat("hooks", spool_depth=1_200, open_since=NOON - 120, limits_digest="other", problems=("a forged header",))
    world.beat("hooks", id="hooks-2", pid=78, seen_at=NOON - 300)
    assert problems(cli) == [
        "hooks process box:77 keeps 1,200 records in its spool that the ledger has not taken yet",
        "hooks process box:77 has admitted without the ledger for 2 min",
        "hooks process box:77 reads another limits.yaml than this command; give both the same file and restart it",
        "hooks process box:77: a forged header",
        "hooks process box:78 was last heard of 5 min ago",
    ]


def test_a_process_that_was_killed_and_started_again(cli: Run, world: World) -> None:
    well(world)
    world.beat("hooks", id="hooks-0", pid=70, started_at=NOON - 9_000, seen_at=NOON - 4_000)
    assert problems(cli) == []


def test_groups_in_trouble_and_hostile_names(cli: Run, world: World) -> None:
    well(world)
    world.group("g-evil", EVIL, problem="priority must be a whole number, not '[b]'")
    world.group("g-kept", "Kept", {"member": {"daily": {"hard": 5}}}, problem="version is missing")
    assert problems(cli) == [
        "group Kept (g-kept): version is missing; its last valid limits hold",
        "group [bold red]x[/] gnp.exe second line (g-evil): priority must be a whole number, not '[b]'; "
        "it has no limits",
    ]
    lines = cli("status").out.splitlines()
    assert lines[-1].startswith("- group [bold red]x[/] gnp.exe second line (g-evil)")


def test_a_test_clock_that_was_forgotten(cli: Run, world: World) -> None:
    well(world)
    world.move_clock(DAY)
    [problem] = problems(cli)
    assert problem.startswith("the test clock is on: the ledger is 1 d ahead of the machine's clock")
