"""`owui-budget limits`: the limits of groups, shown and written as an admin of Open WebUI would."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from owui_budget.config import load_sync_settings
from owui_budget.domain.limits import InvalidLimitsError, Scope, UsageLimits, parse_limits
from owui_budget.domain.windows import Window
from owui_budget.errors import BudgetError
from owui_budget.policy_store import StoredGroup
from owui_budget_sync import group_limits
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.group_limits import Bound, UnusableLimitsError, WrittenGroup, parse_amount
from owui_budget_sync.openwebui.client import OpenWebuiClient

commands = typer.Typer(name="limits", help="Show and set the limits of Open WebUI's groups.", no_args_is_help=True)

GroupWord = Annotated[str, typer.Argument(metavar="GROUP", help="The group's id, or its name if only one has it.")]


@commands.command()
def show(
    group: Annotated[str | None, typer.Argument(metavar="GROUP", help="Id or name; all groups when left out.")] = None,
    *,
    as_json: shell.AsJson = False,
) -> None:
    """Show the limits written on groups, and whether they are in force.

    Ends with 2 if a group's limits are not valid or not synced yet.
    """
    with shell.working("reading groups from Open WebUI"):
        written = shell.run(_read(group))
    stored, remark = _in_force()
    rows = [_row(each, stored) for each in written]
    if as_json:
        shell.print_json({"groups": rows, "remark": remark})
    else:
        if remark:
            shell.remark(remark)
        shell.table(
            ("group", "id", "priority", "member limits", "pool limits", "state"),
            [_cells(row) for row in rows],
        )
    if any(row["state"] not in ("in force", "no limits", "unknown") for row in rows):
        raise typer.Exit(shell.Exit.FINDINGS)


Amount = Annotated[str | None, typer.Option(metavar="TOKENS", show_default=False)]


@commands.command(name="set")
def set_(  # noqa: PLR0913 - one option per figure of the document
    group: GroupWord,
    *,
    member_hourly_soft: Amount = None,
    member_hourly_hard: Amount = None,
    member_daily_soft: Amount = None,
    member_daily_hard: Amount = None,
    member_weekly_soft: Amount = None,
    member_weekly_hard: Amount = None,
    member_monthly_soft: Amount = None,
    member_monthly_hard: Amount = None,
    pool_hourly_soft: Amount = None,
    pool_hourly_hard: Amount = None,
    pool_daily_soft: Amount = None,
    pool_daily_hard: Amount = None,
    pool_weekly_soft: Amount = None,
    pool_weekly_hard: Amount = None,
    pool_monthly_soft: Amount = None,
    pool_monthly_hard: Amount = None,
    priority: Annotated[
        int | None, typer.Option(help="The lowest number decides for a user in several groups.")
    ] = None,
    json_file: Annotated[
        Path | None, typer.Option(help="Write this file's document as it is, instead (`-` reads stdin).")
    ] = None,
    replace: Annotated[bool, typer.Option("--replace", help="Start from nothing; else the rest stays.")] = False,
    as_json: shell.AsJson = False,
) -> None:
    """Set limits of a group in Open WebUI; what is not named stays.

    TOKENS is a number such as 80000, 1_000, 250k or 1.5M; `none` takes that limit away. Member limits count each
    member, pool limits the whole group; past a soft limit users are warned, past a hard one refused.
    """
    options = dict(locals())
    figures = {
        bound: parse_amount(text)
        for bound in _BOUNDS
        if (text := options[f"{bound.scope}_{bound.window}_{bound.which}"]) is not None
    }
    single = bool(figures) or priority is not None
    if single == (json_file is not None):
        raise typer.BadParameter(
            "--json-file writes a whole document; it cannot be combined with single limits"
            if single
            else "name at least one limit, such as --member-daily-hard 100k, or --json-file"
        )
    document = _document(json_file) if json_file else None

    def wanted(present: WrittenGroup) -> UsageLimits:
        if json_file:
            return group_limits.valid_limits(document)
        return group_limits.changed(None if replace else present.usage_limits, figures, priority)

    with shell.working("writing to Open WebUI"):
        before, after = shell.run(_write(group, wanted))
    _report(before, after, as_json=as_json)


@commands.command()
def clear(group: GroupWord, *, as_json: shell.AsJson = False) -> None:
    """Take all limits off a group in Open WebUI."""
    with shell.working("writing to Open WebUI"):
        before, after = shell.run(_write(group, lambda _: None))
    _report(before, after, as_json=as_json)


_BOUNDS = [Bound(scope, window, which) for scope in Scope for window in Window for which in ("soft", "hard")]


async def _read(word: str | None) -> list[WrittenGroup]:
    async with OpenWebuiClient(load_sync_settings()) as client:
        return await group_limits.read_groups(client) if word is None else [await group_limits.find_group(client, word)]


async def _write(word: str, wanted: Any) -> tuple[WrittenGroup, WrittenGroup]:
    async with OpenWebuiClient(load_sync_settings()) as client:
        before = await group_limits.find_group(client, word)
        return before, await group_limits.write_limits(client, before, wanted(before))


def _document(path: Path) -> object:
    try:
        text = typer.get_text_stream("stdin").read() if str(path) == "-" else path.read_text(encoding="utf-8")
        document: object = json.loads(text)
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}"
        raise UnusableLimitsError(msg) from error
    except (ValueError, RecursionError) as error:
        msg = f"{path} is not JSON: {error}"
        raise UnusableLimitsError(msg) from error
    # A whole group, as Open WebUI's API or `limits show --json` prints it, is taken as well.
    if isinstance(document, dict) and isinstance(document.get("written"), dict):
        return document["written"]
    return document


def _in_force() -> tuple[dict[str, StoredGroup] | None, str | None]:
    """Return the groups as the policy store has them, or a remark why that cannot be said."""
    try:
        with doors.desk() as desk:
            return desk.store.groups(), None
    except BudgetError as error:
        return None, f"whether these limits are in force cannot be said: {error}"


def _row(group: WrittenGroup, stored: dict[str, StoredGroup] | None) -> dict[str, Any]:
    problem: str | None = None
    limits: UsageLimits | None = None
    try:
        limits = parse_limits(group.usage_limits)
    except InvalidLimitsError as error:
        problem = str(error)
    known = stored.get(group.id) if stored is not None else None
    in_force = known.limits if known else None
    return {
        "id": group.id,
        "name": group.name,
        "written": group.usage_limits,
        "limits": limits.to_json() if limits else None,
        "problem": problem,
        "in_force": in_force.to_json() if in_force else None,
        "state": _state(limits, problem, in_force, stored is not None),
    }


def _state(limits: UsageLimits | None, problem: str | None, in_force: UsageLimits | None, readable: bool) -> str:  # noqa: FBT001
    if problem is not None:
        return "not valid; earlier limits hold" if in_force else "not valid; no limits hold"
    if not readable:
        return "unknown"
    if (limits or None) != (in_force or None):
        return "not synced yet"
    return "in force" if limits else "no limits"


def _cells(row: dict[str, Any]) -> tuple[object, ...]:
    limits = row["limits"] or {}
    state = f"{row['state']}: {row['problem']}" if row["problem"] else row["state"]
    return (
        shell.name(row["name"], row["id"]),
        row["id"],
        limits.get("priority"),
        _bounds(limits.get("member")),
        _bounds(limits.get("pool")),
        state,
    )


def _bounds(windows: dict[str, dict[str, int]] | None) -> str:
    return "; ".join(
        f"{window} {', '.join(f'{which} {tokens:,}' for which, tokens in bounds.items())}"
        for window, bounds in (windows or {}).items()
    )


def _report(before: WrittenGroup, after: WrittenGroup, *, as_json: bool) -> None:
    if as_json:
        shell.print_json(
            {"group": {"id": after.id, "name": after.name}, "before": before.usage_limits, "after": after.usage_limits}
        )
        return
    limits = parse_limits(after.usage_limits)
    title = shell.name(after.name, after.id)
    if not limits:
        shell.line(f"group {title} has no limits now; sync puts that in force within seconds")
        return
    shell.line(
        f"group {title} (priority {limits.priority}) has these limits now; sync puts them in force within seconds"
    )
    shell.table(
        ("who", "window", "soft", "hard"),
        [
            (scope.value, window.value, bounds.soft, bounds.hard)
            for scope, windows in ((Scope.MEMBER, limits.member), (Scope.POOL, limits.pool))
            for window, bounds in windows.items()
        ],
    )
