"""What all commands share: how they print, how they fail, how they ask. No command knows rich or exit codes otherwise.

Results go to stdout: tables on a terminal, tab-separated lines in a pipe, one JSON document with `--json`. Everything
else (progress, questions, warnings, errors) goes to stderr.
"""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import IntEnum
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table
from rich.text import Text
from typer.core import TyperGroup

from owui_budget.errors import BudgetError
from owui_budget.wording import shown

T = TypeVar("T")


class Exit(IntEnum):
    """The exit codes of every command. Wrong arguments end with 2 as well, as is usual, and a usage line on stderr."""

    OK = 0
    ERROR = 1
    """The command could not do its work; stderr says why and what to do."""
    FINDINGS = 2
    """It did its work, and something would change or needs somebody's attention."""


AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]

_out = Console(soft_wrap=True, highlight=False)
_err = Console(stderr=True, soft_wrap=True, highlight=False)
_RIGHT = (int, float)


class Commands(TyperGroup):
    """A group of commands whose expected failures end in one sentence on stderr, never in a traceback."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command; turn our errors into exit code 1."""
        try:
            return super().invoke(ctx)
        except BudgetError as error:
            fail(str(error))


def fail(message: str) -> NoReturn:
    """End with exit code 1 and `message` on stderr."""
    _err.print(Text.assemble(("error: ", "bold red"), message))
    raise typer.Exit(Exit.ERROR)


def warn(message: str) -> None:
    """Print a warning to stderr."""
    _err.print(Text.assemble(("warning: ", "bold yellow"), message))


def remark(message: str) -> None:
    """Print a remark to stderr."""
    _err.print(Text(message))


def confirm(question: str, *, yes: bool) -> None:
    """Ask `question` unless `yes`; end with exit code 1 unless the answer is yes."""
    if yes:
        return
    try:
        agreed = typer.confirm(question, err=True)
    except typer.Abort:  # end of input: nobody is there to answer
        fail("nobody answered, so nothing was changed; add --yes to do it without a question")
    if not agreed:
        fail("nothing was changed")


def run(work: Coroutine[Any, Any, T]) -> T:
    """Run asynchronous work to its end."""
    return asyncio.run(work)


@contextmanager
def working(what: str) -> Iterator[None]:
    """Show on stderr that `what` is under way; nothing where stderr is no terminal."""
    if not _err.is_terminal:
        yield
        return
    with _err.status(Text(f"{what} …")):
        yield


@contextmanager
def progress() -> Iterator[Callable[[str], None]]:
    """Show on stderr which step of long work is under way; nothing where stderr is no terminal."""
    if not _err.is_terminal:
        yield lambda _: None
        return
    with _err.status("") as status:
        yield lambda step: status.update(Text(f"{step} …"))


def print_json(value: object) -> None:
    """Print `value` as one JSON document."""
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2))


def heading(text: str) -> None:
    """Print a line above a table; in a pipe as a comment line."""
    _out.print(Text(text, style="bold") if _out.is_terminal else Text(f"# {text}"))


def line(text: str = "") -> None:
    """Print a line of text as it stands, without markup."""
    _out.print(Text(text))


def facts(rows: Mapping[str, object]) -> None:
    """Print names and values in two columns."""
    width = max(map(len, rows), default=0)
    for name, value in rows.items():
        typer.echo(f"{name:<{width}}  {cell(value)}" if _out.is_terminal else f"{name}\t{cell(value)}")


def table(columns: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    """Print a table: aligned on a terminal, tab-separated with one header line in a pipe."""
    if not _out.is_terminal:
        typer.echo("\t".join(columns))
        for row in rows:
            typer.echo("\t".join(cell(value) for value in row))
        return
    grid = Table(box=SIMPLE_HEAD, pad_edge=False)
    for index, name in enumerate(columns):
        numeric = any(isinstance(row[index], _RIGHT) for row in rows)
        # Ids stay whole: they are there to be copied.
        grid.add_column(
            Text(name), justify="right" if numeric else "left", overflow="fold", no_wrap=numeric or name == "id"
        )
    for row in rows:
        grid.add_row(*(Text(cell(value)) for value in row))
    # A table must wrap inside its columns, which soft wrapping would prevent.
    _out.print(grid, soft_wrap=False)


def cell(value: object) -> str:
    """Return a value as it is shown: figures with separators, nothing as `-`, text from outside without its tricks."""
    match value:
        case None | "":
            return "-"
        case bool():
            return "yes" if value else "no"
        case int():
            return f"{value:,}"
        case _:
            return clean(str(value))


def clean(text: str) -> str:
    """Return text on one line, without control and direction marks. Unlike `wording.shown` it cuts nothing off."""
    return " ".join("".join(char if char.isprintable() else " " for char in text).split())


def name(text: str | None, identifier: str) -> str:
    """Return the name of somebody or something, or its id where there is none."""
    return shown(text) if text else identifier
