"""What the user of `make up` sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from stack import processes
from stack.endpoints import Endpoints
from stack.state import State
from stack.tools import Say

console = Console(highlight=False)


@contextmanager
def progress() -> Iterator[Say]:
    """Show what is being done: a spinner on a terminal, one line per step elsewhere."""
    if not console.is_terminal:
        yield lambda text: console.print(f"- {escape(text)}")
        return
    with console.status("starting") as status:

        def say(text: str) -> None:
            console.print(f"[dim]•[/dim] {escape(text)}")
            status.update(escape(text))

        yield say


def welcome(endpoints: Endpoints, *, simulated: bool) -> None:
    """Print addresses, logins and three things to try."""
    models = "simulated; answers are made up" if simulated else f"from {endpoints.upstream.url}"
    _heading("running")
    _rows(
        ("Open WebUI", endpoints.openwebui.url),
        ("LiteLLM", f"{endpoints.litellm.url}/ui"),
        ("", f"admin, password {endpoints.litellm.master_key}"),
        ("sync job", f"{endpoints.sync.url}/health"),
        ("models", models),
    )
    _heading("logins to Open WebUI")
    admin = (endpoints.openwebui.admin_email, endpoints.openwebui.admin_password, "admin")
    people = [(user.email, user.password, ", ".join(user.groups) or "in no group") for user in endpoints.users]
    _rows(*[(email, f"{password:<22}{groups}") for email, password, groups in (admin, *people)])
    limited = next((user.email for user in endpoints.users if "Interns" in user.groups), None)
    if limited is not None:
        _heading("three things to try")
        _lines(
            f"1. Sign in as {limited} and send [[sim tokens=2000]] five times: first a warning, then a refusal.",
            "2. In another terminal, make budget ARGS='limits set Interns --member-daily-hard 50k';",
            "   a moment later the same user goes on.",
            "3. make demo plays the whole story, and",
            f"   make budget ARGS='explain {limited}' says which limits hold and why.",
        )


def _heading(text: str) -> None:
    console.print(f"\n[bold]{text}[/bold]")


def _rows(*rows: tuple[str, str]) -> None:
    width = max(len(name) for name, _ in rows) + 3
    _lines(*(f"{name:<{width}}{text}" for name, text in rows))


def _lines(*lines: str) -> None:
    # Not wrapped: a key that is broken into two lines cannot be copied.
    for line in lines:
        console.print(f"  {escape(line)}", soft_wrap=True)


def status(state: State) -> bool:
    """Print which processes run. Return whether any does."""
    table = Table("process", "state", "pid", "memory", "log", box=None)
    names = processes.names(state)
    for name in names:
        process = processes.find(state, name)
        log = str(state.logs / f"{name}.log")
        if process is None:
            table.add_row(name, "[red]ended[/red]", "", "", log)
        else:
            table.add_row(name, "[green]running[/green]", str(process.pid), _memory(process), log)
    console.print(table if names else f"Nothing runs in {state.folder}. Start it with make up.")
    return bool(names)


def _memory(process: psutil.Process) -> str:
    family = [process, *process.children(recursive=True)]
    return f"{sum(member.memory_info().rss for member in family) / 2**20:.0f} MB"
