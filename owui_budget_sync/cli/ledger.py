"""`owui-budget ledger`: whether the books are right, making them right, and closing old ones."""

from collections.abc import Sequence
from dataclasses import asdict
from typing import Annotated

import typer

from owui_budget.ledger import audit
from owui_budget.ledger.protocol import Discrepancy
from owui_budget.ledger.retention import retain
from owui_budget_sync.cli import doors, shell

commands = typer.Typer(name="ledger", help="Verify and mend counters; roll up old events.", no_args_is_help=True)


@commands.command()
def verify(*, as_json: shell.AsJson = False) -> None:
    """Compare every counter with the sum of its events and open calls, stopping nobody. Ends with 2 if any differs."""
    with doors.desk() as desk, shell.working("comparing counters with events"):
        found = audit.verify(desk.engine)
    if as_json:
        shell.print_json({"discrepancies": [asdict(each) for each in found]})
    elif found:
        _print(found)
        shell.remark("`owui-budget ledger repair` makes the events the truth")
    else:
        shell.line("every counter equals the sum of its events")
    if found:
        raise typer.Exit(shell.Exit.FINDINGS)


@commands.command()
def repair(*, yes: shell.Yes = False, as_json: shell.AsJson = False) -> None:
    """Set counters that differ to the sum of their events and open calls. Events are never changed."""
    with doors.desk() as desk:
        with shell.working("comparing counters with events"):
            suspects = audit.verify(desk.engine)
        if suspects:
            shell.confirm(f"Mend {len(suspects):,} figures?", yes=yes)
        with shell.working("mending counters"):
            mended = audit.repair(desk.engine) if suspects else []
    if as_json:
        shell.print_json({"mended": [asdict(each) for each in mended]})
    elif mended:
        _print(mended)
        shell.line(f"{len(mended):,} figures are mended")
    else:
        shell.line("every counter equals the sum of its events; nothing was changed")


@commands.command()
def retention(
    *,
    days: Annotated[
        int | None, typer.Option(min=62, help="Days of events to keep; retention_days of limits.yaml when left out.")
    ] = None,
    yes: shell.Yes = False,
    as_json: shell.AsJson = False,
) -> None:
    """Roll events past their retention up per user, model and day, and delete them."""
    with doors.desk() as desk:
        kept = days or desk.limits.retention_days
        if kept < desk.limits.retention_days:
            shell.confirm(
                f"Delete events older than {kept} days, earlier than limits.yaml says ({desk.limits.retention_days})?",
                yes=yes,
            )
        with shell.working(f"rolling up events older than {kept} days"):
            done = retain(desk.engine, desk.clock, kept)
    if as_json:
        shell.print_json({"kept_days": kept, **asdict(done)})
    else:
        shell.line(
            f"{done.events:,} events of {done.days:,} days are rolled up; {done.counters:,} unused counters are removed"
        )


def _print(found: Sequence[Discrepancy]) -> None:
    shell.table(
        ("counter", "window", "what", "counter says", "events say"),
        [(each.counter, each.window, each.what, each.counted, each.expected) for each in found],
    )
