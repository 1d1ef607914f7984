from sqlalchemy import Engine, func, insert, select
from support.ledgers import DAY, NOON

from owui_budget.clock import ManualClock
from owui_budget.database.tables import usage_daily, usage_events
from owui_budget_sync.housekeeping import Housekeeping
from owui_budget_sync.leader import Leadership

EVENT = {"type": "usage", "recorded_at": NOON, "user_id": "u1", "caller": "openwebui", "kind": "chat", "route": "chat",
         "model": "m", "counters": ["user:u1"], "prompt": 3, "completion": 4, "weight": "1", "charge": 7,
         "ending": "completed", "estimated": False}  # fmt: skip


def events(engine: Engine) -> int:
    with engine.connect() as connection:
        return connection.execute(select(func.count()).select_from(usage_events)).scalar_one()


def test_only_the_leader_rolls_up_what_is_too_old(engine: Engine) -> None:
    clock = ManualClock(NOON + 401 * DAY)
    with engine.begin() as connection:
        connection.execute(insert(usage_events), [
            {**EVENT, "reservation_id": "old", "at": NOON - DAY},
            {**EVENT, "reservation_id": "new", "at": NOON + 400 * DAY},
        ])  # fmt: skip
    assert Leadership(engine, "leader", clock).acquire() is not None

    assert not Housekeeping(engine, "another", clock, 400).look()
    assert events(engine) == 2

    assert Housekeeping(engine, "leader", clock, 400).look()
    assert events(engine) == 1
    with engine.connect() as connection:
        assert connection.execute(select(usage_daily.c.user_id, usage_daily.c.charge)).all() == [("u1", 7)]
