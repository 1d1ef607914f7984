import pytest
from support.ledgers import DAY

from .conftest import Run, World


def offset(cli: Run, *arguments: str) -> float:
    done = cli("test-clock", *arguments, "--json")
    assert done.code == 0, done.err
    moved: float = done.json["clock_offset"]
    return moved


def test_steps_add_up_and_reset_puts_it_back(cli: Run, world: World) -> None:
    assert offset(cli) == 0
    assert offset(cli, "+1d", "--yes") == DAY
    assert offset(cli, "-90m", "--yes") == DAY - 5_400
    assert offset(cli, "+1.5h", "--yes") == DAY
    assert cli("test-clock").out == "the ledger's time is +86,400 s from the machine's\n"
    assert offset(cli, "reset", "--yes") == 0


def test_it_moves_windows(cli: Run, world: World) -> None:
    world.spend("u-bob", 120)
    assert cli("explain", "Bob", "--json").json["next_call"]["verdict"] == "refused"
    offset(cli, "+1d", "--yes")
    assert cli("explain", "Bob", "--json").json["next_call"]["verdict"] == "allowed"


def test_it_asks(cli: Run, world: World) -> None:
    done = cli("test-clock", "+1d")
    assert done.code == 1
    assert "nobody answered, so nothing was changed; add --yes" in done.err
    assert offset(cli) == 0


@pytest.mark.parametrize("step", ["1d", "+1y", "tomorrow", "+99999w", "--1d", "+1d2h"])
def test_steps_that_are_none(cli: Run, world: World, step: str) -> None:
    done = cli("test-clock", step, "--yes")
    assert done.code in (1, 2)
    assert offset(cli) == 0


def test_it_is_not_in_the_help(cli: Run) -> None:
    assert "test-clock" not in cli("--help").out
