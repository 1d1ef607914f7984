"""One leader among the sync processes: a lease row with a fencing number.

The lease keeps replicas from working twice; the number keeps a leader that was asleep from writing after its successor
has. Every policy write checks the number inside its transaction. Times are the machine's, in epoch seconds.
"""

from collections.abc import Sequence
from typing import Any

from sqlalchemy import Engine, or_, select, update

from owui_budget.clock import Clock
from owui_budget.database.tables import sync_state
from owui_budget.ledger.access import shared
from owui_budget.policy_store import Fence

LEASE = 30.0
"""Seconds a lease lives without being renewed."""


class Leadership:
    """This process' claim to lead. Every method raises `LedgerUnavailableError` when the database does not answer."""

    def __init__(self, engine: Engine, holder: str, clock: Clock) -> None:
        """Claim as `holder`, a name no other process uses."""
        self._engine = engine
        self._holder = holder
        self._clock = clock

    def acquire(self, *, takeover: bool = False) -> Fence | None:
        """Take or renew the lease; None while another process leads.

        With `takeover` the lease is taken from whoever holds it: for a person's `apply`. The daemon's next write is
        then refused, and it leads again once the lease is given back.
        """
        now = self._clock.now()
        mine = sync_state.c.leader_id == self._holder
        free = or_(sync_state.c.leader_id.is_(None), sync_state.c.lease_until <= now)
        with shared(self._engine) as connection:
            renewed = connection.execute(
                update(sync_state).where(sync_state.c.id == 1, mine).values(lease_until=now + LEASE)
            )
            if not renewed.rowcount:
                statement = update(sync_state).where(sync_state.c.id == 1)
                if not takeover:
                    statement = statement.where(free)
                taken = connection.execute(
                    statement.values(leader_id=self._holder, lease_until=now + LEASE, fence=sync_state.c.fence + 1)
                )
                if not taken.rowcount:
                    return None
            return Fence(connection.execute(select(sync_state.c.fence)).scalar_one())

    def release(self) -> None:
        """Give the lease back, so that the next process need not wait for its end."""
        with shared(self._engine) as connection:
            connection.execute(
                update(sync_state)
                .where(sync_state.c.leader_id == self._holder)
                .values(leader_id=None, lease_until=self._clock.now())
            )

    def pass_on(self, wanted: str) -> None:
        """Leave word for the leader that somebody asked this process for a look; several words add up."""
        with shared(self._engine) as connection:
            left = _words(connection.execute(select(sync_state.c.cursor)).scalar_one())
            words = {"wanted": sorted({*left, wanted})}
            connection.execute(update(sync_state).where(sync_state.c.id == 1).values(cursor=words))

    def passed_on(self) -> frozenset[str]:
        """Take the words that other processes left."""
        with shared(self._engine) as connection:
            row = connection.execute(select(sync_state.c.cursor).where(sync_state.c.leader_id == self._holder)).first()
            left = _words(row.cursor) if row else frozenset()
            if left:
                connection.execute(update(sync_state).where(sync_state.c.id == 1).values(cursor={}))
            return left


def _words(cursor: dict[str, Any]) -> frozenset[str]:
    return frozenset(map(str, cursor.get("wanted", ())))


class Journal:
    """How the last sync went, for `owui-budget status`; only the leader writes it."""

    def __init__(self, engine: Engine, clock: Clock) -> None:
        """Write to the lease row."""
        self._engine = engine
        self._clock = clock

    def succeeded(self, fence: Fence, started_at: float, problems: Sequence[str]) -> None:
        """Remember a success and what still needs somebody's attention."""
        self._write(
            fence, last_started_at=started_at, last_success_at=self._clock.now(), last_error=None, problems=problems
        )

    def failed(self, fence: Fence, started_at: float, error: str) -> None:
        """Remember why the sync failed; the last success stays."""
        self._write(fence, last_started_at=started_at, last_error=error)

    def _write(self, fence: Fence, **values: object) -> None:
        if "problems" in values:
            values["problems"] = list(values["problems"])  # type: ignore[call-overload]  # a sequence of sentences
        with shared(self._engine) as connection:
            connection.execute(update(sync_state).where(sync_state.c.fence == fence.number).values(**values))
