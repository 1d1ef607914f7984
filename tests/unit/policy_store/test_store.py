import pytest
from sqlalchemy import Engine

from owui_budget.database.tables import policy_groups
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.policy import Group
from owui_budget.domain.windows import Window
from owui_budget.errors import LedgerUnavailableError, SchemaError
from owui_budget.policy_store import (
    ChangeMembers,
    Fence,
    FenceLostError,
    PutGroup,
    PutUser,
    RemoveGroup,
    RemoveUser,
    SqlPolicyStore,
    StoredGroup,
    StoredUser,
    writing,
)
from owui_budget.policy_store import store as store_module

DAILY = UsageLimits(20, {Window.DAILY: Bounds(80, 100)})
STUDENTS = StoredGroup("g1", "Students", "g0", DAILY, stamp=5)
ALICE = StoredUser("u1", "alice@example.com", "Alice", Role.ADMIN)


def test_an_empty_store_has_no_groups(store: SqlPolicyStore) -> None:
    assert store.snapshot().groups == {}
    assert store.user("nobody") is None
    assert store.user_by_email("nobody@example.com") is None


def test_what_was_written_is_read_back(store: SqlPolicyStore, fence: Fence) -> None:
    before = store.snapshot().revision
    after = store.write([PutGroup(STUDENTS), PutUser(ALICE), ChangeMembers("g1", added=frozenset({"u1"}))], fence)
    snapshot = store.snapshot()
    assert snapshot.revision == after > before
    assert snapshot.groups == {"g1": Group("g1", "Students", "g0", DAILY)}
    assert store.groups() == {"g1": STUDENTS}
    user = store.user("u1")
    assert user is not None
    assert (user.email, user.name, user.role, user.group_ids) == (
        "alice@example.com",
        "Alice",
        Role.ADMIN,
        frozenset({"g1"}),
    )
    assert store.user_by_email(" Alice@Example.COM ") == user
    assert list(store.users()) == [ALICE]
    assert store.members(["g1", "g2"]) == {"g1": frozenset({"u1"}), "g2": frozenset()}
    assert store.member_counts() == {"g1": 1}
    assert store.user_count() == 1


@pytest.mark.parametrize(
    "group",
    [
        StoredGroup("g1", "Pupils", "g0", DAILY),
        StoredGroup("g1", "Students", None, DAILY),
        StoredGroup("g1", "Students", "g0", None),
        StoredGroup("g1", "Students", "g0", UsageLimits(21, DAILY.member)),
        StoredGroup("g2", "Staff"),
    ],
)
def test_what_decisions_follow_moves_the_revision(store: SqlPolicyStore, fence: Fence, group: StoredGroup) -> None:
    before = store.write([PutGroup(STUDENTS)], fence)
    assert store.write([PutGroup(group)], fence) == before + 1
    assert store.groups()[group.id] == group


def test_stamps_problems_users_and_memberships_do_not_move_the_revision(store: SqlPolicyStore, fence: Fence) -> None:
    before = store.write([PutGroup(STUDENTS)], fence)
    changes = [
        PutGroup(StoredGroup("g1", "Students", "g0", DAILY, "priority must be …", 9)),
        PutUser(ALICE),
        ChangeMembers("g1", added=frozenset({"u1"})),
    ]
    assert store.write(changes, fence) == before
    assert store.groups()["g1"].problem == "priority must be …"


def test_removed_groups_and_users_take_their_memberships_along(store: SqlPolicyStore, fence: Fence) -> None:
    store.write(
        [
            PutGroup(STUDENTS),
            PutGroup(StoredGroup("g2", "Staff")),
            PutUser(ALICE),
            ChangeMembers("g1", added=frozenset({"u1", "u2"})),
            ChangeMembers("g2", added=frozenset({"u1", "u2"})),
        ],
        fence,
    )
    before = store.snapshot().revision
    assert store.write([RemoveUser("u1")], fence) == before
    assert store.write([RemoveGroup("g1")], fence) == before + 1
    assert store.members(["g1", "g2"]) == {"g1": frozenset(), "g2": frozenset({"u2"})}
    store.write([ChangeMembers("g2", removed=frozenset({"u2", "unknown"}))], fence)
    assert store.member_counts() == {}


def test_an_older_fence_writes_nothing(store: SqlPolicyStore, fence: Fence) -> None:
    with pytest.raises(FenceLostError):
        store.write([PutUser(ALICE), PutGroup(STUDENTS)], Fence(fence.number - 1))
    assert store.groups() == {}
    assert store.user_count() == 0


def test_writing_the_same_again_changes_nothing(store: SqlPolicyStore, fence: Fence) -> None:
    changes = [PutGroup(STUDENTS), PutUser(ALICE), ChangeMembers("g1", added=frozenset({"u1"}))]
    assert store.write(changes, fence) == store.write(changes, fence)


def test_two_users_of_one_address_are_nobody(store: SqlPolicyStore, fence: Fence) -> None:
    store.write([PutUser(ALICE), PutUser(StoredUser("u2", "ALICE@example.com", "Other", Role.USER))], fence)
    assert store.user_by_email("alice@example.com") is None


def test_many_rows_go_in_pages(store: SqlPolicyStore, fence: Fence, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store_module, "PAGE", 3)
    monkeypatch.setattr(writing, "PAGE", 3)
    users = [StoredUser(f"u{number}", f"{number}@example.com", "", Role.USER) for number in range(7)]
    members = frozenset(user.id for user in users)
    store.write([*(PutUser(user) for user in users), ChangeMembers("g1", added=members)], fence)
    assert list(store.users()) == users
    assert store.members(["g1"]) == {"g1": members}
    store.write([*(RemoveUser(user.id) for user in users)], fence)
    assert store.user_count() == 0
    assert store.member_counts() == {}


def test_missing_tables_name_the_way_out(store: SqlPolicyStore, engine: Engine) -> None:
    with engine.begin() as connection:
        policy_groups.drop(connection)
    with pytest.raises(SchemaError, match="db upgrade"):
        store.snapshot()


def test_a_database_that_is_away_is_transient(store: SqlPolicyStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from sqlalchemy.exc import OperationalError

    def broken() -> None:
        raise OperationalError("SELECT", {}, Exception("connection refused"))

    monkeypatch.setattr(store._engine, "connect", broken)
    with pytest.raises(LedgerUnavailableError):
        store.snapshot()
