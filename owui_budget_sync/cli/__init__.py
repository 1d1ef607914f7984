"""`owui-budget`: the command line. One module per group of commands; each is a thin shell over functions of values."""

from typing import Annotated

import typer

from owui_budget import __version__
from owui_budget_sync.cli import (
    check,
    db,
    explain,
    ledger,
    limits,
    mending,
    openwebui,
    shell,
    status,
    sync,
    test_clock,
    usage,
)

app = typer.Typer(
    name="owui-budget",
    help="Token budgets for Open WebUI groups, enforced by a LiteLLM proxy.",
    epilog="Exit codes: 0 done, 1 error, 2 findings or something would change. Settings: `OWUI_BUDGET_*` variables.",
    no_args_is_help=True,
    cls=shell.Commands,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)

for _module in (check, sync, status, limits, usage, explain, mending, ledger, db, openwebui, test_clock):
    # A module's Typer with a name is a group of commands, one without adds its commands to ours.
    app.add_typer(_module.commands)


def _version(wanted: bool) -> None:  # noqa: FBT001 - Typer calls it so
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Print the version and end.")
    ] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line: the `owui-budget` script."""
    app()
