from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import sqlalchemy as sa
from support.ledgers import Store, TestedLedger, sqlite_store

KINDS = ["memory", "sqlite", "postgres"]


@pytest.fixture(params=KINDS)
async def store(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Store]:
    """Every kind of store, empty; the clock stands at noon of a Monday."""
    if request.param == "sqlite":
        async with sqlite_store(tmp_path) as made:
            yield made
        return
    made = Store(request.param, request.getfixturevalue("postgres_url") if request.param == "postgres" else None)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def engine(store: Store) -> sa.Engine:
    """The store's database; tests that ask for it are marked `on_databases`."""
    assert store.engine is not None
    return store.engine


@pytest.fixture
async def ledger(store: Store) -> TestedLedger:
    return await store.open()
