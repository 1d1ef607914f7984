from collections.abc import Iterator
from pathlib import Path

import pytest
from support.proxied import Proxied

import stack


@pytest.fixture(scope="package")
def proxy_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[stack.Stack]:
    """PostgreSQL, the simulated provider and LiteLLM with our hooks, as docker-compose.yml describes them."""
    folder: Path = tmp_path_factory.mktemp("proxy")
    with stack.running(folder / "stack", services=("postgres", "provider", "litellm")) as running:
        yield running


@pytest.fixture(scope="package")
def proxied(proxy_stack: stack.Stack) -> Iterator[Proxied]:
    proxied = Proxied(proxy_stack)
    yield proxied
    proxied.close()


@pytest.fixture(autouse=True)
def _back_to_the_present(proxied: Proxied) -> Iterator[None]:
    yield
    proxied.move_clock(0)
