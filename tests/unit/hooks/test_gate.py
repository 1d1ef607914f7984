import asyncio
import time
from collections.abc import Callable
from decimal import Decimal

import pytest
from kit import NOW, FakeSpool, Flaky, Walk, limit

from owui_budget.clock import ManualClock
from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Admission, Allowed, Refused
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.protocol import Admitted, Call, Declined, OperationRejectedError, Reserve, Settlement, Stale
from owui_budget_hooks.answers import BudgetAnswer

ANN = Counter(CounterKind.USER, "ann")
CALL = Call(Caller.OPENWEBUI, Kind.CHAT, "chat", "gpt-5", user_id="ann")


def ask(identifier: str = "r1", *limits: LimitInForce, estimate: int = 10, revision: int = 1) -> Reserve:
    return Reserve(identifier, CALL, (ANN,), limits, estimate, Admission.LAST_REQUEST, revision)


def settlement(identifier: str = "r1", charge: int = 15) -> Settlement:
    return Settlement(identifier, CALL, (ANN,), NOW, Usage(10, 5), "gpt-5", Decimal(1), charge)


async def test_the_ledger_decides_while_it_answers(walk: Callable[..., Walk]) -> None:
    gate = walk().gate

    outcome, held = await gate.reserve(ask("r1", limit()))
    assert isinstance(outcome, Admitted)
    assert held
    outcome, held = await gate.reserve(ask("r2", revision=0))
    assert outcome == Stale(1)
    assert not held
    assert gate.open_since is None


async def test_open_admits_without_the_ledger_and_nothing_is_held(walk: Callable[..., Walk], ledger: Flaky) -> None:
    gate = walk().gate
    ledger.down = True

    assert await gate.reserve(ask("r1", limit())) == (Admitted(Allowed(()), NOW), False)
    assert gate.open_since is not None


async def test_closed_refuses_with_a_time_to_come_back(walk: Callable[..., Walk], ledger: Flaky) -> None:
    gate = walk(on_ledger_error="closed").gate
    ledger.down = True

    with pytest.raises(BudgetAnswer) as refusal:
        await gate.reserve(ask())
    assert (refusal.value.code, refusal.value.headers) == ("503", {"Retry-After": "10"})


async def test_strict_implies_closed(walk: Callable[..., Walk], ledger: Flaky) -> None:
    gate = walk(admission="strict").gate
    ledger.down = True

    with pytest.raises(BudgetAnswer):
        await gate.reserve(ask())


async def test_a_ledger_that_hangs_is_given_up_on(walk: Callable[..., Walk], ledger: Flaky) -> None:
    gate = walk(reserve_timeout=0.02).gate
    ledger.delay = 30.0

    assert await gate.reserve(ask()) == (Admitted(Allowed(()), NOW), False)


async def test_open_ends_after_its_time_and_begins_anew_with_the_next_outage(
    walk: Callable[..., Walk], ledger: Flaky
) -> None:
    rooms = walk(open_for=300)
    ledger.down = True
    await rooms.gate.reserve(ask("r1"))
    rooms.monotonic = 300.0
    await rooms.gate.reserve(ask("r2"))
    rooms.monotonic = 300.5
    with pytest.raises(BudgetAnswer):
        await rooms.gate.reserve(ask("r3"))

    ledger.down = False
    await rooms.gate.reserve(ask("r4"))
    ledger.down = True
    assert await rooms.gate.reserve(ask("r5")) == (Admitted(Allowed(()), NOW), False)


async def refused(rooms: Walk, of: LimitInForce) -> None:
    outcome, _ = await rooms.gate.reserve(ask("refused", of))
    assert isinstance(outcome, Declined)


async def test_who_was_over_a_limit_stays_refused_while_the_window_lasts(
    walk: Callable[..., Walk], ledger: Flaky, clock: ManualClock
) -> None:
    rooms, daily = walk(open_for=86_400), limit()
    await rooms.use(ANN, 100_000)
    await refused(rooms, daily)
    ledger.down = True

    outcome, held = await rooms.gate.reserve(ask("r1", daily, limit(Window.MONTHLY, 2_000_000)))
    assert isinstance(outcome, Declined)
    assert isinstance(outcome.decision, Refused)
    assert not held

    clock.advance(30_411)  # midnight
    outcome, _ = await rooms.gate.reserve(ask("r2", daily))
    assert isinstance(outcome, Admitted)


@pytest.mark.parametrize(
    "other", [limit(hard=200_000), limit(group=("other", "Other")), limit(Window.WEEKLY), limit(group=None)]
)
async def test_a_changed_limit_is_not_refused_by_an_old_answer(
    walk: Callable[..., Walk], ledger: Flaky, other: LimitInForce
) -> None:
    rooms = walk()
    await rooms.use(ANN, 100_000)
    await refused(rooms, limit())
    ledger.down = True

    outcome, _ = await rooms.gate.reserve(ask("r1", other))
    assert isinstance(outcome, Admitted)


async def test_who_has_been_admitted_since_is_not_refused_by_an_old_answer(
    walk: Callable[..., Walk], ledger: Flaky
) -> None:
    rooms = walk()
    await rooms.use(ANN, 100_000)
    await refused(rooms, limit())
    await ledger.inner.reset(ANN, "an admin's mercy")
    await rooms.gate.reserve(ask("r1", limit()))
    ledger.down = True

    outcome, _ = await rooms.gate.reserve(ask("r2", limit()))
    assert isinstance(outcome, Admitted)


async def test_what_running_calls_held_is_not_remembered(walk: Callable[..., Walk], ledger: Flaky) -> None:
    rooms = walk()
    await rooms.gate.reserve(ask("r1", limit(), estimate=100_000))
    await refused(rooms, limit())
    ledger.down = True

    outcome, _ = await rooms.gate.reserve(ask("r2", limit()))
    assert isinstance(outcome, Admitted)


async def test_an_end_is_written_to_the_ledger(walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool) -> None:
    rooms = walk()
    await rooms.gate.reserve(ask("r1", limit()))
    await rooms.gate.reserve(ask("r2", limit()))
    await rooms.gate.settle(settlement("r1"))
    await rooms.gate.release("r2")

    assert await rooms.used(limit()) == [(15, 0)]
    assert spool.records == []


async def test_an_end_that_cannot_be_written_is_spooled_and_replayed(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool
) -> None:
    rooms = walk()
    await rooms.gate.reserve(ask("r1", limit()))
    await rooms.gate.reserve(ask("r2", limit()))
    ledger.down = True
    await rooms.gate.settle(settlement("r1"))
    await rooms.gate.release("r2")
    assert [getattr(each, "reservation_id", each) for each in spool.records] == ["r1", "r2"]

    ledger.down = False
    assert await rooms.gate.replay() == 0
    assert await rooms.used(limit()) == [(15, 0)]


async def test_an_end_that_times_out_is_spooled(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("owui_budget_hooks.gate._WRITE_TIMEOUT", 0.02)
    ledger.delay = 30.0

    await walk().gate.settle(settlement())

    assert len(spool.records) == 1


async def test_calls_admitted_in_an_outage_are_charged_by_the_replay(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool
) -> None:
    rooms = walk()
    ledger.down = True
    await rooms.gate.reserve(ask("r1", limit()))
    await rooms.gate.settle(settlement("r1"))
    ledger.down = False
    await rooms.gate.replay()
    await rooms.gate.settle(settlement("r1"))  # repeated

    assert await rooms.used(limit()) == [(15, 0)]


async def test_a_spool_that_cannot_be_written_closes_admission(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool
) -> None:
    rooms = walk()
    ledger.down = spool.broken = True
    await rooms.gate.settle(settlement())
    ledger.down = False

    with pytest.raises(BudgetAnswer) as refusal:
        await rooms.gate.reserve(ask())
    assert refusal.value.code == "503"
    assert "No space left on device" in refusal.value.message


async def test_one_replay_at_a_time(walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool) -> None:
    rooms = walk()
    ledger.down = True
    await rooms.gate.settle(settlement())
    ledger.down, ledger.delay = False, 0.02

    await asyncio.gather(*(rooms.gate.replay() for _ in range(5)))

    assert spool.replayed == 1


async def test_what_the_ledger_refuses_for_good_is_an_error_of_its_own(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool
) -> None:
    gate = walk().gate
    ledger.error = OperationRejectedError("a number out of range")

    with pytest.raises(OperationRejectedError):
        await gate.reserve(ask())
    assert gate.open_since is None
    assert spool.records == []


async def test_the_end_of_an_outage_is_noticed_without_a_call(walk: Callable[..., Walk], ledger: Flaky) -> None:
    gate = walk().gate
    await gate.look()
    ledger.down = True
    await gate.look()  # nothing was wrong so far, so nobody is asked
    await gate.reserve(ask("r1"))
    with pytest.raises(LedgerUnavailableError):
        await gate.look()
    assert gate.open_since is not None

    ledger.down = False
    await gate.look()
    assert gate.open_since is None


async def test_a_settlement_the_ledger_refuses_for_good_is_kept(
    walk: Callable[..., Walk], ledger: Flaky, spool: FakeSpool
) -> None:
    ledger.error = OperationRejectedError("a number out of range")

    await walk().gate.settle(settlement())

    assert spool.records == [settlement()]


async def test_a_busy_loop_is_not_a_ledger_out_of_reach(walk: Callable[..., Walk], ledger: Flaky) -> None:
    """The answer came in time; only nobody had a turn to read it."""
    gate = walk(reserve_timeout=0.05).gate
    ledger.delay = 0.01
    asking = asyncio.create_task(gate.reserve(ask("r1", limit())))
    await asyncio.sleep(0)
    time.sleep(0.2)  # noqa: ASYNC251 - the very thing that is tried

    outcome, held = await asking

    assert isinstance(outcome, Admitted)
    assert held
