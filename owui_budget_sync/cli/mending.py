"""`owui-budget reset` and `erase`: an operator's changes to what is recorded of somebody."""

from typing import Annotated, Any

import typer

from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.errors import FinalError
from owui_budget.ledger.erase import erase_user
from owui_budget.ledger.processes import read_heartbeats
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.cli.doors import Desk
from owui_budget_sync.queries.subjects import Found, find, find_user

commands = typer.Typer()

_REASON_MAX = 200


class WaitingSpoolError(FinalError):
    """Usage that waits in a spool would bring an erased user back."""


@commands.command()
def reset(
    who: Annotated[
        str, typer.Argument(metavar="USER|GROUP", help="Id, e-mail or name; user:ID or group:ID to be exact.")
    ],
    *,
    reason: Annotated[str, typer.Option(help="Kept with the adjustment.")] = "reset from the command line",
    yes: shell.Yes = False,
    as_json: shell.AsJson = False,
) -> None:
    """Bring the current windows of a user (his background tasks' allowance too) or of a group's pool to zero.

    Adjustments are recorded, nothing is deleted: reports go on showing what was used less what was taken off. Calls
    still running keep what they hold. Resetting a group's pool leaves its members' own counters alone.
    """
    with doors.desk() as desk:
        found = find(desk.engine, who)
        shell.confirm(f"Reset the current windows of {found.title} to zero?", yes=yes)
        before = shell.run(_reset(desk, _counters(found), reason[:_REASON_MAX]))
    if as_json:
        shell.print_json({"reset": _subject(found), "used_before": before})
        return
    shell.line(f"{found.title}: these windows are at zero now")
    shell.table(
        ("counter", "window", "was used"),
        [(kind, window, used) for kind, windows in before.items() for window, used in windows.items()],
    )


def _counters(found: Found) -> list[Counter]:
    tasks = [Counter(CounterKind.TASK, found.id)] if found.kind is CounterKind.USER else []
    return [found.counter, *tasks]


async def _reset(desk: Desk, counters: list[Counter], reason: str) -> dict[str, dict[str, int]]:
    async with doors.ledger(desk) as ledger:
        return {counter.kind.value: await ledger.reset(counter, reason) for counter in counters}


@commands.command()
def erase(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id, e-mail address, or name if only one has it.")],
    *,
    yes: shell.Yes = False,
    force: Annotated[bool, typer.Option("--force", help="Even while usage waits in a spool.")] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Replace a user by a random pseudonym in everything recorded. Sums stay, the identity is gone for good.

    Delete the user in Open WebUI first: whoever still is there comes back, with empty counters, at the next sync.
    """
    with doors.desk() as desk:
        found = find_user(desk.engine, user)
        waiting = sum(each.spool_depth for each in read_heartbeats(desk.engine))
        if waiting and not force:
            msg = (
                f"{waiting:,} records wait in a spool and might bring the user back when they are written; try again "
                "when `owui-budget status` shows none, or add --force"
            )
            raise WaitingSpoolError(msg)
        if found.known:
            shell.warn("sync knows this user: unless deleted in Open WebUI, he comes back (with empty counters)")
        shell.confirm(f"Erase the identity of {found.title} for good?", yes=yes)
        with shell.working("erasing"):
            erased = erase_user(desk.engine, found.id)
    if as_json:
        shell.print_json({"erased": found.id, "pseudonym": erased.pseudonym, "events": erased.events})
    else:
        shell.line(f"{found.title} is erased; {erased.events:,} events are kept as {erased.pseudonym}")


def _subject(found: Found) -> dict[str, Any]:
    kind = "group" if found.kind is CounterKind.POOL else found.kind.value
    return {"kind": kind, "id": found.id, "name": found.name}
