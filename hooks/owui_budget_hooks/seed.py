"""Teach a new process what answers usually take, from the most recent usage events."""

import sqlalchemy as sa

from owui_budget.database.tables import usage_events
from owui_budget.ledger.access import snapshot
from owui_budget_hooks.learning import TypicalCompletion

_ROWS = 2_000


def learn_from_events(engine: sa.Engine, typical: TypicalCompletion) -> None:
    """Read the last `_ROWS` completed calls, oldest first."""
    events = usage_events.c
    recent = (
        sa.select(events.model, events.completion)
        .where(events.type == "usage", events.completion > 0, sa.not_(events.estimated))
        .order_by(events.at.desc())
        .limit(_ROWS)
    )
    with snapshot(engine) as connection:
        rows = connection.execute(recent).all()
    for model, completion in reversed(rows):
        typical.learn(model, completion)
