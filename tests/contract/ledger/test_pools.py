"""Pools: counted from the moment they are limited, starting from what their window has seen."""

from support.ledgers import DAY, Store, TestedLedger, admit, call, figures, limit, pool, reserve, settled, spend, user

from owui_budget.domain.windows import Window
from owui_budget.ledger.protocol import Declined


async def test_a_pool_that_becomes_limited_starts_from_its_events(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 30, pools=["g1"])
    store.clock.advance(DAY)
    await spend(ledger, 12, call=call("u2", ("g1", "g2")))
    await spend(ledger, 5, call=call("u3", ("g2",)))
    assert "pool:g1" not in store.rows()
    outcome = await admit(ledger, reserve(limit(pool(), 100), limit(pool(), 1_000, Window.WEEKLY), pools=["g1"]))
    assert [each.used for each in outcome.decision.standings] == [12, 42]
    assert await ledger.verify() == []


async def test_a_pool_that_becomes_limited_counts_calls_in_flight(ledger: TestedLedger) -> None:
    early = reserve(estimate=40, call=call("u2", ("g1",)))
    await admit(ledger, early)
    outcome = await admit(ledger, reserve(limit(pool(), 100), estimate=1, pools=["g1"]))
    assert [(each.used, each.held) for each in outcome.decision.standings] == [(0, 40)]
    assert await ledger.settle(settled(early, 25))
    assert await figures(ledger, pool()) == (25, 1)
    assert await ledger.verify() == []


async def test_a_pool_over_its_new_limit_refuses_at_once(ledger: TestedLedger) -> None:
    await spend(ledger, 100, pools=["g1"])
    assert isinstance(await ledger.reserve(reserve(limit(pool(), 100), pools=["g1"])), Declined)


async def test_a_pool_whose_limit_goes_and_comes_back_missed_nothing(ledger: TestedLedger) -> None:
    await spend(ledger, 10, limit(pool(), 100), pools=["g1"])
    await spend(ledger, 20, pools=["g1"])  # not limited now
    running = reserve(estimate=5, pools=["g1"])
    await admit(ledger, running)
    outcome = await admit(ledger, reserve(limit(pool(), 100), pools=["g1"]))
    assert [(each.used, each.held) for each in outcome.decision.standings] == [(30, 5)]
    assert await ledger.verify() == []


async def test_a_lost_call_counts_in_a_pool_opened_meanwhile(ledger: TestedLedger, store: Store) -> None:
    await admit(ledger, reserve(estimate=40, call=call("u2", ("g1",))))
    await admit(ledger, reserve(limit(pool(), 100), estimate=1, pools=["g1"]))
    store.clock.advance(200)
    assert (await ledger.sweep()).expired == 2
    assert await figures(ledger, pool()) == (41, 0)
    assert await ledger.verify() == []


async def test_a_call_that_does_not_count_in_pools_is_not_in_one_opened_later(ledger: TestedLedger) -> None:
    """Exempt admins and tasks within their allowance name no pool groups."""
    await spend(ledger, 30)
    await spend(ledger, 1, pools=["g1"])
    assert await figures(ledger, pool()) == (1, 0)


async def test_standings_of_a_pool_that_is_not_counted_yet_come_from_events(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 30, pools=["g1"])
    rows = store.rows()
    assert await figures(ledger, pool()) == (30, 0)
    assert store.rows() == rows


async def test_replays_count_in_pools_opened_before_and_after(ledger: TestedLedger) -> None:
    await spend(ledger, 1, limit(pool(), 100), pools=["g1", "g2"])
    unseen = reserve(limit(user(), 100), pools=["g1", "g2"])
    assert await ledger.settle(settled(unseen, 10))
    assert await figures(ledger, pool("g1")) == (11, 0)
    await admit(ledger, reserve(limit(pool("g2"), 100), pools=["g2"], estimate=0))
    assert await figures(ledger, pool("g2")) == (11, 0)
    assert await ledger.verify() == []
