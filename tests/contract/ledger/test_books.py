"""What only databases keep: retention, erasure, reports, heartbeats."""

from dataclasses import replace

import pytest
import sqlalchemy as sa
from support.ledgers import (
    DAY,
    HOUR,
    NOON,
    Store,
    TestedLedger,
    admit,
    call,
    figures,
    limit,
    pool,
    reserve,
    settled,
    spend,
    user,
)

from owui_budget.database.tables import metadata, policy_members, policy_users, usage_daily
from owui_budget.domain.identity import Kind
from owui_budget.domain.windows import Window
from owui_budget.ledger.erase import erase_user
from owui_budget.ledger.processes import FORGOTTEN_AFTER, Heartbeat, forget_process, read_heartbeats, write_heartbeat
from owui_budget.ledger.protocol import NoticeClaim
from owui_budget.ledger.reports import By, UsageLine, Wanted, current, top_users, usage
from owui_budget.ledger.retention import Retained, retain

pytestmark = pytest.mark.parametrize("store", ["sqlite", "postgres"], indirect=True)

EVER = Wanted(0.0, NOON + 1_000 * DAY)


def charges(engine: sa.Engine, by: By, wanted: Wanted = EVER) -> dict[str, int]:
    return {line.key: line.charge for line in usage(engine, by, wanted).lines}


async def test_old_events_are_rolled_up_and_sums_stay(ledger: TestedLedger, store: Store, engine: sa.Engine) -> None:
    await spend(ledger, 10)
    await spend(ledger, 20, call=call("u2", kind=Kind.API))
    lost = reserve(estimate=7)
    await admit(ledger, lost)
    store.clock.advance(200)
    await ledger.sweep()
    await ledger.settle(settled(lost, 4))
    store.clock.advance(400 * DAY)
    await spend(ledger, 5)
    before = {by: usage(engine, by, EVER) for by in (By.USER, By.MODEL, By.KIND, By.DECIDING_GROUP)}
    assert retain(engine, store.clock, 401) == Retained(counters=1)  # of u2, who was not seen since
    store.clock.advance(DAY)
    assert retain(engine, store.clock, 400) == Retained(days=1, events=4)
    assert len(store.events()) == 1
    assert {by: usage(engine, by, EVER) for by in before} == before
    assert charges(engine, By.USER) == {"u1": 19, "u2": 20}
    assert charges(engine, By.DAY, Wanted(NOON, NOON + HOUR)) == {"2026-07-20": 34}
    assert await ledger.verify() == []
    assert retain(engine, store.clock, 400) == Retained()


async def test_an_event_that_comes_after_its_day_was_rolled_up_is_added(
    ledger: TestedLedger, store: Store, engine: sa.Engine
) -> None:
    await spend(ledger, 10)
    store.clock.advance(500 * DAY)
    retain(engine, store.clock, 400)
    assert await ledger.settle(settled(reserve(), 5, NOON))
    assert retain(engine, store.clock, 400).events == 1
    with engine.begin() as connection:
        assert connection.execute(sa.select(usage_daily.c.calls, usage_daily.c.charge)).all() == [(2, 15)]


async def test_counters_forgotten_by_retention_start_again(
    ledger: TestedLedger, store: Store, engine: sa.Engine
) -> None:
    await spend(ledger, 10, limit(pool(), 100), pools=["g1"])
    store.clock.advance(100 * DAY)
    assert retain(engine, store.clock, 62).counters == 2
    await spend(ledger, 3, limit(pool(), 100), pools=["g1"])
    assert await figures(ledger, pool()) == (3, 0)
    assert await ledger.verify() == []


async def test_erasing_a_user_keeps_sums_and_drops_the_name(
    ledger: TestedLedger, store: Store, engine: sa.Engine
) -> None:
    await spend(ledger, 10, limit(user('a"b'), 100), limit(pool(), 100), call=call('a"b', ("g1",)))
    running = reserve(limit(user('a"b'), 100), limit(pool(), 100), estimate=4, call=call('a"b', ("g1",)))
    await admit(ledger, running)
    await spend(ledger, 20, limit(pool(), 100), pools=["g1"])
    await ledger.claim_notice([NoticeClaim('a"b', 'user:a"b', "daily", 0, "soft", 100)])
    store.execute(sa.insert(policy_users).values(id='a"b', email="a@example.org", name="A", role="user"))
    store.execute(sa.insert(policy_members).values(group_id="g1", user_id='a"b'))
    erased = erase_user(engine, 'a"b')
    assert erased.events == 1
    assert await figures(ledger, pool()) == (30, 4)
    assert await figures(ledger, user(erased.pseudonym)) == (10, 4)
    assert await ledger.settle(settled(running, 6))
    assert await figures(ledger, user(erased.pseudonym)) == (16, 0)
    assert await ledger.verify() == []
    with engine.begin() as connection:
        everything = "".join(repr(connection.execute(sa.select(each)).all()) for each in metadata.sorted_tables)
    assert 'a"b' not in everything
    assert "example.org" not in everything
    assert erase_user(engine, "unknown").events == 0


async def test_reports_by_everything(ledger: TestedLedger, store: Store, engine: sa.Engine) -> None:
    await spend(ledger, 11, call=call("u1", ("g1", "g2"), deciding_group_id="g1"))
    await spend(ledger, 20, call=call("u2", ("g1",), kind=Kind.API, model="m2"))
    store.clock.advance(DAY)
    await spend(ledger, 5, call=call("u1", ("g2",)))
    await ledger.adjust(user("u1"), -1, "goodwill")
    assert charges(engine, By.USER) == {"u1": 15, "u2": 20}
    assert charges(engine, By.GROUP) == {"g1": 31, "g2": 16}
    assert charges(engine, By.DECIDING_GROUP) == {"g1": 11, "": 24}
    assert charges(engine, By.KIND) == {"chat": 16, "api": 20, "service": -1}
    assert charges(engine, By.DAY, Wanted(NOON, NOON + DAY + HOUR)) == {"2026-07-21": 4, "2026-07-20": 31}
    assert charges(engine, By.USER, replace(EVER, group_id="g2")) == {"u1": 16}
    assert charges(engine, By.MODEL, replace(EVER, user_id="u1")) == {"m1": 16, "": -1}
    assert charges(engine, By.USER, Wanted(NOON, NOON + 1)) == {"u2": 20, "u1": 11}
    assert usage(engine, By.USER, Wanted(NOON, NOON + 1, user_id="u1")).lines == (
        UsageLine("u1", 1, 5, 6, 0, 0, 11, 0),
    )
    page = usage(engine, By.USER, EVER, limit=1, offset=1)
    assert ([line.key for line in page.lines], page.total) == (["u1"], 2)
    days = usage(engine, By.DAY, Wanted(NOON - 5 * DAY, NOON + DAY + HOUR), limit=2)
    assert ([line.charge for line in days.lines], days.total) == ([4, 31], 7)
    assert [line.key for line in top_users(engine, "g1", 0, NOON + DAY).lines] == ["u2", "u1"]


async def test_current_windows_of_a_user(ledger: TestedLedger, store: Store, engine: sa.Engine) -> None:
    await spend(ledger, 10)
    await admit(ledger, reserve(estimate=3))
    store.clock.advance(HOUR)
    found = {each.window: (each.used, each.held) for each in current(engine, store.clock, [user()])}
    assert found == {Window.HOURLY: (0, 0), Window.DAILY: (10, 3), Window.WEEKLY: (10, 3), Window.MONTHLY: (10, 3)}


async def test_heartbeats(store: Store, engine: sa.Engine) -> None:
    beat = Heartbeat("p1", "hooks", "host", 7, "0.1.0", NOON, NOON, problems=("a", "b"))
    write_heartbeat(engine, replace(beat, id="p2", seen_at=NOON + 1))
    write_heartbeat(engine, beat)
    later = replace(beat, seen_at=NOON + 5, spool_depth=3, open_since=NOON, policy_revision=4, limits_digest="d")
    write_heartbeat(engine, later)
    assert [each.id for each in read_heartbeats(engine)] == ["p1", "p2"]
    assert read_heartbeats(engine)[0] == later
    forget_process(engine, "p2")
    write_heartbeat(engine, replace(beat, id="p3", seen_at=NOON + 6 + FORGOTTEN_AFTER))
    assert [each.id for each in read_heartbeats(engine)] == ["p3"]
