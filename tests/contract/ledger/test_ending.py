"""The end of a call: charged once, in the windows it was admitted in, whatever is repeated, late or lost."""

import asyncio

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

from owui_budget.domain.charge import Usage
from owui_budget.domain.windows import Window
from owui_budget.ledger.operations import Abandon
from owui_budget.ledger.protocol import Ending, OperationRejectedError, Swept

LEASE = 120.0


async def test_settling_turns_the_hold_into_the_charge(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), limit(pool(), 1_000), estimate=30, pools=["g1", "g2"])
    admitted = await admit(ledger, request)
    store.clock.advance(5)
    assert await ledger.settle(settled(request, 50, admitted.admitted_at, model="answered"))
    assert [await figures(ledger, user(), window) for window in Window] == [(50, 0)] * 4
    assert await figures(ledger, pool()) == (50, 0)
    [event] = store.events()
    assert (event.type, event.at, event.recorded_at) == ("usage", NOON, NOON + 5)
    assert (event.model, event.prompt, event.completion, event.charge) == ("answered", 25, 25, 50)
    assert event.counters == ("user:u1", "pool:g1", "pool:g2")  # g2 is not limited, and may be one day
    assert store.open_ids() == set()
    assert await ledger.verify() == []


async def test_a_charge_is_applied_once(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    answers = await asyncio.gather(*(ledger.settle(settled(request, 50)) for _ in range(5)))
    assert sorted(answers) == [False, False, False, False, True]
    assert not await ledger.settle(settled(request, 60))
    assert not await ledger.release(request.id)
    assert await figures(ledger, user()) == (50, 0)
    assert len(store.events()) == 1


async def test_a_release_gives_the_hold_back_for_good(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    assert await ledger.release(request.id)
    assert not await ledger.release(request.id)
    assert not await ledger.settle(settled(request, 50))
    assert await figures(ledger, user()) == (0, 0)
    assert store.events() == []


async def test_releasing_what_was_never_reserved_changes_nothing(ledger: TestedLedger, store: Store) -> None:
    assert not await ledger.release("unknown")
    assert (store.rows(), store.events()) == ({}, [])


async def test_a_call_belongs_to_the_windows_it_was_admitted_in(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=10)
    await admit(ledger, request)
    store.clock.advance(DAY)
    await spend(ledger, 3, limit(user(), 100))  # the day has moved on
    assert await figures(ledger, user()) == (3, 0)
    assert await ledger.settle(settled(request, 50))
    assert await figures(ledger, user()) == (3, 0)
    assert await figures(ledger, user(), Window.WEEKLY) == (53, 0)
    assert [each.at for each in store.events() if each.reservation_id == request.id] == [NOON]
    assert await ledger.verify() == []


async def test_a_release_touches_only_windows_that_are_not_over(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=10)
    await admit(ledger, request)
    store.clock.advance(HOUR)
    other = reserve(limit(user(), 100), estimate=7)
    await admit(ledger, other)
    assert await figures(ledger, user(), Window.HOURLY) == (0, 7)
    assert await ledger.release(request.id)
    assert await figures(ledger, user(), Window.HOURLY) == (0, 7)
    assert await figures(ledger, user(), Window.DAILY) == (0, 7)


async def test_a_lease_that_ran_out_is_charged_as_its_estimate(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=30, pools=["g1"])
    await admit(ledger, request)
    store.clock.advance(LEASE - 1)
    assert await ledger.sweep() == Swept()
    store.clock.advance(1)
    assert await ledger.sweep() == Swept(expired=1)
    assert await ledger.sweep() == Swept()
    assert await figures(ledger, user()) == (30, 0)
    [event] = store.events()
    assert (event.type, event.charge, event.estimated, event.ending) == ("estimate", 30, True, Ending.LOST)
    assert (event.at, event.counters) == (NOON, ("user:u1", "pool:g1"))


async def test_a_renewed_lease_does_not_run_out(ledger: TestedLedger, store: Store) -> None:
    renewed, lost = reserve(limit(user(), 100)), reserve(limit(user(), 100))
    await admit(ledger, renewed)
    await admit(ledger, lost)
    for _ in range(4):
        store.clock.advance(LEASE / 3)
        await ledger.renew([renewed.id, "unknown"])
    assert await ledger.sweep() == Swept(expired=1)
    assert store.open_ids() == {renewed.id}
    await ledger.renew([])


@pytest.mark.parametrize("charge", [0, 12, 30, 300])
async def test_a_late_end_corrects_the_estimate_once(ledger: TestedLedger, store: Store, charge: int) -> None:
    request = reserve(limit(user(), 100), limit(pool(), 1_000), estimate=30, pools=["g1"])
    await admit(ledger, request)
    store.clock.advance(LEASE)
    await ledger.sweep()
    assert await ledger.settle(settled(request, charge, usage=Usage(charge, 0, cached=1, reasoning=0)))
    assert not await ledger.settle(settled(request, charge))
    assert not await ledger.release(request.id)
    assert await figures(ledger, user()) == (charge, 0)
    assert await figures(ledger, pool()) == (charge, 0)
    events = store.events()
    assert {each.type for each in events} == {"estimate", "correction"}
    assert sum(each.charge for each in events) == charge
    assert (sum(each.prompt for each in events), sum(each.cached for each in events)) == (charge, 1)
    assert await ledger.verify() == []


async def test_a_late_release_takes_the_estimate_back_once(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=30)
    await admit(ledger, request)
    store.clock.advance(LEASE)
    await ledger.sweep()
    assert await ledger.release(request.id)
    assert not await ledger.release(request.id)
    assert not await ledger.settle(settled(request, 20))
    assert await figures(ledger, user()) == (0, 0)
    assert sum(each.charge for each in store.events()) == 0
    assert await ledger.verify() == []


async def test_a_late_end_after_its_day_changes_that_day_alone(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=30)
    await admit(ledger, request)
    store.clock.advance(DAY)
    await ledger.sweep()
    await spend(ledger, 4, limit(user(), 100))
    assert await ledger.settle(settled(request, 20))
    assert await figures(ledger, user()) == (4, 0)
    assert await figures(ledger, user(), Window.WEEKLY) == (24, 0)
    assert await ledger.verify() == []


async def test_a_call_admitted_out_of_reach_is_charged_once(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), limit(pool(), 1_000), pools=["g1"])
    store.clock.advance(60)
    assert await ledger.settle(settled(request, 40, NOON))
    assert not await ledger.settle(settled(request, 40, NOON))
    assert await figures(ledger, user()) == (40, 0)
    assert await figures(ledger, pool()) == (40, 0)
    [event] = store.events()
    assert (event.at, event.type) == (NOON, "usage")
    assert await ledger.verify() == []


async def test_a_replay_from_yesterday_leaves_today_alone(ledger: TestedLedger, store: Store) -> None:
    store.clock.advance(DAY)
    await spend(ledger, 5, limit(user(), 100))
    assert await ledger.settle(settled(reserve(limit(user(), 100)), 40, NOON))
    assert await figures(ledger, user()) == (5, 0)
    assert await figures(ledger, user(), Window.WEEKLY) == (45, 0)
    assert await ledger.verify() == []


async def test_a_replay_cannot_open_windows_of_the_future(ledger: TestedLedger, store: Store) -> None:
    assert await ledger.settle(settled(reserve(limit(user(), 100)), 40, NOON + 400 * DAY))
    assert [each.at for each in store.events()] == [NOON]
    assert await figures(ledger, user()) == (40, 0)


async def test_what_the_reservation_held_counts_not_what_the_settlement_says(ledger: TestedLedger) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    assert await ledger.settle(settled(request, 9, call=call("u2"), counters=(user("u2"), pool("g9"))))
    assert await figures(ledger, user()) == (9, 0)
    assert await figures(ledger, user("u2")) == (0, 0)
    assert await ledger.verify() == []


@pytest.mark.parametrize("charge", [-1, 10**15 + 1, 10**30])
async def test_a_charge_nobody_can_mean_is_rejected(ledger: TestedLedger, store: Store, charge: int) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    with pytest.raises(OperationRejectedError, match="charge must be from 0"):
        await ledger.settle(settled(request, charge, usage=Usage()))
    assert await figures(ledger, user()) == (0, 10)
    assert store.open_ids() == {request.id}


async def test_an_admission_nobody_learned_of_is_undone_even_after_its_lease(
    ledger: TestedLedger, store: Store
) -> None:
    ran, refused, done = (reserve(limit(user(), 1_000), estimate=30) for _ in range(3))
    for each in (ran, refused, done):
        await admit(ledger, each)
    assert await ledger.settle(settled(done, 1))
    store.clock.advance(LEASE)
    assert await ledger.sweep() == Swept(expired=2)
    for each in (ran, refused, done, ran):
        await ledger._submit(Abandon(each.id))
    assert await figures(ledger, user()) == (1, 0)
    assert await ledger.settle(settled(ran, 7))  # `on_ledger_error: open` ran it under the same id
    assert not await ledger.settle(settled(ran, 7))
    assert await figures(ledger, user()) == (8, 0)
    assert await ledger.verify() == []


async def test_tombstones_of_released_calls_do_not_stay(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    await ledger.release(request.id)
    store.clock.advance(47 * HOUR)
    assert await ledger.sweep() == Swept()
    store.clock.advance(2 * HOUR)
    assert await ledger.sweep() == Swept(purged=1)
