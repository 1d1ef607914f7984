"""`owui-budget usage`: what was used, by whom and for what."""

from dataclasses import asdict
from datetime import UTC, date, datetime
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import typer

from owui_budget.domain.identity import CounterKind
from owui_budget.domain.windows import Window
from owui_budget.ledger.reports import By, CurrentWindow, UsageLine
from owui_budget.wording import iso, zone_name
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.queries.spending import Page, Period, Spending, current_period, dated_period, spending
from owui_budget_sync.queries.subjects import Found, find

commands = typer.Typer()

_TOKENS = ("calls", "prompt", "completion", "cached", "reasoning", "charge", "estimated_charge")


def _day(text: str) -> date:
    try:
        return date.fromisoformat(text)
    except ValueError as error:
        raise typer.BadParameter(f"{text!r} is no date; write YYYY-MM-DD") from error


@commands.command()
def usage(  # noqa: PLR0913 - what a report can be narrowed by
    who: Annotated[
        str | None,
        typer.Argument(metavar="USER|GROUP", help="Id, e-mail or name; user:ID, group:ID, service:ID to be exact."),
    ] = None,
    *,
    window: Annotated[Window, typer.Option(help="The current hour, day, week or month.")] = Window.MONTHLY,
    since: Annotated[
        date | None, typer.Option("--from", parser=_day, metavar="YYYY-MM-DD", help="First day, instead of --window.")
    ] = None,
    until: Annotated[
        date | None,
        typer.Option("--to", parser=_day, metavar="YYYY-MM-DD", help="Last day (included); today when left out."),
    ] = None,
    by: Annotated[By | None, typer.Option(help="One line per …; for a user by model, else by user.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=10_000, help="Lines at most.")] = 25,
    page: Annotated[int, typer.Option(min=1, max=1_000_000, help="Which page of so many lines.")] = 1,
    as_json: shell.AsJson = False,
) -> None:
    """Report recorded usage in tokens: of everybody, of one user, or of a group's pool.

    Days and windows follow the ledger's time zone. `charge` is what counts against limits: tokens times the model's
    weight. A call of a member of two groups counts in both groups' lines; the total counts it once.
    """
    with doors.desk() as desk, shell.working("reading the ledger"):
        of = find(desk.engine, who) if who else None
        zone = ZoneInfo(desk.state.zone)
        if since or until:
            period = dated_period(since, until, desk.now, zone)
        else:
            period = current_period(window, desk.now, zone)
        chosen = by or (By.MODEL if of and of.kind is not CounterKind.POOL else By.USER)
        found = spending(desk.engine, desk.clock, zone, period, chosen, Page(limit, (page - 1) * limit), of=of)
    if as_json:
        shell.print_json(_document(found, of))
    else:
        _print(found, of, page, limit)


def _document(found: Spending, of: Found | None) -> dict[str, Any]:
    return {
        "of": {"kind": _KIND[of.kind], "id": of.id, "name": of.name, "email": of.email} if of else None,
        "from": iso(int(found.period.since), found.zone),
        "until": iso(int(found.period.until), found.zone),
        "zone": found.zone.key,
        "by": found.by.value,
        "lines": [{**asdict(line), "name": found.names.get(line.key)} for line in found.lines],
        "total_lines": found.total_lines,
        "total": {name: getattr(found.total, name) for name in _TOKENS},
        "windows": [window_document(each, found.zone) for each in found.windows],
    }


def window_document(window: CurrentWindow, zone: ZoneInfo) -> dict[str, Any]:
    """Return a current window as JSON."""
    return {
        "window": window.window.value,
        "used": window.used,
        "held": window.held,
        "since": iso(window.span.start, zone),
        "resets_at": iso(window.span.end, zone),
    }


_KIND = {CounterKind.USER: "user", CounterKind.POOL: "group", CounterKind.SERVICE: "service"}


def _print(found: Spending, of: Found | None, page: int, limit: int) -> None:
    if found.windows:
        shell.heading(f"{of.title if of else ''}: current windows")
        shell.table(
            ("window", "used", "held", "resets"),
            [(each.window.value, each.used, each.held, _when(each.span.end, found.zone)) for each in found.windows],
        )
    shell.heading(f"usage {_period(found.period, found.zone)}, by {found.by.value}")
    shell.table(
        (found.by.value, "calls", "prompt", "completion", "charge", "of it estimated"),
        [*(_cells(line, found) for line in found.lines), _cells(found.total, found, "total")],
    )
    pages = max(1, -(-found.total_lines // limit))
    if pages > 1:
        shell.remark(f"page {page} of {pages} ({found.total_lines:,} lines); --page {min(page + 1, pages)}, or --limit")


_NOBODY = {By.USER: "(no user)", By.MODEL: "(adjustments)"}
"""What a line without a key stands for: services and pools have no user, what is added by hand has no model."""


def _cells(line: UsageLine, found: Spending, label: str | None = None) -> tuple[object, ...]:
    title = label or shell.name(found.names.get(line.key), line.key) or _NOBODY.get(found.by, "(none)")
    if label is None and line.key in found.names:
        title = f"{title} ({line.key})"
    return (title, line.calls, line.prompt, line.completion, line.charge, line.estimated_charge)


def _period(period: Period, zone: ZoneInfo) -> str:
    return f"from {_when(period.since, zone)} to before {_when(period.until, zone)}"


def _when(moment: float, zone: ZoneInfo) -> str:
    local = datetime.fromtimestamp(moment, UTC).astimezone(zone)
    return f"{local:%Y-%m-%d %H:%M} {zone_name(local)}"
