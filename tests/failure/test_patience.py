"""A busy worker must not take its own slowness for a ledger that is out of reach."""

import asyncio
import time

import pytest

from owui_budget_hooks.patience import patience


async def test_silence_ends_it_in_time() -> None:
    started = time.monotonic()
    with pytest.raises(TimeoutError):
        async with patience(0.1):
            await asyncio.sleep(30)
    assert 0.09 < time.monotonic() - started < 5


async def test_an_answer_that_a_busy_loop_reads_late_still_counts() -> None:
    async def busy() -> None:
        while True:
            time.sleep(0.06)  # noqa: ASYNC251 - other requests' work on the loop
            await asyncio.sleep(0)

    others = asyncio.create_task(busy())
    async with patience(0.1):
        for _ in range(4):  # four round trips
            await asyncio.sleep(0.001)
    others.cancel()


async def test_what_was_fast_leaves_no_timer_behind() -> None:
    async with patience(0.05):
        pass
    await asyncio.sleep(0.1)
    current = asyncio.current_task()
    assert current is not None
    assert current.cancelling() == 0


async def test_a_cancellation_from_outside_stays_one() -> None:
    async def body() -> None:
        async with patience(30):
            await asyncio.sleep(30)

    task = asyncio.create_task(body())
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
