"""A random walk through everything a ledger can be asked, against a model that is plain lists.

The model knows no counters: it keeps calls and events and adds them up whenever a figure is needed.
"""

import asyncio
from collections.abc import Awaitable
from dataclasses import dataclass, field
from itertools import combinations
from typing import TypeVar
from zoneinfo import ZoneInfo

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule
from support.ledgers import NOON, Store, TestedLedger, call, limit, pool, reserve, settled, user

from owui_budget.database.tables import metadata
from owui_budget.domain.decisions import Admission, Refused, Standing, decide
from owui_budget.domain.identity import Counter
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window, span_of
from owui_budget.ledger import upkeep
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.protocol import Admitted, Declined, Reserve, Stale, Swept
from owui_budget.ledger.sql import SqlLedger

T = TypeVar("T")

USERS = ("u1", "u2", "strict")
GROUPS = ("g1", "g2")
ZONES = ("UTC", "America/New_York", "Asia/Kathmandu", "Australia/Lord_Howe")
STRICT_LIMIT = 100
LEASE = 120.0


@dataclass
class ModelCall:
    request: Reserve
    at: float
    lease_until: float
    state: str = "held"
    released_at: float = 0.0
    charges: list[int] = field(default_factory=list)
    """What its events charge: the usage, or the estimate and its correction."""

    @property
    def counters(self) -> set[str]:
        """What it counts in: its counters, and the pools it names, limited or not."""
        pools = {pool(each).key for each in self.request.call.pool_group_ids}
        return {each.key for each in self.request.counters} | pools


class LedgerMachine(RuleBasedStateMachine):
    """The walk. `store` is set by `machine_on`."""

    store: Store

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.now = NOON
        self.zone = "UTC"
        self.revision = 0
        self.calls: list[ModelCall] = []
        self.adjustments: list[tuple[float, str, int]] = []
        self.opened: set[str] = set()
        self.ledger: TestedLedger

    def do(self, work: Awaitable[T]) -> T:
        async def wait() -> T:
            return await work

        return self.runner.run(wait())

    def teardown(self) -> None:
        self.do(self.ledger.close())
        self.runner.close()

    @initialize()
    def begin(self) -> None:
        self.store.clock.advance(NOON - self.store.clock.now())
        if self.store.engine is None:
            self.store._memory = None
        else:
            with self.store.engine.begin() as connection:
                for table in metadata.sorted_tables:
                    if table.name not in ("meta", "sync_state"):
                        connection.execute(sa.delete(table))
                connection.execute(sa.update(metadata.tables["meta"]).values(revision=0, zone="UTC", clock_offset=0))
        self.ledger = self.do(self.store.open())
        self.store._opened.clear()

    # -- the model's arithmetic

    def used(self, key: str, window: Window) -> int:
        span = span_of(window, self.now, ZoneInfo(self.zone))
        calls = sum(
            sum(each.charges) for each in self.calls if key in each.counters and span.contains(each.at) and each.charges
        )
        return calls + sum(charge for at, other, charge in self.adjustments if other == key and span.contains(at))

    def held(self, key: str, window: Window) -> int:
        span = span_of(window, self.now, ZoneInfo(self.zone))
        open_calls = [each for each in self.calls if each.state == "held" and span.contains(each.at)]
        return sum(each.request.estimate for each in open_calls if key in each.counters)

    def standing(self, each: LimitInForce) -> Standing:
        key, window = each.counter.key, each.window
        span = span_of(window, self.now, ZoneInfo(self.zone))
        return Standing(each, span, self.used(key, window), self.held(key, window))

    def pick(self, index: int, *states: str) -> ModelCall | None:
        fitting = [each for each in self.calls if each.state in states]
        return fitting[index % len(fitting)] if fitting else None

    # -- what can happen

    @rule(
        name=st.sampled_from(USERS[:2]),
        groups=st.sampled_from([each for size in range(3) for each in combinations(GROUPS, size)]),
        limited=st.sets(st.sampled_from(["user", *GROUPS])),
        window=st.sampled_from(Window),
        hard=st.integers(0, 120),
        estimate=st.integers(0, 60),
        admission=st.sampled_from(Admission),
    )
    def reserve(
        self,
        name: str,
        groups: tuple[str, ...],
        limited: set[str],
        window: Window,
        hard: int,
        estimate: int,
        admission: Admission,
    ) -> None:
        limits = [limit(user(name), hard, window)] if "user" in limited else []
        limits += [limit(pool(each), hard, window) for each in groups if each in limited]
        self._reserve(
            reserve(
                *limits,
                call=call(name, groups),
                estimate=estimate,
                admission=admission,
                revision=self.revision,
            )
        )

    @rule(estimate=st.integers(0, 60), window=st.sampled_from([Window.DAILY, Window.MONTHLY]))
    def reserve_strictly(self, estimate: int, window: Window) -> None:
        limits = [limit(user("strict"), STRICT_LIMIT, window)]
        self._reserve(
            reserve(
                *limits,
                call=call("strict"),
                estimate=estimate,
                admission=Admission.STRICT,
                revision=self.revision,
            )
        )

    def _reserve(self, request: Reserve) -> None:
        expected = decide([self.standing(each) for each in request.limits], request.estimate, request.admission)
        self.opened |= {each.key for each in request.counters if each.key.startswith("pool:")}
        before = self.store.rows()
        outcome = self.do(self.ledger.reserve(request))
        if isinstance(expected, Refused):
            assert outcome == Declined(expected)
            grown = {key: row for key, row in self.store.rows().items() if key in before}
            assert grown == before, "invariant 2: a refused call changes no counter"
        else:
            assert outcome == Admitted(expected, self.now)
            self.calls.append(ModelCall(request, self.now, self.now + LEASE))

    @rule(name=st.sampled_from(USERS), off=st.integers(1, 3))
    def reserve_by_an_old_policy(self, name: str, off: int) -> None:
        before = self.store.rows()
        outcome = self.do(self.ledger.reserve(reserve(call=call(name), revision=self.revision + off)))
        assert outcome == Stale(self.revision)
        assert self.store.rows() == before

    @rule(index=st.integers(0, 50), charge=st.integers(0, 200))
    def settle(self, index: int, charge: int) -> None:
        each = self.pick(index, "held", "expired")
        if each is None:
            return
        if each.request.call.user_id == "strict":
            charge = min(charge, each.request.estimate)  # the provider honours its cap
        assert self.do(self.ledger.settle(settled(each.request, charge, each.at)))
        each.charges.append(charge - sum(each.charges))
        each.state = "settled"

    @rule(index=st.integers(0, 50), charge=st.integers(0, 200))
    def repeat_the_end(self, index: int, charge: int) -> None:
        each = self.pick(index, "settled", "released")
        if each is not None:
            assert not self.do(self.ledger.settle(settled(each.request, charge, each.at)))
            assert not self.do(self.ledger.release(each.request.id))

    @rule(index=st.integers(0, 50))
    def release(self, index: int) -> None:
        each = self.pick(index, "held", "expired")
        if each is not None:
            assert self.do(self.ledger.release(each.request.id))
            each.charges.append(-sum(each.charges))
            # The release of a lost call is remembered by its events, that of a running one by a row, for some days.
            each.state, each.released_at = ("released" if each.state == "held" else "settled"), self.now

    @rule(
        name=st.sampled_from(USERS[:2]),
        group=st.sampled_from(GROUPS),
        charge=st.integers(0, 50),
        ago=st.integers(0, 90_000),
    )
    def settle_what_the_ledger_never_saw(self, name: str, group: str, charge: int, ago: int) -> None:
        request = reserve(limit(pool(group), 100), call=call(name, (group,)))
        at = self.now - ago
        for first in (True, False):
            assert self.do(self.ledger.settle(settled(request, charge, at))) is first
        self.calls.append(ModelCall(request, at, 0.0, "settled", charges=[charge]))

    @rule(seconds=st.sampled_from([1.0, 60.0, 130.0, 1_000.0, 3_600.0, 20_000.0, 86_400.0, 500_000.0, 2_700_000.0]))
    def time_passes(self, seconds: float) -> None:
        self.now += seconds
        self.store.clock.advance(seconds)

    @rule()
    def sweep(self) -> None:
        lost = [each for each in self.calls if each.state == "held" and each.lease_until <= self.now]
        old = [
            each
            for each in self.calls
            if each.state == "released" and each.released_at < self.now - upkeep.TOMBSTONE_SECONDS
        ]
        assert self.do(self.ledger.sweep()) == Swept(expired=len(lost), purged=len(old))
        for each in old:
            each.state = "forgotten"
        for each in lost:
            each.state = "expired"
            each.charges.append(each.request.estimate)

    @rule()
    def renew(self) -> None:
        running = [each for each in self.calls if each.state == "held"]
        self.do(self.ledger.renew([each.request.id for each in running]))
        for each in running:
            each.lease_until = self.now + LEASE

    @rule(counter=st.sampled_from([user("u1"), pool("g1")]), charge=st.integers(-50, 50))
    def adjust(self, counter: Counter, charge: int) -> None:
        self.do(self.ledger.adjust(counter, charge, "by hand"))
        self.adjustments.append((self.now, counter.key, charge))
        self.opened |= {counter.key} & {"pool:g1"}

    @rule(counter=st.sampled_from([user("u2"), pool("g2")]))
    def reset(self, counter: Counter) -> None:
        figures = {window.value: self.used(counter.key, window) for window in Window}
        assert self.do(self.ledger.reset(counter, "a new start")) == figures
        self.opened |= {counter.key} & {"pool:g2"}
        spans = sorted((span_of(each, self.now, ZoneInfo(self.zone)).start, each) for each in Window)
        for start, window in reversed(spans):
            self.adjustments.append((float(start), counter.key, -self.used(counter.key, window)))

    @precondition(lambda self: self.zone is not None)
    @rule(zone=st.sampled_from(ZONES))
    def change_zone(self, zone: str) -> None:
        if zone == self.zone:
            return
        if isinstance(self.ledger, MemoryLedger):
            self.ledger.set_state(zone=zone)
        else:
            assert isinstance(self.ledger, SqlLedger)
            assert self.store.engine is not None
            upkeep.take_zone(self.store.engine, self.ledger._clock, zone)
        self.zone = zone
        self.revision += 1

    # -- what must always hold

    @invariant()
    def invariant_3_sums_of_events_are_the_counters(self) -> None:
        if hasattr(self, "ledger"):
            assert self.do(self.ledger.verify()) == []
            events = self.store.events()
            assert len({(each.reservation_id, each.type) for each in events}) == len(events)

    @invariant()
    def figures_are_those_of_the_model(self) -> None:
        if not hasattr(self, "ledger"):
            return
        counters = [*(user(each) for each in USERS), *(pool(each) for each in GROUPS)]
        limits = [limit(each, None, window) for each in counters for window in Window]
        for standing, each in zip(self.do(self.ledger.standings(limits)), limits, strict=True):
            expected = self.standing(each)
            if each.counter.key in self.opened or each.counter.key.startswith("user:"):
                assert standing == expected
            else:  # a pool that nobody limits yet: no row holds anything for it
                assert (standing.used, standing.held) == (expected.used, 0)

    @invariant()
    def invariant_1_strict_admits_no_token_over(self) -> None:
        if self.zone == "UTC" and self.revision == 0:  # a change of zone moves what was used into other windows
            for window in (Window.DAILY, Window.MONTHLY):
                limited = [each for each in self.calls if each.request.call.user_id == "strict"]
                if all(each.request.limits[0].window is window for each in limited):
                    assert self.used("user:strict", window) + self.held("user:strict", window) <= STRICT_LIMIT


def machine_on(store: Store) -> type[LedgerMachine]:
    """Return the walk over one store."""
    return type("MachineOn" + store.kind.title(), (LedgerMachine,), {"store": store})
