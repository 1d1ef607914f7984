from collections.abc import Iterator
from pathlib import Path

import pytest

import stack
from failure.fleet import Bare, Fleet, overrides, write_configuration


@pytest.fixture(scope="package")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fleet]:
    """Four LiteLLM processes on one PostgreSQL: two open, one closed, one strict, all with leases of ten seconds."""
    folder: Path = tmp_path_factory.mktemp("failure")
    configuration = write_configuration(folder / "proxy_config")
    with stack.running(
        folder / "stack",
        services=("postgres", "provider", "litellm"),
        litellm=4,
        mounts={"./proxy_config": configuration},
        overrides=overrides(configuration),
    ) as running:
        fleet = Fleet(running)
        yield fleet
        fleet.close()


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bare]:
    """LiteLLM processes without a database, each started by its test."""
    folder: Path = tmp_path_factory.mktemp("bare")
    with stack.running(folder / "stack", services=("provider",), litellm=8) as running:
        bare = Bare(running, folder)
        yield bare
        bare.close()
