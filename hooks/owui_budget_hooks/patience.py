"""A timeout that measures somebody else's silence, not our own haste.

A plain timeout on a busy event loop runs out while the answer already lies in the socket: many calls at once would then
look like a ledger that is out of reach. This one counts turns of the loop, so the answer can be read in between.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

_TURNS = 10


@asynccontextmanager
async def patience(seconds: float) -> AsyncIterator[None]:
    """Cancel the body after `seconds`; later where the loop itself is what takes so long.

    Raises:
        TimeoutError: the time has passed.

    """
    loop = asyncio.get_running_loop()
    step = seconds / _TURNS
    turns = 0
    timer: asyncio.TimerHandle
    async with asyncio.timeout(None) as scope:

        def turn() -> None:
            nonlocal turns, timer
            turns += 1
            if turns < _TURNS:
                timer = loop.call_later(step, turn)
            else:
                scope.reschedule(loop.time())

        timer = loop.call_later(step, turn)
        try:
            yield
        finally:
            timer.cancel()
