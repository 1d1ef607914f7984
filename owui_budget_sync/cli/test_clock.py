"""`owui-budget test-clock`, not listed in the help: moves the ledger's time for tests of windows and resets."""

import re
from datetime import timedelta
from typing import Annotated, Final

import typer

from owui_budget.errors import FinalError
from owui_budget.ledger import upkeep
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget_sync.cli import doors, shell

commands = typer.Typer()

_STEP: Final = re.compile(r"([+-])(\d{1,9}(?:\.\d{1,6})?)([smhdw])")
_SECONDS: Final = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_FARTHEST: Final = timedelta(days=3_660)


class UnusableStepError(FinalError):
    """A step in time that is none."""


@commands.command(name="test-clock", hidden=True, context_settings={"ignore_unknown_options": True})
def move(
    step: Annotated[str | None, typer.Argument(metavar="+1d|-2h|reset", help="Left out: show the offset.")] = None,
    *,
    yes: shell.Yes = False,
    as_json: shell.AsJson = False,
) -> None:
    """Move the ledger's time, for all processes at once. For tests only: every user's windows move with it.

    `+1d`, `+90m`, `-2h` move it from where it is; `reset` puts it back to the machine's clock. Windows that were
    opened stay open when it goes back. Asks first unless --yes; `status` and `check` report a clock that is not reset.
    """
    with doors.desk() as desk:
        offset = desk.state.clock_offset
        if step is not None:
            offset = 0.0 if step == "reset" else offset + _seconds(step)
            if abs(offset) > _FARTHEST.total_seconds():
                msg = f"{step} would put the ledger more than ten years away from the machine's clock"
                raise UnusableStepError(msg)
            shell.confirm("Move the time by which everybody's limits are counted? This is for tests.", yes=yes)
            upkeep.set_clock_offset(desk.engine, offset)
            offset = upkeep.state(desk.engine, LedgerClock(desk.clock)).clock_offset
    if as_json:
        shell.print_json({"clock_offset": offset})
    else:
        shell.line(f"the ledger's time is {offset:+,.0f} s from the machine's")


def _seconds(step: str) -> float:
    match = _STEP.fullmatch(step)
    if match is None:
        msg = f"{step[:40]!r} is no step in time; write +1d, +90m, -2h, +1w or reset"
        raise UnusableStepError(msg)
    size = float(match[2]) * _SECONDS[match[3]]
    return size if match[1] == "+" else -size
