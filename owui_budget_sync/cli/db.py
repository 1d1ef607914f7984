"""`owui-budget db`: the tables of the ledger and the policy store."""

import typer

from owui_budget.config import load_sync_settings
from owui_budget.database import migrate
from owui_budget.database.engine import make_engine
from owui_budget_sync.checks.database import existing_engine
from owui_budget_sync.cli import shell

commands = typer.Typer(name="db", help="Create, upgrade and check the database's tables.", no_args_is_help=True)


@commands.command()
def upgrade(*, as_json: shell.AsJson = False) -> None:
    """Bring the tables to this version; nothing happens where they are there already. Safe to run twice at once."""
    engine = make_engine(load_sync_settings())
    try:
        migrate.upgrade(engine)
    finally:
        engine.dispose()
    if as_json:
        shell.print_json({"schema": "current"})
    else:
        shell.line("the tables are those of this version")


@commands.command()
def check(*, as_json: shell.AsJson = False) -> None:
    """Check that the tables are those of this version. Ends with 1 if not, with 2 if they were changed by hand."""
    engine = existing_engine(load_sync_settings())
    try:
        migrate.check(engine)
        differences = migrate.drift(engine)
    finally:
        engine.dispose()
    if as_json:
        shell.print_json({"schema": "current", "differences": [str(each) for each in differences]})
    else:
        for each in differences:
            shell.line(str(each))
    if differences:
        raise typer.Exit(shell.Exit.FINDINGS)
    if not as_json:
        shell.line("the tables are those of this version")
