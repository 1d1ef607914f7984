"""What the user of `make up` sees."""

from collections.abc import Iterator
from contextlib import contextmanager

import psutil  # type: ignore[import-untyped]
from rich.console import Console
from rich.markup import escape
from rich.panel import Panel
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
    logins = Table.grid(padding=(0, 3))
    logins.add_row("[bold]who[/bold]", "[bold]e-mail[/bold]", "[bold]password[/bold]", "[bold]groups[/bold]")
    logins.add_row("admin", endpoints.openwebui.admin_email, endpoints.openwebui.admin_password, "")
    for user in endpoints.users:
        logins.add_row("user", user.email, user.password, ", ".join(user.groups) or "(none)")
    addresses = Table.grid(padding=(0, 3))
    addresses.add_row("Open WebUI", f"[link={endpoints.openwebui.url}]{endpoints.openwebui.url}[/link]")
    addresses.add_row("LiteLLM", f"{endpoints.litellm.url}/ui   (admin / {endpoints.litellm.master_key})")
    addresses.add_row("sync job", f"{endpoints.sync.url}/health")
    addresses.add_row("models", "simulated; answers are made up" if simulated else f"from {endpoints.upstream.url}")
    console.print(Panel(addresses, title="running", title_align="left"))
    console.print(Panel(logins, title="logins", title_align="left"))
    limited = next((user for user in endpoints.users if "Interns" in user.groups), None)
    if limited is not None:
        console.print(_things_to_try(limited.email))


def _things_to_try(email: str) -> Panel:
    text = (
        f"1. Sign in as {email} and send [cyan]\\[\\[sim tokens=300]][/cyan] a few times:\n"
        "   first a warning, then a refusal.\n"
        "2. Sign in as the admin, open Admin Panel > Users > Groups > Interns and raise the daily limit;\n"
        "   a few seconds later the same user goes on.\n"
        f"3. In another terminal: [cyan]make demo[/cyan] plays the whole story, and\n"
        f"   [cyan]make budget ARGS='explain {email}'[/cyan] says which limits hold and why."
    )
    return Panel(text, title="three things to try", title_align="left")


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
