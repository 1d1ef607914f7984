"""Erasing a person: sums stay exact, the name goes. Everything of the user is kept under a random pseudonym."""

import json
from dataclasses import dataclass
from uuid import uuid4

import sqlalchemy as sa

from owui_budget.database.tables import (
    counters,
    notices,
    policy_members,
    policy_users,
    reservations,
    usage_charges,
    usage_daily,
    usage_events,
)
from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.ledger.access import exclusive


@dataclass(frozen=True, slots=True)
class Erased:
    """What became of a user. The pseudonym leads nowhere: it is random, and kept together with the id nowhere."""

    pseudonym: str
    events: int
    """Events that carry the pseudonym now."""


def erase_user(engine: sa.Engine, user_id: str) -> Erased:
    """Replace a user by a pseudonym in events, counters, open calls and daily sums; forget e-mail, name and groups.

    Pools keep their sums. Somebody who still is in Open WebUI comes back, with empty counters, at the next sync or
    call; a spool file that waits for its replay brings the id back with it, so erase when none waits.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    pseudonym = f"erased-{uuid4().hex}"
    with exclusive(engine) as connection:
        events = 0
        for kind in (CounterKind.USER, CounterKind.TASK):
            old, new = Counter(kind, user_id).key, Counter(kind, pseudonym).key
            connection.execute(sa.update(counters).where(counters.c.key == old).values(key=new))
            connection.execute(sa.update(usage_charges).where(usage_charges.c.counter == old).values(counter=new))
            connection.execute(
                sa.update(usage_events)
                .where(usage_events.c.user_id == user_id)
                .values(counters=_replaced(connection, old, new))
            )
            _rename_in_reservations(connection, user_id, pseudonym, (old, new))
        renamed = sa.update(usage_events).where(usage_events.c.user_id == user_id).values(user_id=pseudonym)
        events = connection.execute(renamed).rowcount
        connection.execute(sa.update(usage_daily).where(usage_daily.c.user_id == user_id).values(user_id=pseudonym))
        for table, column in (
            (notices, notices.c.user_id),
            (policy_members, policy_members.c.user_id),
            (policy_users, policy_users.c.id),
        ):
            connection.execute(sa.delete(table).where(column == user_id))
    return Erased(pseudonym, events)


def _replaced(connection: sa.Connection, old: str, new: str) -> sa.ColumnElement[object]:
    """Return the events' list of counters with one key replaced, as SQL: a user may have many thousand events."""
    text = sa.func.replace(sa.cast(usage_events.c.counters, sa.Text), json.dumps(old), json.dumps(new))
    return sa.cast(text, sa.JSON) if connection.dialect.name == "postgresql" else sa.type_coerce(text, sa.Text)


def _rename_in_reservations(connection: sa.Connection, user_id: str, pseudonym: str, keys: tuple[str, str]) -> None:
    old, new = keys
    rows = connection.execute(sa.select(reservations.c.id, reservations.c.holds, reservations.c.call)).all()
    for identifier, holds, call in rows:
        if old in holds or call["user_id"] == user_id:
            values = {
                "holds": [new if key == old else key for key in holds],
                "call": {**call, "user_id": pseudonym if call["user_id"] == user_id else call["user_id"]},
            }
            connection.execute(sa.update(reservations).where(reservations.c.id == identifier).values(values))
