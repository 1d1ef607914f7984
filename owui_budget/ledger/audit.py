"""Whether counters and events agree, and making them agree: events and open reservations are the truth."""

from collections.abc import Collection

import sqlalchemy as sa

from owui_budget.database.tables import counters
from owui_budget.ledger.access import exclusive, snapshot
from owui_budget.ledger.protocol import Discrepancy
from owui_budget.ledger.rebuild import held_by_counter, used_since
from owui_budget.ledger.records import WINDOWS


def verify(engine: sa.Engine) -> list[Discrepancy]:
    """Compare every counter with its events and open reservations, as of one moment, stopping nobody."""
    with snapshot(engine) as connection:
        return _compare(connection, None)


def repair(engine: sa.Engine) -> list[Discrepancy]:
    """Mend what `verify` finds and return it. Only the suspects are looked at again under the lock."""
    suspects = {each.counter for each in verify(engine)}
    if not suspects:
        return []
    with exclusive(engine) as connection:
        found = _compare(connection, suspects)
        for each in found:
            connection.execute(
                sa.update(counters)
                .where(counters.c.key == each.counter)
                .values({f"{each.window}_{each.what}": each.expected})
            )
    return found


def _compare(connection: sa.Connection, keys: Collection[str] | None) -> list[Discrepancy]:
    held = held_by_counter(connection)
    found: list[Discrepancy] = []
    for window in WINDOWS:
        start, used, holding = (counters.c[f"{window}_{part}"] for part in ("start", "used", "held"))
        expected = used_since(counters.c.key, start)
        differs = sa.select(counters.c.key, used, expected).where(used != expected)
        holds = sa.select(counters.c.key, start, holding)
        if keys is not None:
            differs, holds = (each.where(counters.c.key.in_(keys)) for each in (differs, holds))
        found.extend(
            Discrepancy(key, window.value, "used", counted, truth)
            for key, counted, truth in connection.execute(differs)
        )
        for key, begun, counted in connection.execute(holds, execution_options={"yield_per": 1_000}):
            truth = held.get((key, window, begun), 0)
            if counted != truth:
                found.append(Discrepancy(key, window.value, "held", counted, truth))
    return sorted(found, key=lambda each: (each.counter, each.window, each.what))
