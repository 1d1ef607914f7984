import asyncio
import threading
from pathlib import Path

import pytest
from kit import group

from owui_budget.domain.identity import Role
from owui_budget.domain.policy import PolicyRules
from owui_budget.errors import LedgerUnavailableError
from owui_budget.policy_store import PolicyUser, Snapshot, load_snapshot, save_snapshot
from owui_budget_hooks.policy_cache import PolicyCache

ANN = PolicyUser("ann", "ann@example.org", "Ann", Role.USER, frozenset({"g1"}))


class Store:
    """A policy store that counts what it is asked."""

    def __init__(self) -> None:
        self.snapshots = 0
        self.reads: list[str] = []
        self.users = {"ann": ANN}
        self.revision = 1
        self.down = False
        self.gate = threading.Event()
        self.gate.set()

    def snapshot(self) -> Snapshot:
        self.snapshots += 1
        revision = self.revision
        self.gate.wait(5)
        if self.down:
            raise LedgerUnavailableError("down")
        return Snapshot(revision, {"g1": group("g1", member={"daily": {"hard": revision}})})

    def user(self, user_id: str) -> PolicyUser | None:
        self.reads.append(user_id)
        if self.down:
            raise LedgerUnavailableError("down")
        return self.users.get(user_id)

    def user_by_email(self, email: str) -> PolicyUser | None:
        self.reads.append(email)
        return next((user for user in self.users.values() if user.email == email.lower()), None)


class Time:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def store() -> Store:
    return Store()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def cache(store: Store, time: Time, tmp_path: Path) -> PolicyCache:
    return PolicyCache(store, PolicyRules(), tmp_path / "policy.json", time)  # type: ignore[arg-type]


async def test_the_snapshot_in_force_is_loaded_and_kept_on_disk(cache: PolicyCache, tmp_path: Path) -> None:
    await cache.start()

    assert (cache.revision, cache.from_disk) == (1, False)
    assert cache.policy.groups.keys() == {"g1"}
    assert load_snapshot(tmp_path / "policy.json").revision == 1


async def test_callers_that_come_together_share_one_read(cache: PolicyCache, store: Store) -> None:
    store.gate.clear()
    waiting = [asyncio.create_task(cache.reload()) for _ in range(20)]
    await asyncio.sleep(0.01)
    store.gate.set()
    await asyncio.gather(*waiting)

    assert store.snapshots == 1
    await cache.reload()
    assert store.snapshots == 2


async def test_a_caller_that_leaves_does_not_stop_the_others(cache: PolicyCache, store: Store) -> None:
    store.gate.clear()
    leaves, stays = asyncio.create_task(cache.reload()), asyncio.create_task(cache.reload())
    await asyncio.sleep(0.01)
    leaves.cancel()
    store.gate.set()
    await stays

    assert leaves.cancelled()
    assert cache.revision == 1


async def test_a_newer_revision_replaces_the_policy(cache: PolicyCache, store: Store) -> None:
    await cache.start()
    before = cache.policy
    store.revision = 2
    await cache.reload()

    assert cache.revision == 2
    assert cache.policy is not before
    same = cache.policy
    await cache.reload()
    assert cache.policy is same


async def test_a_start_without_a_database_uses_the_last_snapshot(
    cache: PolicyCache, store: Store, tmp_path: Path
) -> None:
    save_snapshot(tmp_path / "policy.json", Snapshot(7, {"g9": group("g9")}))
    store.down = True
    await cache.start()
    assert (cache.revision, cache.from_disk) == (7, True)
    assert cache.policy.groups.keys() == {"g9"}

    store.down, store.revision = False, 7
    await cache.reload()
    assert not cache.from_disk
    assert cache.policy.groups.keys() == {"g1"}


@pytest.mark.parametrize("content", [None, "not json", '{"version": 99}', "[]"])
async def test_a_start_without_either_knows_no_limit_yet(
    cache: PolicyCache, store: Store, tmp_path: Path, content: str | None
) -> None:
    if content is not None:
        (tmp_path / "policy.json").write_text(content)
    store.down = True

    await cache.start()

    assert cache.revision == -1
    assert dict(cache.policy.groups) == {}


async def test_a_reload_that_fails_says_so_and_changes_nothing(cache: PolicyCache, store: Store) -> None:
    await cache.start()
    store.down = True

    with pytest.raises(LedgerUnavailableError):
        await cache.reload()
    assert cache.revision == 1


async def test_a_snapshot_that_cannot_be_kept_is_still_used(store: Store, time: Time, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    cache = PolicyCache(store, PolicyRules(), tmp_path / "file" / "policy.json", time)  # type: ignore[arg-type]

    await cache.start()

    assert cache.revision == 1


async def test_memberships_are_believed_for_five_seconds(cache: PolicyCache, store: Store, time: Time) -> None:
    assert await cache.user("ann") == ANN
    time.now = 4.9
    assert await cache.user("ann") == ANN
    assert store.reads == ["ann"]

    time.now = 5.0
    del store.users["ann"]
    assert await cache.user("ann") is None
    assert store.reads == ["ann", "ann"]


async def test_an_unknown_user_is_remembered_as_well(cache: PolicyCache, store: Store) -> None:
    assert await cache.user("nobody") is None
    assert await cache.user("nobody") is None
    assert store.reads == ["nobody"]


async def test_old_memberships_serve_while_the_database_is_away(cache: PolicyCache, store: Store, time: Time) -> None:
    await cache.user("ann")
    store.down, time.now = True, 1_000.0

    assert await cache.user("ann") == ANN
    with pytest.raises(LedgerUnavailableError):
        await cache.user("eve")


async def test_an_id_and_an_address_are_not_mixed_up(cache: PolicyCache, store: Store) -> None:
    assert await cache.user("ann@example.org") is None
    assert await cache.user_by_email("Ann@Example.org") == ANN
    assert await cache.user_by_email("ANN@example.org") == ANN
    assert len(store.reads) == 2


async def test_the_users_seen_least_recently_are_forgotten(
    cache: PolicyCache, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("owui_budget_hooks.policy_cache._MEMBERS_KEPT", 2)
    for user_id in ("ann", "b", "c", "c", "ann"):
        await cache.user(user_id)

    assert store.reads == ["ann", "b", "c", "ann"]
