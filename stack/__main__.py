"""`python -m stack`: start, watch and stop the stack (see the Makefile)."""

import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from types import FrameType
from typing import Annotated

import typer
from rich.markup import escape

from stack import demo as story
from stack import processes, sync, terminal
from stack.errors import StackError
from stack.plan import Plan, Wishes
from stack.run import Stack, stop_all
from stack.state import DEFAULT_STATE, TOOLS, State
from stack.surroundings import shell

app = typer.Typer(add_completion=False, no_args_is_help=True, help="The whole stack on this machine, without Docker.")

AS_IN_THE_SHELL = Wishes(real_provider=True)
StateDir = Annotated[Path, typer.Option("--state-dir", help="Where data, logs and secrets of this stack lie.")]


@app.command()
def up(
    state_dir: StateDir = DEFAULT_STATE,
    *,
    detach: Annotated[
        bool, typer.Option("--detach", help="Return when everything is healthy, and leave it running.")
    ] = False,
) -> None:
    """Start everything, wait until it is healthy, and stay until Ctrl-C."""
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, _interrupt)
    stack = Stack(state_dir, AS_IN_THE_SHELL)
    started = time.monotonic()
    try:
        with terminal.progress() as say:
            stack.say = say
            stack.start()
        terminal.console.print(f"Everything is healthy after {time.monotonic() - started:.0f} seconds.")
        terminal.welcome(stack.endpoints, simulated=stack.plan.simulated)
        if detach:
            terminal.console.print("Left running. make status shows it, make down stops it.")
            return
        terminal.console.print("Ctrl-C stops everything; the data stay.")
        _watch(stack.state)
    except KeyboardInterrupt:
        # A second Ctrl-C must not leave half of them running.
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        terminal.console.print("\nstopping ...")
    except StackError:
        terminal.console.print("[red]The start failed; stopping what had been started.[/red]")
        stack.stop_all()
        raise
    stack.stop_all()
    terminal.console.print("Stopped.")


@app.command()
def down(state_dir: StateDir = DEFAULT_STATE) -> None:
    """Stop everything; the data stay."""
    state = State(state_dir.resolve())
    if not state.run.exists():
        terminal.console.print("Nothing runs.")
        return
    with state.locked():
        stop_all(state)
    terminal.console.print("Stopped.")


@app.command()
def status(state_dir: StateDir = DEFAULT_STATE) -> None:
    """Show which processes run."""
    state = State(state_dir.resolve())
    state.prepare()
    if not terminal.status(state):
        raise typer.Exit(1)


@app.command()
def logs(
    names: Annotated[list[str] | None, typer.Argument(help="Processes; all when left out.")] = None,
    state_dir: StateDir = DEFAULT_STATE,
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on showing new lines.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n")] = 30,
) -> None:
    """Show the ends of the logs."""
    folder = State(state_dir.resolve()).logs
    files = [folder / f"{name}.log" for name in names] if names else sorted(folder.glob("*.log"))
    missing = [file.stem for file in files if not file.exists()]
    if missing or not files:
        known = ", ".join(path.stem for path in sorted(folder.glob("*.log"))) or "none yet"
        msg = f"no log of {', '.join(missing) or 'anything'}; there are: {known}"
        raise StackError(msg)
    options = ["-n", str(lines), *(["-F"] if follow else [])]
    subprocess.run(["tail", *options, *map(str, files)], check=False)


@app.command()
def clean(
    state_dir: StateDir = DEFAULT_STATE,
    *,
    everything: Annotated[bool, typer.Option("--all", help="The installed tools, too.")] = False,
) -> None:
    """Stop everything and delete its data, secrets and logs."""
    down(state_dir)
    folder = state_dir.resolve()
    for path in folder.iterdir() if folder.exists() else ():
        if path != TOOLS or everything:
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    terminal.console.print(f"Deleted the data in {folder}.")


@app.command()
def demo(state_dir: StateDir = DEFAULT_STATE) -> None:
    """Play the story: limit, warning, refusal, raise. On the running stack, or on one started for it."""
    stack = Stack(state_dir, AS_IN_THE_SHELL)
    running = processes.find(stack.state, "openwebui") is not None
    try:
        with terminal.progress() as say:
            stack.say = say
            stack.start()
        passed = story.play(stack.endpoints, terminal.console)
    finally:
        if not running:
            stack.stop_all()
    raise typer.Exit(0 if passed else 1)


@app.command(context_settings={"allow_extra_args": True, "ignore_unknown_options": True})
def budget(context: typer.Context, state_dir: StateDir = DEFAULT_STATE) -> None:
    """Run owui-budget with the environment of the stack's sync job."""
    plan = Plan(State(state_dir.resolve()), AS_IN_THE_SHELL)
    variables = {**shell(), **plan.environment("sync")}
    done = subprocess.run([sync.executable(), *context.args], env=variables, check=False)
    raise typer.Exit(done.returncode)


@app.command()
def setup() -> None:
    """Install everything the stack needs, and start nothing."""
    with terminal.progress() as say:
        Stack(DEFAULT_STATE, say=say).install()


def _watch(state: State) -> None:
    """Wait for Ctrl-C, and say so if a process ends by itself."""
    reported: set[str] = set()
    while True:
        time.sleep(1)
        for name in processes.names(state):
            if name not in reported and processes.find(state, name) is None:
                reported.add(name)
                end = processes.tail(state, name, 5)
                terminal.console.print(f"[red]{name} has ended[/red] (log: {state.logs / name}.log):\n{escape(end)}")


def _interrupt(_number: int, _frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main() -> None:
    """Run a command; an error of the stack is a sentence, not a traceback."""
    try:
        app()
    except StackError as error:
        terminal.console.print(f"[bold red]Error:[/bold red] {escape(str(error))}", soft_wrap=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
