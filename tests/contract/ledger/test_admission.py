"""Admission: what is decided, what it holds, and that a refusal writes nothing."""

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

from owui_budget.clock import ManualClock
from owui_budget.domain.decisions import Admission, Allowed, Refused, Warned
from owui_budget.domain.identity import Caller, Counter, CounterKind
from owui_budget.domain.windows import Window
from owui_budget.ledger.protocol import Admitted, Declined, OperationRejectedError, Stale


async def test_an_admitted_call_holds_its_estimate_in_all_four_windows(ledger: TestedLedger) -> None:
    outcome = await admit(ledger, reserve(limit(user(), 100), estimate=30))
    assert outcome.admitted_at == NOON
    assert isinstance(outcome.decision, Allowed)
    assert [(each.used, each.held) for each in outcome.decision.standings] == [(0, 0)]
    assert [await figures(ledger, user(), window) for window in Window] == [(0, 30)] * 4


async def test_what_is_held_counts_against_the_limit(ledger: TestedLedger) -> None:
    await admit(ledger, reserve(limit(user(), 100), estimate=100))
    outcome = await ledger.reserve(reserve(limit(user(), 100), estimate=1))
    assert isinstance(outcome, Declined)
    assert isinstance(outcome.decision, Refused)
    assert (outcome.decision.blocking.used, outcome.decision.blocking.held) == (0, 100)


async def test_last_request_admits_the_call_that_crosses_the_limit(ledger: TestedLedger) -> None:
    await spend(ledger, 99, limit(user(), 100))
    await admit(ledger, reserve(limit(user(), 100), estimate=1_000))
    assert isinstance(await ledger.reserve(reserve(limit(user(), 100))), Declined)


async def test_strict_admits_only_what_fits(ledger: TestedLedger) -> None:
    await spend(ledger, 60, limit(user(), 100))
    too_much = reserve(limit(user(), 100), estimate=41, admission=Admission.STRICT)
    assert isinstance(await ledger.reserve(too_much), Declined)
    await admit(ledger, reserve(limit(user(), 100), estimate=40, admission=Admission.STRICT))


async def test_past_the_soft_limit_a_call_is_warned(ledger: TestedLedger) -> None:
    await spend(ledger, 50, limit(user(), 100, soft=50))
    outcome = await admit(ledger, reserve(limit(user(), 100, soft=50)))
    assert isinstance(outcome.decision, Warned)
    assert [each.used for each in outcome.decision.past_soft] == [50]


async def test_a_refused_call_changes_no_counter(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 100, limit(user(), 100), limit(pool(), 1_000), pools=["g1"])
    store.clock.advance(2 * HOUR)  # an hourly window is over, and must not be rolled by a refusal
    rows, events, held = store.rows(), store.events(), store.open_ids()
    assert isinstance(await ledger.reserve(reserve(limit(user(), 100), limit(pool(), 1_000), pools=["g1"])), Declined)
    assert (store.rows(), store.events(), store.open_ids()) == (rows, events, held)


async def test_a_refusal_names_the_limit_that_resets_last(ledger: TestedLedger) -> None:
    limits = (limit(user(), 10, Window.HOURLY), limit(user(), 10, Window.MONTHLY), limit(user(), 10, Window.DAILY))
    await spend(ledger, 10, *limits)
    outcome = await ledger.reserve(reserve(*limits))
    assert isinstance(outcome, Declined)
    assert isinstance(outcome.decision, Refused)
    assert outcome.decision.blocking.limit.window is Window.MONTHLY


async def test_another_revision_is_stale_and_writes_nothing(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 5, limit(user(), 100))
    rows = store.rows()
    store.set_revision(7)
    assert await ledger.reserve(reserve(limit(user(), 100))) == Stale(7)
    assert (store.rows(), store.open_ids()) == (rows, set())
    await admit(ledger, reserve(limit(user(), 100), revision=7))


async def test_the_next_window_starts_empty(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 100, limit(user(), 100))
    assert isinstance(await ledger.reserve(reserve(limit(user(), 100))), Declined)
    store.clock.advance(DAY / 2)
    outcome = await admit(ledger, reserve(limit(user(), 100)))
    assert isinstance(outcome.decision, Allowed)
    assert [each.used for each in outcome.decision.standings] == [0]
    assert await figures(ledger, user(), Window.WEEKLY) == (100, 10)


async def test_the_test_clock_moves_windows(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 100, limit(user(), 100))
    store.set_offset(DAY)
    outcome = await admit(ledger, reserve(limit(user(), 100)))
    assert outcome.admitted_at == NOON + DAY
    assert ledger.now() == NOON + DAY
    state = ledger.known_state()
    assert state is not None
    assert state.clock_offset == DAY


async def test_windows_never_move_back_where_a_clock_is_behind(store: Store) -> None:
    ahead = await store.open("ahead")
    store.clock.advance(DAY)
    await spend(ahead, 40, limit(user(), 100))
    if store.kind == "postgres":
        behind = await store.open("behind", clock=ManualClock(NOON))
    else:
        store.clock.advance(-DAY)
        behind = ahead
    outcome = await admit(behind, reserve(limit(user(), 100)))
    assert outcome.admitted_at == NOON + DAY  # the start of the row's newest (hourly) window, which began at noon
    assert [each.used for each in outcome.decision.standings] == [40]
    assert await behind.verify() == []


async def test_a_pool_is_refused_for_all_its_members(ledger: TestedLedger) -> None:
    await spend(ledger, 100, limit(pool(), 100), pools=["g1"])
    other = reserve(limit(pool(), 100), call=call("u2", ("g1",)))
    assert isinstance(await ledger.reserve(other), Declined)


async def test_calls_of_nobody_and_of_no_counter_are_admitted_and_recorded(ledger: TestedLedger, store: Store) -> None:
    service = Counter(CounterKind.SERVICE, "key-1")
    asked = call(None, caller=Caller.SERVICE, service_id="key-1")
    request = reserve(limit(service, 50), call=asked, estimate=20)
    await admit(ledger, request)
    assert await ledger.settle(settled(request, 20))
    free = reserve(call=call(), counters=(), estimate=0)
    await admit(ledger, free)
    assert await ledger.settle(settled(free, 0))
    by_id = {each.reservation_id: each for each in store.events()}
    assert (by_id[request.id].service_id, by_id[request.id].user_id, by_id[request.id].charge) == ("key-1", None, 20)
    assert (by_id[free.id].counters, by_id[free.id].charge) == ((), 0)
    assert await figures(ledger, service) == (20, 0)


async def test_a_limit_on_a_counter_that_is_not_reserved_is_rejected(ledger: TestedLedger, store: Store) -> None:
    with pytest.raises(OperationRejectedError, match="user:u2"):
        await ledger.reserve(reserve(limit(user("u2"), 10), counters=(user(),)))
    assert store.open_ids() == set()


async def test_a_reservation_id_serves_once(ledger: TestedLedger, store: Store) -> None:
    request = reserve(limit(user(), 100), estimate=10)
    await admit(ledger, request)
    with pytest.raises(OperationRejectedError):
        await ledger.reserve(request)
    assert await figures(ledger, user()) == (0, 10)


async def test_one_bad_operation_does_not_fail_its_batch(ledger: TestedLedger) -> None:
    """The bad one has an id that is taken, so that the store finds out, not the planner."""
    taken = reserve(limit(user(), 1_000), estimate=1)
    await admit(ledger, taken)
    good = [reserve(limit(user(), 1_000), estimate=1) for _ in range(20)]
    outcomes = await asyncio.gather(
        *(ledger.reserve(each) for each in [*good[:10], taken, *good[10:]]), return_exceptions=True
    )
    assert isinstance(outcomes.pop(10), OperationRejectedError)
    assert all(isinstance(each, Admitted) for each in outcomes)
    assert await figures(ledger, user()) == (0, 21)


async def test_text_from_clients_that_no_database_stores_is_made_storable(ledger: TestedLedger, store: Store) -> None:
    request = reserve(call=call(model="a\x00b\ud800c" + "x" * 10_000))
    await admit(ledger, request)
    assert await ledger.settle(settled(request, 5, model="\x00\udfff"))
    [event] = store.events()
    assert event.model == "\ufffd?"


async def test_a_reserve_whose_caller_has_gone_leaves_nothing_held(ledger: TestedLedger, store: Store) -> None:
    await spend(ledger, 1, limit(user(), 100))
    tasks = [asyncio.create_task(ledger.reserve(reserve(limit(user(), 100)))) for _ in range(8)]
    for steps, task in enumerate(tasks):
        for _ in range(steps):  # cancelled while queued, while running, when answered
            await asyncio.sleep(0)
        task.cancel()
    answers = await asyncio.gather(*tasks, return_exceptions=True)
    kept = sum(isinstance(each, Admitted) for each in answers)
    await ledger.standings([])
    await ledger._flusher.drain()
    assert await figures(ledger, user()) == (1, 10 * kept)
    assert len(store.open_ids()) == kept
    assert await ledger.verify() == []


async def test_a_reserve_that_timed_out_may_still_be_settled(ledger: TestedLedger, store: Store) -> None:
    """`on_ledger_error: open` runs the call all the same, under the same id."""
    request = reserve(limit(user(), 100), estimate=10)
    task = asyncio.create_task(ledger.reserve(request))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert await ledger.settle(settled(request, 7))
    await ledger._flusher.drain()
    assert await figures(ledger, user()) == (7, 0)
    assert not await ledger.settle(settled(request, 7))
