"""`owui-budget plan`, `apply` and `run`: what a sync would change, doing it, and doing it for ever."""

import os
import socket
from enum import StrEnum
from typing import Annotated

import typer

from owui_budget.config import load_sync_settings
from owui_budget.errors import TransientError
from owui_budget.policy_store import Fence
from owui_budget_sync import daemon, full_sync, log, render
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.leader import Journal, Leadership
from owui_budget_sync.litellm.mirror import Mirrored
from owui_budget_sync.planner import Plan
from owui_budget_sync.safety import UnsafePlanError
from owui_budget_sync.wiring import parts

commands = typer.Typer()


class Format(StrEnum):
    """How a plan is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


Prune = Annotated[
    bool, typer.Option("--prune", help="Delete LiteLLM teams, budgets and customers of ours that nothing needs now.")
]


@commands.command("plan")
def plan_command(
    *,
    output: Annotated[Format, typer.Option("--format", help="How to print the plan.")] = Format.TEXT,
    as_json: shell.AsJson = False,
    prune: Prune = False,
) -> None:
    """Show what a sync would change, changing nothing. Ends with 0 if nothing, 2 if something would, 1 on errors."""
    with doors.desk() as desk, shell.working("reading Open WebUI and LiteLLM"):
        full, unsafe = shell.run(_prepare(desk, prune=prune))
    _print(full.plan, Format.JSON if as_json else output)
    if unsafe is not None:
        shell.warn(str(unsafe))
    if full.plan.changes:
        raise typer.Exit(shell.Exit.FINDINGS)


@commands.command()
def apply(
    *,
    accept: Annotated[
        str | None, typer.Option(metavar="DIGEST", help="Do it although much disappears: the digest the refusal named.")
    ] = None,
    output: Annotated[Format, typer.Option("--format", help="How to print what was done.")] = Format.TEXT,
    as_json: shell.AsJson = False,
    prune: Prune = False,
) -> None:
    """Sync once: read everything, plan, and do it. Ends with 0 when all is as it should be, 1 on errors."""
    with doors.desk() as desk, shell.working("syncing"):
        planned, done = shell.run(_apply(desk, accepted=accept, prune=prune))
    _print(planned, Format.JSON if as_json else output)
    for stranger in done.foreign:
        shell.warn(f"LiteLLM {stranger.kind} {stranger.id} is not ours ({stranger.reason}): it was left as it is")


@commands.command("run")
def run_command() -> None:
    """Sync for ever: at the start, on triggers, and every OWUI_BUDGET_SYNC_INTERVAL seconds. Ends on SIGTERM."""
    log.set_up()
    shell.run(daemon.serve(load_sync_settings()))


async def _prepare(desk: doors.Desk, *, prune: bool) -> tuple[full_sync.Full, UnsafePlanError | None]:
    async with parts(desk.settings, desk.limits, desk.engine, desk.clock, paced=False) as made:
        full = await full_sync.prepare(made, prune=prune)
    try:
        full.look.check(desk.settings.safety_threshold)
    except UnsafePlanError as error:
        return full, error
    return full, None


async def _apply(desk: doors.Desk, *, accepted: str | None, prune: bool) -> tuple[Plan, Mirrored]:
    # A person's sync does not wait for the daemon: it takes the lead and gives it back. The daemon's write that may be
    # under way is refused by its older fence, and it goes on a moment later.
    leadership = Leadership(desk.engine, f"apply-{socket.gethostname()}-{os.getpid()}", desk.clock)
    started = desk.clock.now()
    async with parts(desk.settings, desk.limits, desk.engine, desk.clock, paced=False) as made:
        full = await full_sync.prepare(made, prune=prune)
        full.look.check(desk.settings.safety_threshold, accepted)
        fence = _lead(leadership)
        try:
            done = await full_sync.apply(made, full, fence, accepted=accepted)
            notes = [note.text for note in full.plan.notes if note.kind != "limits"]
            Journal(desk.engine, desk.clock).succeeded(fence, started, notes)
        finally:
            leadership.release()
    return full.plan, done


def _lead(leadership: Leadership) -> Fence:
    fence = leadership.acquire(takeover=True)
    if fence is None:
        msg = "the lease row is missing; run `owui-budget db upgrade`"
        raise TransientError(msg)
    return fence


def _print(plan: Plan, output: Format) -> None:
    match output:
        case Format.JSON:
            shell.print_json(render.to_json(plan))
        case Format.MARKDOWN:
            typer.echo(render.markdown(plan), nl=False)
        case Format.TEXT:
            for line in render.text(plan):
                shell.line(line)
