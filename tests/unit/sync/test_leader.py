import pytest
from sqlalchemy import Engine, select

from owui_budget.clock import ManualClock
from owui_budget.database.tables import sync_state
from owui_budget.domain.identity import Role
from owui_budget.policy_store import FenceLostError, PutUser, SqlPolicyStore, StoredUser
from owui_budget_sync.leader import LEASE, Journal, Leadership

CHANGE = PutUser(StoredUser("u1", "a@example.com", "A", Role.USER))


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock(1_800_000_000)


def test_one_leads_until_its_lease_is_over(engine: Engine, clock: ManualClock) -> None:
    one, two = Leadership(engine, "one", clock), Leadership(engine, "two", clock)
    first = one.acquire()
    assert first is not None
    assert two.acquire() is None
    clock.advance(LEASE - 1)
    assert one.acquire() == first
    clock.advance(LEASE - 1)
    assert two.acquire() is None
    clock.advance(2)
    second = two.acquire()
    assert second is not None
    assert second.number > first.number
    assert one.acquire() is None


def test_a_lease_given_back_is_free_at_once(engine: Engine, clock: ManualClock) -> None:
    one, two = Leadership(engine, "one", clock), Leadership(engine, "two", clock)
    one.acquire()
    two.release()
    assert two.acquire() is None
    one.release()
    assert two.acquire() is not None


def test_a_leader_that_was_asleep_cannot_write(engine: Engine, clock: ManualClock, store: SqlPolicyStore) -> None:
    one, two = Leadership(engine, "one", clock), Leadership(engine, "two", clock)
    old = one.acquire()
    assert old is not None
    clock.advance(LEASE + 1)
    new = two.acquire()
    assert new is not None
    with pytest.raises(FenceLostError):
        store.write([CHANGE], old)
    assert store.user_count() == 0
    store.write([CHANGE], new)
    assert store.user_count() == 1


def test_a_persons_apply_takes_the_lead_and_gives_it_back(engine: Engine, clock: ManualClock) -> None:
    daemon, person = Leadership(engine, "daemon", clock), Leadership(engine, "person", clock)
    old = daemon.acquire()
    new = person.acquire(takeover=True)
    assert old is not None
    assert new is not None
    assert new.number > old.number
    assert daemon.acquire() is None
    person.release()
    assert daemon.acquire() is not None


def test_the_journal_is_the_leaders(engine: Engine, clock: ManualClock) -> None:
    old = Leadership(engine, "one", clock).acquire()
    assert old is not None
    journal = Journal(engine, clock)
    journal.succeeded(old, clock.now() - 2, ["something to look at"])
    journal.failed(old, clock.now(), "Open WebUI is away")
    new = Leadership(engine, "two", clock).acquire(takeover=True)
    assert new is not None
    journal.failed(old, clock.now(), "from a leader of old")
    with engine.connect() as connection:
        row = connection.execute(select(sync_state)).one()
    assert (row.last_error, row.problems, row.last_success_at) == (
        "Open WebUI is away",
        ["something to look at"],
        clock.now(),
    )
    journal.succeeded(new, clock.now(), [])
    with engine.connect() as connection:
        assert connection.execute(select(sync_state)).one().last_error is None


def test_a_word_passed_on_reaches_the_leader_once(engine: Engine, clock: ManualClock) -> None:
    leader, other = Leadership(engine, "one", clock), Leadership(engine, "two", clock)
    leader.acquire()
    assert leader.passed_on() == frozenset()
    other.pass_on("users")
    other.pass_on("groups")
    assert other.passed_on() == frozenset()
    assert leader.passed_on() == {"groups", "users"}
    assert leader.passed_on() == frozenset()
