"""Adjustments, resets, the books, zones, notices: what is done beside calls."""

import pytest
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

from owui_budget.domain.windows import Window
from owui_budget.ledger.protocol import Declined, Discrepancy, NoticeClaim, Stale


async def test_an_adjustment_counts_in_all_current_windows_and_is_an_event(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 10, limit(user(), 100))
    await ledger.adjust(user(), 25, "goodwill of the month")
    await ledger.adjust(user(), -5, "too much")
    assert [await figures(ledger, user(), window) for window in Window] == [(30, 0)] * 4
    adjusted = [each for each in store.events() if each.type == "adjustment"]
    assert [(each.charge, each.reason, each.user_id) for each in adjusted] == [
        (25, "goodwill of the month", "u1"),
        (-5, "too much", "u1"),
    ]
    assert await ledger.verify() == []


async def test_an_adjustment_of_somebody_unknown_opens_the_counter(ledger: TestedLedger) -> None:
    await ledger.adjust(user("new"), 7, "carried over")
    await spend(ledger, 3, pools=["g1"])
    await ledger.adjust(pool(), 7, "carried over")
    assert await figures(ledger, user("new")) == (7, 0)
    assert await figures(ledger, pool()) == (10, 0)
    assert await ledger.verify() == []


async def test_a_reset_brings_every_window_to_zero(ledger: TestedLedger, store: Store) -> None:
    for step in (0.0, 8 * DAY, DAY, HOUR):  # something in each window that is not in the shorter ones
        store.clock.advance(step)
        await spend(ledger, 10, limit(user(), 1_000))
    held = reserve(limit(user(), 1_000), estimate=4)
    await admit(ledger, held)
    assert await ledger.reset(user(), "a new start") == {"hourly": 10, "daily": 20, "weekly": 30, "monthly": 40}
    assert [await figures(ledger, user(), window) for window in Window] == [(0, 4)] * 4
    assert await ledger.verify() == []
    assert await ledger.reset(user(), "again") == dict.fromkeys(Window, 0)
    assert await ledger.settle(settled(held, 6, store.clock.now()))
    assert await figures(ledger, user()) == (6, 0)


async def test_a_reset_where_the_week_began_in_the_month_before(ledger: TestedLedger, store: Store) -> None:
    store.clock.advance(10 * DAY)  # Thursday, 30 July
    await spend(ledger, 10)
    store.clock.advance(3 * DAY)  # Sunday, 2 August: same week, another month
    await spend(ledger, 5)
    assert await ledger.reset(user(), "") == {"hourly": 5, "daily": 5, "weekly": 15, "monthly": 5}
    assert [await figures(ledger, user(), window) for window in Window] == [(0, 0)] * 4
    assert await ledger.verify() == []


async def test_a_reset_of_a_pool_that_is_not_counted_yet(ledger: TestedLedger) -> None:
    await spend(ledger, 10, pools=["g1"])
    assert await ledger.reset(pool(), "term begins") == dict.fromkeys(Window, 10)
    await admit(ledger, reserve(limit(pool(), 5), pools=["g1"]))
    assert await ledger.verify() == []


async def test_the_books_agree_and_a_spoilt_counter_is_found_and_mended(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 10, limit(user(), 100))
    await admit(ledger, reserve(limit(user(), 100), estimate=3))
    assert await ledger.verify() == []
    store.spoil("user:u1", Window.DAILY, 77)
    expected = [Discrepancy("user:u1", "daily", "used", 77, 10)]
    assert await ledger.verify() == expected
    assert await ledger.repair() == expected
    assert await ledger.verify() == await ledger.repair() == []
    assert await figures(ledger, user()) == (10, 3)


async def test_a_change_of_zone_rebuilds_the_current_windows(store: Store) -> None:
    first = await store.open("p1")
    store.clock.advance(-11 * HOUR)  # 01:00 UTC on Monday
    await spend(first, 10, limit(user(), 100), limit(pool(), 100), pools=["g1"])
    store.clock.advance(11 * HOUR)
    await spend(first, 5, limit(user(), 100), pools=["g1"])
    running = reserve(limit(user(), 100), limit(pool(), 100), estimate=4, pools=["g1"])
    await admit(first, running)
    if store.kind == "sqlite":
        await first.close()
    # In New York, 01:00 UTC was still Sunday: another day and another week.
    second = await store.open("p2", zone="America/New_York")
    assert (await second.state()).zone == "America/New_York"
    assert await second.reserve(reserve(limit(user(), 100))) == Stale(1)
    for counter in (user(), pool()):
        assert [await figures(second, counter, window) for window in Window] == [(5, 4), (5, 4), (5, 4), (15, 4)]
    assert await second.verify() == []
    assert await second.settle(settled(running, 9))
    assert await figures(second, user()) == (14, 0)
    assert await second.verify() == []


async def test_a_change_of_zone_keeps_windows_that_another_clock_has_opened(store: Store) -> None:
    first = await store.open("p1")
    await spend(first, 1, call=call("u2"))
    store.clock.advance(DAY)
    await spend(first, 10, limit(user(), 100))
    store.clock.advance(-DAY)
    if store.kind == "sqlite":
        await first.close()
    second = await store.open("p2", zone="Europe/Berlin")
    assert await figures(second, user()) == (10, 0)
    assert await figures(second, user("u2")) == (1, 0)
    outcome = await admit(second, reserve(limit(user(), 100), revision=1))
    assert outcome.admitted_at == NOON + DAY
    assert await second.verify() == []


async def test_the_ledger_s_zone_is_the_truth_for_every_process(store: Store) -> None:
    first = await store.open("p1", zone="Asia/Tokyo")
    if store.kind == "sqlite":
        beside = await store.open("cli", zone="UTC", serve=False)
        assert (await beside.state()).zone == "Asia/Tokyo"
        return
    second = first if store.kind == "memory" else await store.open("p2", zone="Asia/Tokyo")
    state = await second.state()
    assert state.zone == "Asia/Tokyo"
    outcome = await admit(second, reserve(limit(user(), 100), revision=state.revision))
    [standing] = outcome.decision.standings
    assert standing.span.start == NOON + 3 * HOUR - DAY  # midnight in Tokyo is 15:00 UTC the day before


async def test_a_notice_is_claimed_once(ledger: TestedLedger) -> None:
    soft = NoticeClaim("u1", "user:u1", "daily", int(NOON), "soft", 100)
    raised = NoticeClaim("u1", "user:u1", "daily", int(NOON), "soft", 200)
    assert await ledger.claim_notice([]) == []
    assert list(await ledger.claim_notice([soft])) == [soft]
    assert list(await ledger.claim_notice([soft, raised])) == [raised]


async def test_standings_change_nothing(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 10, limit(user(), 100))
    store.clock.advance(DAY)
    rows = store.rows()
    assert await figures(ledger, user()) == (0, 0)
    assert await figures(ledger, user(), Window.WEEKLY) == (10, 0)
    assert await figures(ledger, user("nobody")) == (0, 0)
    assert store.rows() == rows


async def test_removed_limits_leave_counters_that_later_limits_see(ledger: TestedLedger) -> None:
    """Counters exist for every user and all windows, limited or not."""
    await spend(ledger, 80)
    assert isinstance(await ledger.reserve(reserve(limit(user(), 80, Window.MONTHLY))), Declined)


@pytest.mark.parametrize("closings", [1, 2])
async def test_closing_is_safe_to_repeat(ledger: TestedLedger, closings: int) -> None:
    await spend(ledger, 1)
    for _ in range(closings):
        await ledger.close()
