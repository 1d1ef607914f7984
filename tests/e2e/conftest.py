"""One whole stack for all tests here: PostgreSQL, the simulated provider, LiteLLM, Open WebUI and the sync job."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from support.openwebui import House

from stack import processes
from stack.run import Stack
from stack.state import ROOT, State


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--stack-dir",
        type=Path,
        default=None,
        help="Keep the stack of the end-to-end tests here for the next run, which then starts in half the time. "
        "One that runs there already is used as it is and left running.",
    )
    parser.addoption("--pictures", action="store_true", help="Take the pictures in docs/images anew.")


@pytest.fixture(scope="package")
def house(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[House]:
    folder: Path = request.config.getoption("--stack-dir", default=None) or tmp_path_factory.mktemp("e2e") / "stack"
    stack = Stack(folder)
    running = processes.find(State(folder.resolve()), "openwebui") is not None
    try:
        stack.start()
        house = House(stack)
        yield house
        house.proxied.move_clock(0)
        house.close()
    finally:
        if not running:
            stack.stop_all()


@pytest.fixture
def pictures(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Where to put pictures of the browser."""
    return ROOT / "docs" / "images" if request.config.getoption("--pictures", default=False) else tmp_path


@pytest.fixture(autouse=True)
def _present(house: House) -> None:
    house.set_clock()
