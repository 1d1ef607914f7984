"""One queue, one flusher: operations that arrive while a transaction runs share the next one.

An idle queue flushes at once, so a lone call waits for nobody. There is no task while there is nothing to do.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Final

from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.operations import Abandon, Operation, Result
from owui_budget.ledger.protocol import Admitted, OperationRejectedError, Reserve
from owui_budget.ledger.transaction import Outcome

MAX_BATCH: Final = 256
"""Operations per transaction: more would make the first of them wait for the last."""

_log = logging.getLogger(__name__)


class CommitUnknownError(LedgerUnavailableError):
    """The store went away while it committed: the batch may or may not have been written."""


@dataclass(slots=True)
class _Waiting:
    operation: Operation
    answer: asyncio.Future[Result] | None = None

    @property
    def left(self) -> bool:
        """Whether it need not run: an admission nobody waits for. The end of a call is written in any case."""
        return self.answer is not None and self.answer.cancelled() and isinstance(self.operation, Reserve)


class Flusher:
    """Collects operations and hands them to `execute` in batches."""

    def __init__(self, execute: Callable[[Sequence[Operation]], Awaitable[list[Outcome]]]) -> None:
        """`execute` carries one batch out and answers with one outcome per operation, in order."""
        self._execute = execute
        self._queue: list[_Waiting] = []
        self._abandoned: dict[str, Abandon] = {}
        self._task: asyncio.Task[None] | None = None

    async def submit(self, operation: Operation) -> Result:
        """Carry `operation` out with whatever else is waiting.

        Raises:
            LedgerUnavailableError: the store could not be reached.
            OperationRejectedError: the store refused this operation.

        """
        answer: asyncio.Future[Result] = asyncio.get_running_loop().create_future()
        waiting = _Waiting(operation, answer)
        self._queue.append(waiting)
        self._wake()
        try:
            return await answer
        except asyncio.CancelledError:
            if answer.done() and not answer.cancelled():  # answered, but the caller was gone already
                self._undo_unseen(waiting, answer.exception() or answer.result())
                self._wake()
            raise

    async def drain(self) -> None:
        """Wait until everything that was asked for is done."""
        while self._task is not None:
            await asyncio.shield(self._task)

    def _wake(self) -> None:
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="owui-budget ledger")

    async def _run(self) -> None:
        try:
            reached = True
            while self._queue or (self._abandoned and reached):
                taken, self._queue = self._queue[:MAX_BATCH], self._queue[MAX_BATCH:]
                reached = await self._flush([each for each in taken if not each.left])
        finally:
            self._task = None

    async def _flush(self, batch: list[_Waiting]) -> bool:
        """Carry out one batch; False when the store could not be reached."""
        undo = [_Waiting(each) for each in self._abandoned.values()]
        everything = [*undo, *batch]
        if not everything:
            return True
        try:
            outcomes = await self._execute([each.operation for each in everything])
        except LedgerUnavailableError as error:
            outcomes = [error] * len(everything)
        except Exception as error:  # noqa: BLE001 - one operation's bad data must not fail its batch
            if len(everything) > 1:
                _log.warning("a ledger batch of %d failed: %s; trying one by one", len(everything), error)
            outcomes = [await self._alone(each.operation) for each in everything]
        for waiting, outcome in zip(everything, outcomes, strict=True):
            self._answer(waiting, outcome)
        return not any(isinstance(outcome, LedgerUnavailableError) for outcome in outcomes)

    async def _alone(self, operation: Operation) -> Outcome:
        try:
            [outcome] = await self._execute([operation])
        except LedgerUnavailableError as error:
            return error
        except Exception as error:  # noqa: BLE001 - whatever the driver raised belongs to this operation alone
            rejected = OperationRejectedError(f"the ledger refused {type(operation).__name__}: {error}")
            rejected.__cause__ = error
            return rejected
        return outcome

    def _answer(self, waiting: _Waiting, outcome: Outcome) -> None:
        if isinstance(waiting.operation, Abandon) and not isinstance(outcome, LedgerUnavailableError):
            self._abandoned.pop(waiting.operation.id, None)
        if waiting.answer is None or waiting.answer.done():
            self._undo_unseen(waiting, outcome)
        elif isinstance(outcome, BaseException):
            if isinstance(outcome, CommitUnknownError):
                self._undo_unseen(waiting, outcome)
            waiting.answer.set_exception(outcome)
        else:
            waiting.answer.set_result(outcome)

    def _undo_unseen(self, waiting: _Waiting, outcome: Outcome) -> None:
        """Remember to take back a hold whose caller does not know of it."""
        operation = waiting.operation
        if isinstance(operation, Reserve) and isinstance(outcome, Admitted | CommitUnknownError):
            self._abandoned[operation.id] = Abandon(operation.id)
