"""How sync, the processes and the ledger are doing at this moment."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from owui_budget import wording
from owui_budget.clock import Clock
from owui_budget.database.tables import (
    counters,
    policy_groups,
    policy_users,
    reservations,
    sync_state,
    usage_events,
)
from owui_budget.ledger.access import read_meta, snapshot
from owui_budget.ledger.processes import Heartbeat, read_heartbeats
from owui_budget.ledger.protocol import LedgerState
from owui_budget.ledger.records import State
from owui_budget.policy_store import SqlPolicyStore

SILENT_AFTER: Final = 20.0
"""Seconds without a heartbeat (one is due every five) after which a process counts as gone."""
LATE_AFTER: Final = 4
"""Intervals without a successful sync after which it counts as late."""
_DAY: Final = 86_400.0


@dataclass(frozen=True, slots=True)
class SyncStatus:
    """The sync job. Times are epoch seconds by the machine's clock."""

    leader_id: str | None
    leading: bool
    """Whether somebody holds the lease right now."""
    fence: int
    last_started_at: float | None
    last_success_at: float | None
    last_error: str | None
    problems: tuple[str, ...]

    def lag(self, now: float) -> float | None:
        """Return the seconds since the last success; None before the first."""
        return None if self.last_success_at is None else max(0.0, now - self.last_success_at)


@dataclass(frozen=True, slots=True)
class GroupProblem:
    """A group whose limits in Open WebUI cannot be used."""

    id: str
    name: str
    problem: str
    limited: bool
    """Whether it keeps earlier, valid limits."""


@dataclass(frozen=True, slots=True)
class LedgerStatus:
    """The ledger in figures."""

    state: LedgerState
    now: float
    counters: int
    open_calls: int
    events_of_a_day: int
    oldest_event_at: float | None
    groups: int
    limited_groups: int
    users: int


@dataclass(frozen=True, slots=True)
class Status:
    """All of it, as of `now` (the machine's clock, epoch seconds)."""

    now: float
    sync: SyncStatus
    processes: tuple[Heartbeat, ...]
    ledger: LedgerStatus
    groups: tuple[GroupProblem, ...]
    problems: tuple[str, ...]
    """What needs somebody's attention, in sentences."""

    def alive(self, process: Heartbeat) -> bool:
        """Whether the process was heard of lately."""
        return self.now - process.seen_at <= SILENT_AFTER


def read_status(engine: sa.Engine, clock: Clock, *, interval: float, digest: str) -> Status:
    """Read everything. `interval` is sync's in seconds, `digest` that of limits.yaml as this command reads it.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    now = clock.now()
    beats = tuple(read_heartbeats(engine))
    groups = _group_problems(engine)
    with snapshot(engine) as connection:
        sync = _sync(connection, now)
        ledger = _ledger(connection, now)
    problems = (
        *_sync_problems(sync, beats, now, interval),
        *_process_problems(beats, now, digest),
        *(_group_sentence(each) for each in groups),
        *_clock_problems(ledger.state),
    )
    return Status(now, sync, beats, ledger, groups, problems)


_NEVER: Final = SyncStatus(
    leader_id=None,
    leading=False,
    fence=0,
    last_started_at=None,
    last_success_at=None,
    last_error=None,
    problems=(),
)


def _sync(connection: sa.Connection, now: float) -> SyncStatus:
    row = connection.execute(sa.select(sync_state)).one_or_none()
    if row is None:
        return _NEVER
    return SyncStatus(
        leader_id=row.leader_id,
        leading=row.leader_id is not None and row.lease_until > now,
        fence=row.fence,
        last_started_at=row.last_started_at,
        last_success_at=row.last_success_at,
        last_error=row.last_error,
        problems=tuple(row.problems),
    )


def _ledger(connection: sa.Connection, now: float) -> LedgerStatus:
    state = read_meta(connection)

    def count(table: sa.Table, *conditions: sa.ColumnElement[bool]) -> int:
        return connection.scalar(sa.select(sa.func.count()).select_from(table).where(*conditions)) or 0

    return LedgerStatus(
        state=state,
        now=now + state.clock_offset,
        counters=count(counters),
        open_calls=count(reservations, reservations.c.state == State.HELD.value),
        events_of_a_day=count(usage_events, usage_events.c.at > now + state.clock_offset - _DAY),
        oldest_event_at=connection.scalar(sa.select(sa.func.min(usage_events.c.at))),
        groups=count(policy_groups),
        limited_groups=count(policy_groups, policy_groups.c.limits.is_not(None)),
        users=count(policy_users),
    )


def _group_problems(engine: sa.Engine) -> tuple[GroupProblem, ...]:
    groups = SqlPolicyStore(engine).groups().values()
    return tuple(
        GroupProblem(each.id, each.name, each.problem, bool(each.limits))
        for each in sorted(groups, key=lambda group: (group.name, group.id))
        if each.problem
    )


def _group_sentence(group: GroupProblem) -> str:
    kept = "its last valid limits hold" if group.limited else "it has no limits"
    return f"group {wording.shown(group.name)} ({group.id}): {group.problem}; {kept}"


def _sync_problems(sync: SyncStatus, beats: Sequence[Heartbeat], now: float, interval: float) -> list[str]:
    found = []
    lag = sync.lag(now)
    if lag is None:
        found.append("sync has never succeeded; start it with `owui-budget run`")
    elif lag > LATE_AFTER * interval:
        found.append(f"sync last succeeded {wording.duration(lag)} ago; its log says why")
    elif not any(each.kind == "sync" for each in beats) and not sync.leading:
        found.append("no sync process runs; start it with `owui-budget run`")
    if sync.last_error:
        found.append(f"the last sync failed: {sync.last_error}")
    return [*found, *sync.problems]


def _process_problems(beats: Sequence[Heartbeat], now: float, digest: str) -> list[str]:
    found = []
    alive = [each for each in beats if now - each.seen_at <= SILENT_AFTER]
    if not any(each.kind == "hooks" for each in alive):
        found.append("no LiteLLM process with the budget hooks is running: nothing is counted or refused")
    for each in beats:
        who = f"{each.kind} process {each.host}:{each.pid}"
        if each not in alive:
            # One that was killed and started again leaves its row for a day; its successor speaks for it.
            if not any(other.kind == each.kind and other.started_at > each.seen_at for other in alive):
                found.append(f"{who} was last heard of {wording.duration(now - each.seen_at)} ago")
            continue
        if each.spool_depth:
            found.append(f"{who} keeps {each.spool_depth:,} records in its spool that the ledger has not taken yet")
        if each.open_since is not None:
            found.append(f"{who} has admitted without the ledger for {wording.duration(now - each.open_since)}")
        if each.limits_digest and each.limits_digest != digest:
            found.append(f"{who} reads another limits.yaml than this command; give both the same file and restart it")
        found.extend(f"{who}: {problem}" for problem in each.problems)
    return found


def _clock_problems(state: LedgerState) -> list[str]:
    if not state.clock_offset:
        return []
    ahead = "ahead of" if state.clock_offset > 0 else "behind"
    return [
        f"the test clock is on: the ledger is {wording.duration(abs(state.clock_offset))} {ahead} the machine's clock;"
        " `owui-budget test-clock reset` puts it back"
    ]
