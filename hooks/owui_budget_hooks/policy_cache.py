"""The policy in memory, kept at the revision the ledger names.

Reserve compares the revision inside its transaction; on a mismatch it writes nothing and this cache reloads. The last
snapshot is kept on disk, so that a process can start while the database is away.
"""

import asyncio
import logging
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from owui_budget.domain.policy import Policy, PolicyRules
from owui_budget.errors import LedgerUnavailableError
from owui_budget.policy_store.snapshot_file import SnapshotFileError, load_snapshot, save_snapshot
from owui_budget.policy_store.store import SqlPolicyStore
from owui_budget.policy_store.values import PolicyUser, Snapshot
from owui_budget_hooks.patience import patience

log = logging.getLogger("owui_budget.policy")

_MEMBERS_TTL = 5.0
"""Seconds for which a user's memberships are believed without asking again."""
_MEMBERS_KEPT = 20_000
_READ_SECONDS = 5.0

T = TypeVar("T")


class PolicyCache:
    """Groups, tree and rules; memberships by user with a short cache."""

    def __init__(self, store: SqlPolicyStore, rules: PolicyRules, keep: Path, monotonic: Callable[[], float]) -> None:
        """Use `store`, combine with `rules`, keep snapshots at `keep`."""
        self._store = store
        self._rules = rules
        self._keep = keep
        self._monotonic = monotonic
        self._loading: asyncio.Task[None] | None = None
        self._users: OrderedDict[str, tuple[float, PolicyUser | None]] = OrderedDict()
        self.policy = Policy(rules=rules)
        self.revision = -1
        self.from_disk = False

    async def start(self) -> None:
        """Load from the database, or from disk while it is away. Without either, no group limit is known yet."""
        try:
            await self.reload()
        except LedgerUnavailableError:
            try:
                kept = await asyncio.to_thread(load_snapshot, self._keep)
            except SnapshotFileError as error:
                log.warning("the policy cannot be read, group limits are not known yet: %s", error)
                return
            self._use(kept)
            self.from_disk = True
            log.warning("the policy cannot be read: using revision %d from %s", kept.revision, self._keep)

    async def reload(self) -> None:
        """Read the current snapshot; callers that come while one read runs share it.

        Raises:
            LedgerUnavailableError: the database cannot be read.

        """
        if self._loading is None or self._loading.done():
            self._loading = asyncio.create_task(self._load(), name="owui-budget policy reload")
        await asyncio.shield(self._loading)

    async def _load(self) -> None:
        snapshot = await _in_time(self._store.snapshot)
        if snapshot.revision == self.revision and not self.from_disk:
            return
        self._use(snapshot)
        self.from_disk = False
        log.info("policy revision %d: %d groups", snapshot.revision, len(snapshot.groups))
        try:
            await asyncio.to_thread(save_snapshot, self._keep, snapshot)
        except OSError as error:
            # Only a start without a database needs the file, so enforcement goes on; the operator must know.
            log.error("cannot keep the policy at %s: %s", self._keep, error)  # noqa: TRY400 - expected, no traceback

    def _use(self, snapshot: Snapshot) -> None:
        self.policy = Policy(groups=snapshot.groups, rules=self._rules)
        self.revision = snapshot.revision

    async def user(self, user_id: str) -> PolicyUser | None:
        """Return a user with direct memberships, at most five seconds old.

        Raises:
            LedgerUnavailableError: the database cannot be read and nothing is known of this user.

        """
        return await self._cached(f"id:{user_id}", lambda: self._store.user(user_id))

    async def user_by_email(self, email: str) -> PolicyUser | None:
        """Return the user with this e-mail address, upper and lower case alike."""
        return await self._cached(f"email:{email.lower()}", lambda: self._store.user_by_email(email))

    async def _cached(self, key: str, read: Callable[[], PolicyUser | None]) -> PolicyUser | None:
        now = self._monotonic()
        known = self._users.get(key)
        if known is not None and now - known[0] < _MEMBERS_TTL:
            return known[1]
        try:
            user = await _in_time(read)
        except LedgerUnavailableError:
            if known is None:
                raise
            log.warning("memberships cannot be read: using what was known %d s ago", now - known[0])
            return known[1]
        self._users[key] = (now, user)
        self._users.move_to_end(key)
        while len(self._users) > _MEMBERS_KEPT:
            self._users.popitem(last=False)
        return user


async def _in_time(read: Callable[[], T]) -> T:
    """Read in a thread, and give up on a database that hangs; the thread ends when its connection does.

    Raises:
        LedgerUnavailableError: the database cannot be reached, or has not answered in time.

    """
    try:
        async with patience(_READ_SECONDS):
            return await asyncio.to_thread(read)
    except TimeoutError as error:
        msg = f"the policy store has not answered for {_READ_SECONDS:.0f} s"
        raise LedgerUnavailableError(msg) from error
