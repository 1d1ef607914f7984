import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

# Helpers that several suites share live in tests/support; nothing else of the repository becomes importable by this.
sys.path.insert(0, str(Path(__file__).parent))

from support.postgres import Postgres, postgres_server

# Machines that run tests are slow at times; what is wrong shows in the result, not in the time it took.
settings.register_profile("default", deadline=None)
settings.load_profile("default")


@pytest.fixture(scope="session")
def postgres() -> Iterator[Postgres]:
    with postgres_server() as server:
        yield server


@pytest.fixture
def postgres_url(postgres: Postgres) -> Iterator[str]:
    """A migrated PostgreSQL database of this test's own."""
    with postgres.database() as url:
        yield url
