"""`owui-budget openwebui`: the event function inside Open WebUI, which makes new limits hold at once."""

from collections.abc import Awaitable, Callable
from typing import Annotated

import typer

from owui_budget.config import SyncSettings, load_sync_settings
from owui_budget.errors import ConfigurationError
from owui_budget_sync.cli import shell
from owui_budget_sync.openwebui import install as installing
from owui_budget_sync.openwebui.client import OpenWebuiClient

commands = typer.Typer(
    name="openwebui", help="Install the event function that triggers syncs from Open WebUI.", no_args_is_help=True
)

DryRun = Annotated[bool, typer.Option("--dry-run", help="Show what would be done; ends with 2 if anything.")]


@commands.command()
def install(*, dry_run: DryRun = False, as_json: shell.AsJson = False) -> None:
    """Create, update and enable the event function; nothing is done where all is in place."""
    settings = load_sync_settings()
    if settings.service_url is None or settings.trigger_secret is None:
        msg = (
            "the event function needs OWUI_BUDGET_SERVICE_URL (where Open WebUI reaches the sync service, such as "
            "http://sync:8090) and OWUI_BUDGET_TRIGGER_SECRET"
        )
        raise ConfigurationError(msg)
    url, secret = installing.trigger_url(settings.service_url), settings.trigger_secret.get_secret_value()

    async def work(client: OpenWebuiClient) -> tuple[str, ...]:
        return await installing.install(client, url=url, secret=secret, dry_run=dry_run)

    _report(shell.run(_with_client(settings, work)), dry_run=dry_run, as_json=as_json)


@commands.command()
def uninstall(*, dry_run: DryRun = False, as_json: shell.AsJson = False) -> None:
    """Delete the event function; syncs then follow within their interval."""

    async def work(client: OpenWebuiClient) -> tuple[str, ...]:
        return await installing.uninstall(client, dry_run=dry_run)

    _report(shell.run(_with_client(load_sync_settings(), work)), dry_run=dry_run, as_json=as_json)


async def _with_client(
    settings: SyncSettings, work: Callable[[OpenWebuiClient], Awaitable[tuple[str, ...]]]
) -> tuple[str, ...]:
    async with OpenWebuiClient(settings) as client:
        return await work(client)


def _report(done: tuple[str, ...], *, dry_run: bool, as_json: bool) -> None:
    if as_json:
        shell.print_json({"dry_run": dry_run, "done": list(done)})
    elif not done:
        shell.line("nothing to do")
    for each in () if as_json else done:
        shell.line(f"would {each}" if dry_run else f"done: {each}")
    if dry_run and done:
        raise typer.Exit(shell.Exit.FINDINGS)
