"""Several processes at once on one database: bounds hold, nobody deadlocks, outages end."""

import asyncio
import random
import sqlite3
from contextlib import suppress

import asyncpg
import pytest
import sqlalchemy as sa
from support.ledgers import NOON, Store, admit, call, figures, limit, pool, reserve, settled, spend, user

from owui_budget.clock import ManualClock
from owui_budget.database.engine import database_url
from owui_budget.domain.decisions import Admission
from owui_budget.errors import LedgerBusyError, LedgerUnavailableError, SchemaError
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.operations import Expire
from owui_budget.ledger.postgres import asyncpg_dsn
from owui_budget.ledger.protocol import Admitted, NoticeClaim, Swept
from owui_budget.ledger.sql import SqlLedger
from owui_budget.limits_file import Limits

on_postgres = pytest.mark.parametrize("store", ["postgres"], indirect=True)
on_sqlite = pytest.mark.parametrize("store", ["sqlite"], indirect=True)


async def _reachable(store: Store, *, yes: bool) -> None:
    """Play a PostgreSQL that goes (every connection ends, none is let in) or comes back."""
    assert store.settings is not None
    url = database_url(store.settings)
    connection = await asyncpg.connect(asyncpg_dsn(url.set(database="postgres")))
    await connection.execute(f"ALTER DATABASE {url.database} ALLOW_CONNECTIONS {str(yes).lower()}")
    if not yes:
        await connection.execute(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = $1::text", url.database
        )
    await connection.close()


@on_postgres
async def test_invariant_1_last_request_overruns_by_no_more_than_its_bound(store: Store) -> None:
    """The bound: the crossing call, and what calls in flight take beyond their estimates."""
    processes = [await store.open("p1"), await store.open("p2")]
    hard, limits = 2_000, (limit(user(), 2_000), limit(pool(), 2_000))
    estimates: dict[str, tuple[int, int]] = {}

    async def caller(number: int) -> None:
        ledger, luck = processes[number % 2], random.Random(number)  # noqa: S311 - a repeatable walk
        while True:
            request = reserve(*limits, estimate=luck.randint(1, 30), pools=["g1"])
            outcome = await ledger.reserve(request)
            if not isinstance(outcome, Admitted):
                return
            actual = luck.randint(0, 45)
            estimates[request.id] = (request.estimate, actual)
            await asyncio.sleep(luck.random() / 500)
            await ledger.settle(settled(request, actual))

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(64)))
    used, held = await figures(processes[0], user())
    assert held == 0
    assert used == sum(actual for _, actual in estimates.values()) == (await figures(processes[1], pool()))[0]
    beyond = sum(max(0, actual - estimate) for estimate, actual in estimates.values())
    assert hard <= used <= hard + 30 + beyond
    assert await processes[0].verify() == []


@on_postgres
async def test_invariant_1_strict_lets_no_token_over(store: Store) -> None:
    processes = [await store.open("p1"), await store.open("p2")]
    admitted = 0

    async def caller(number: int) -> None:
        nonlocal admitted
        for _ in range(6):
            request = reserve(limit(user(), 1_000), estimate=20, admission=Admission.STRICT)
            if isinstance(await processes[number % 2].reserve(request), Admitted):
                admitted += 1
                if number % 3:
                    await processes[(number + 1) % 2].settle(settled(request, 20))

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(64)))
    used, held = await figures(processes[0], user())
    assert admitted == 50
    assert used + held == 1_000


@on_postgres
async def test_invariant_4_one_order_of_locks_no_deadlock(store: Store) -> None:
    """Users and pools in any order, ended by either process, while both sweep and renew."""
    processes = [await store.open("p1"), await store.open("p2")]
    groups = [f"g{number}" for number in range(6)]

    async def caller(number: int) -> None:
        luck = random.Random(number)  # noqa: S311 - a repeatable walk
        for _ in range(8):
            mine = luck.sample(groups, 4)
            request = reserve(
                *(limit(pool(each), None) for each in mine),
                estimate=1,
                call=call(f"u{luck.randint(0, 5)}", tuple(mine)),
            )
            await admit(processes[luck.randint(0, 1)], request)
            ending = luck.random()
            if ending < 0.6:
                assert await processes[luck.randint(0, 1)].settle(settled(request, 2))
            elif ending < 0.8:
                assert await processes[luck.randint(0, 1)].release(request.id)
            else:
                await processes[luck.randint(0, 1)].renew([request.id])

    async with asyncio.timeout(60):
        await asyncio.gather(*(caller(number) for number in range(64)))
    assert await processes[0].verify() == []
    store.clock.advance(200)
    swept = await asyncio.gather(*(each.sweep() for each in [*processes, *processes]))
    assert sum(each.expired for each in swept) + len(store.events()) > 0
    assert store.open_ids() == set()
    assert await processes[0].verify() == []


@on_postgres
async def test_invariant_2_a_settlement_replayed_by_two_processes_is_charged_once(store: Store) -> None:
    processes = [await store.open("p1"), await store.open("p2")]
    ends = [settled(reserve(limit(user(), 100)), 1) for _ in range(40)]
    async with asyncio.timeout(60):
        answers = await asyncio.gather(*(each.settle(end) for end in ends for each in processes))
    assert sum(answers) == 40
    assert await figures(processes[0], user()) == (40, 0)
    assert await processes[0].verify() == []


@on_postgres
async def test_a_notice_goes_to_one_of_many(store: Store) -> None:
    processes = [await store.open("p1"), await store.open("p2")]
    claim = NoticeClaim("u1", "user:u1", "daily", int(NOON), "soft", 100)
    claimed = await asyncio.gather(*(each.claim_notice([claim]) for each in processes * 4))
    assert sorted(len(each) for each in claimed) == [0] * 7 + [1]


@on_postgres
async def test_two_processes_open_one_pool(store: Store) -> None:
    processes = [await store.open("p1"), await store.open("p2")]
    await spend(processes[0], 10, pools=["g1"])
    outcomes = await asyncio.gather(
        *(each.reserve(reserve(limit(pool(), 100), estimate=1, pools=["g1"])) for each in processes * 5)
    )
    assert all(isinstance(each, Admitted) for each in outcomes)
    assert await figures(processes[0], pool()) == (10, 10)
    assert await processes[0].verify() == []


@on_postgres
async def test_after_an_outage_the_ledger_answers_again(store: Store) -> None:
    ledger = await store.open()
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    await _reachable(store, yes=False)
    with pytest.raises(LedgerUnavailableError):
        await ledger.settle(settled(request, 5))
    with pytest.raises(LedgerUnavailableError):
        await ledger.settle(settled(request, 5))
    await _reachable(store, yes=True)
    async with asyncio.timeout(10):
        while store.open_ids():
            with suppress(LedgerUnavailableError):
                assert await ledger.settle(settled(request, 5))
            await asyncio.sleep(0.05)
    assert await figures(ledger, user()) == (5, 0)


@on_postgres
async def test_a_commit_of_unknown_outcome_leaves_nothing_held_and_may_be_settled(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    ledger = await store.open()
    assert isinstance(ledger, SqlLedger)
    await spend(ledger, 1, limit(user(), 100))
    door = ledger._door
    connection = door._connection  # type: ignore[attr-defined]
    execute = type(connection).execute

    async def cut(self: asyncpg.Connection, query: str, *args: object) -> str:  # type: ignore[type-arg]
        done: str = await execute(self, query, *args)
        if query == "COMMIT":
            raise ConnectionResetError("cut after the commit")
        return done

    refused, admitted_open = reserve(limit(user(), 100)), reserve(limit(user(), 100))
    monkeypatch.setattr(type(connection), "execute", cut)
    with pytest.raises(LedgerUnavailableError, match="during a commit"):
        await ledger.reserve(refused)
    with pytest.raises(LedgerUnavailableError):
        await ledger.reserve(admitted_open)
    monkeypatch.undo()
    assert await ledger.settle(settled(admitted_open, 7))
    await ledger._flusher.drain()
    assert await figures(ledger, user()) == (8, 0)
    assert store.open_ids() == set()
    assert await ledger.verify() == []


@on_postgres
async def test_a_database_that_is_not_there_is_an_outage(store: Store) -> None:
    assert store.settings is not None
    url = store.settings.database_url.get_secret_value().replace("/test_", "/gone_")
    settings = store.settings.model_copy(update={"database_url": type(store.settings.database_url)(url)})
    ledger = open_ledger(settings, Limits(), ManualClock(NOON))
    with pytest.raises(LedgerUnavailableError):
        await ledger.start()
    with pytest.raises(LedgerUnavailableError):
        await ledger.reserve(reserve())
    await ledger.close()


@on_postgres
async def test_a_schema_that_is_not_there_names_the_way_out(store: Store) -> None:
    assert store.settings is not None
    settings = store.settings.model_copy(update={"database_schema": "elsewhere"})
    ledger = open_ledger(settings, Limits(), ManualClock(NOON))
    with pytest.raises(SchemaError, match="owui-budget db upgrade"):
        await ledger.start()
    await ledger.close()


@on_sqlite
async def test_a_second_process_on_sqlite_is_told_at_once(store: Store) -> None:
    first = await store.open("p1")
    with pytest.raises(LedgerBusyError, match=r"process \d+ already serves.*PostgreSQL"):
        await store.open("p2")
    await spend(first, 5)
    await first.close()
    second = await store.open("p2")
    assert await figures(second, user()) == (5, 0)


@on_sqlite
async def test_the_command_line_works_beside_the_process_that_serves(store: Store) -> None:
    serving, beside = await store.open("p1"), await store.open("cli", serve=False)
    await spend(serving, 5, limit(user(), 100))
    await beside.adjust(user(), 3, "goodwill")

    async def calls() -> None:
        for _ in range(30):
            await spend(serving, 1, limit(user(), 1_000))

    async def upkeep() -> None:
        for _ in range(10):
            assert await beside.verify() == []
            await beside.adjust(user(), 1, "more")

    async with asyncio.timeout(60):
        await asyncio.gather(calls(), upkeep())
    assert await figures(serving, user()) == (48, 0)
    assert (await beside.reset(user(), "over"))["daily"] == 48
    assert await figures(serving, user()) == (0, 0)
    assert await serving.verify() == []


@on_sqlite
async def test_a_writer_that_keeps_sqlite_is_an_outage(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = await store.open()
    await spend(ledger, 1)
    assert isinstance(ledger, SqlLedger)
    ledger._door._connection.execute("PRAGMA busy_timeout=50")  # type: ignore[attr-defined]
    assert store.engine is not None
    with store.engine.begin(), pytest.raises(LedgerUnavailableError, match="locked"):
        await ledger.reserve(reserve())
    await spend(ledger, 1)


async def test_two_sweeps_expire_a_lease_once(store: Store) -> None:
    ledger = await store.open()
    request = reserve(limit(user(), 100))
    await admit(ledger, request)
    store.clock.advance(200)
    assert await asyncio.gather(ledger._submit(Expire(request.id)), ledger._submit(Expire(request.id))) == [True, False]
    assert await ledger.sweep() == Swept()


@on_sqlite
async def test_a_file_that_is_no_database_is_an_outage_not_a_refusal(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A refusal would drop the charge; an outage spools it."""
    ledger = await store.open()
    request = reserve()
    await admit(ledger, request)
    assert isinstance(ledger, SqlLedger)

    def broken(*_: object) -> None:
        raise sqlite3.DatabaseError("database disk image is malformed")

    monkeypatch.setattr(ledger._door, "_carry_out", broken)
    with pytest.raises(LedgerUnavailableError, match="malformed"):
        await ledger.settle(settled(request, 5))
    monkeypatch.undo()
    assert await ledger.settle(settled(request, 5))


@on_postgres
async def test_a_table_that_is_gone_is_an_outage_not_a_refusal(store: Store) -> None:
    ledger = await store.open()
    request = reserve()
    await admit(ledger, request)
    store.execute(sa.text("ALTER TABLE owui_budget.usage_charges RENAME TO hidden"))
    with pytest.raises(LedgerUnavailableError, match="usage_charges"):
        await ledger.settle(settled(request, 5))
    store.execute(sa.text("ALTER TABLE owui_budget.hidden RENAME TO usage_charges"))
    async with asyncio.timeout(10):
        while store.open_ids():
            with suppress(LedgerUnavailableError):
                assert await ledger.settle(settled(request, 5))
            await asyncio.sleep(0.05)
    assert await figures(ledger, user()) == (5, 0)
