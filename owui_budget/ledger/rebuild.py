"""Counters made anew from what is certain: the events and the open reservations. All of it under the exclusive lock.

Used when a pool is counted for the first time, when the time zone changes, and to repair.
"""

from collections import defaultdict
from collections.abc import Collection, Sequence
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from owui_budget.database.tables import counters, meta, reservations, usage_charges
from owui_budget.domain.windows import Window, span_of
from owui_budget.ledger.access import read_meta
from owui_budget.ledger.columns import OPEN_COLUMNS, read_open
from owui_budget.ledger.records import WINDOWS, Open, State, pools_of


def open_pools(connection: sa.Connection, keys: Collection[str], now: float) -> None:
    """Give pools a counter row: what this window's events charge to them, and what open calls hold.

    Open calls of their members take the pool into what they hold, so that later they settle there too.
    """
    present = set(connection.scalars(sa.select(counters.c.key).where(counters.c.key.in_(keys))))
    missing = sorted(set(keys) - present)
    if not missing:
        return
    connection.execute(sa.insert(counters), [{"key": key} for key in missing])
    for reservation in held(connection):
        joined = [key for key in missing if key in pools_of(reservation.call) and key not in reservation.holds]
        if joined:
            _store(connection, reservation, holds=[*reservation.holds, *joined])
    rebuild(connection, missing, now)


def adopt_zone(connection: sa.Connection, zone: str, now: float) -> bool:
    """Make `zone` the ledger's zone; every current window then follows it. False if it was the zone already."""
    if read_meta(connection).zone == zone:
        return False
    connection.execute(sa.update(meta).values(zone=zone, revision=meta.c.revision + 1))
    for reservation in held(connection):
        _store(connection, reservation, starts=_starts(reservation.admitted_at, zone))
    rebuild(connection, None, now)
    return True


def rebuild(connection: sa.Connection, keys: Collection[str] | None, now: float) -> None:
    """Set the current windows of `keys` (None: of every counter) from events and open reservations."""
    zone = read_meta(connection).zone
    ahead = _ahead(connection, now)
    for key in sorted(ahead):
        if keys is None or key in keys:
            _set_used(connection, [key], ahead[key], zone)
    _set_used(connection, None if keys is None else sorted(set(keys) - ahead.keys()), now, zone, skip=sorted(ahead))
    _set_held(connection, keys)


def held(connection: sa.Connection) -> list[Open]:
    """Read every open reservation: as many as there are calls in flight."""
    rows = connection.execute(
        sa.select(*(reservations.c[name] for name in OPEN_COLUMNS))
        .where(reservations.c.state == State.HELD.value)
        .order_by(reservations.c.id)
    )
    return [read_open(tuple(row)) for row in rows]


def _ahead(connection: sa.Connection, now: float) -> dict[str, float]:
    """Return the counters with events later than `now`: another process' clock is ahead, and windows never go back."""
    latest = (
        sa.select(usage_charges.c.counter, sa.func.max(usage_charges.c.at))
        .where(usage_charges.c.at > now)
        .group_by(usage_charges.c.counter)
    )
    return {key: at for key, at in connection.execute(latest)}  # noqa: C416 - rows are not tuples to the type checker


def _starts(moment: float, zone: str) -> list[int]:
    return [span_of(window, moment, ZoneInfo(zone)).start for window in WINDOWS]


def _set_used(
    connection: sa.Connection, keys: Sequence[str] | None, moment: float, zone: str, *, skip: Sequence[str] = ()
) -> None:
    if keys is not None and not keys:
        return
    values: dict[str, object] = {}
    for window in WINDOWS:
        start = span_of(window, moment, ZoneInfo(zone)).start
        values[f"{window}_start"] = start
        values[f"{window}_used"] = used_since(counters.c.key, sa.literal(start))
        values[f"{window}_held"] = 0
    statement = sa.update(counters).values(values)
    if keys is not None:
        statement = statement.where(counters.c.key.in_(keys))
    elif skip:
        statement = statement.where(counters.c.key.not_in(skip))
    connection.execute(statement)


def used_since(key: sa.ColumnElement[str] | str, start: sa.ColumnElement[int] | int) -> sa.ScalarSelect[int]:
    """Return the sum of what events charge to `key` from `start` on (tokens), as a subquery."""
    total = sa.cast(sa.func.coalesce(sa.func.sum(usage_charges.c.charge), 0), sa.BigInteger)
    return (
        sa.select(total)
        .where(usage_charges.c.counter == key, usage_charges.c.at >= start)
        .correlate(counters)
        .scalar_subquery()
    )


def held_by_counter(connection: sa.Connection) -> dict[tuple[str, Window, int], int]:
    """Sum what open reservations hold (tokens), by counter, window and the window's start."""
    sums: dict[tuple[str, Window, int], int] = defaultdict(int)
    for reservation in held(connection):
        for key in reservation.holds:
            for window, start in zip(WINDOWS, reservation.starts, strict=True):
                sums[key, window, start] += reservation.amount
    return sums


def _set_held(connection: sa.Connection, keys: Collection[str] | None) -> None:
    for (key, window, start), amount in held_by_counter(connection).items():
        if keys is None or key in keys:
            connection.execute(
                sa.update(counters)
                .where(counters.c.key == key, counters.c[f"{window}_start"] == start)
                .values({f"{window}_held": amount})
            )


def _store(
    connection: sa.Connection, reservation: Open, *, holds: list[str] | None = None, starts: list[int] | None = None
) -> None:
    values: dict[str, object] = {}
    if holds is not None:
        values["holds"] = holds
    if starts is not None:
        values["starts"] = starts
    connection.execute(sa.update(reservations).where(reservations.c.id == reservation.id).values(values))
