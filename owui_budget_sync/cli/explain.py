"""`owui-budget explain`: which limits a user has, why, where they stand, and whether the next call would pass."""

from typing import Annotated, Any

import typer

from owui_budget.domain.decisions import Standing
from owui_budget.domain.identity import Role
from owui_budget.domain.limits import Scope, UsageLimits
from owui_budget.domain.policy import Group
from owui_budget.policy_store import PolicyUser
from owui_budget.wording import duration, iso, moment
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.cli.usage import window_document
from owui_budget_sync.queries import explain as explaining
from owui_budget_sync.queries.explain import Asked, Explanation, Membership
from owui_budget_sync.queries.subjects import Found, NoSuchSubjectError, find_user

commands = typer.Typer()


@commands.command()
def explain(
    user: Annotated[str, typer.Argument(metavar="USER", help="Id, e-mail address, or name if only one has it.")],
    *,
    model: Annotated[str | None, typer.Option(help="The model of the next call: its weight counts.")] = None,
    tokens: Annotated[
        int | None, typer.Option(min=0, help="The next call's size in tokens, before the weight.")
    ] = None,
    as_json: shell.AsJson = False,
) -> None:
    """Explain a user's limits: which groups and limits, why these, what is used, whether the next call would pass."""
    with doors.desk() as desk:
        found = find_user(desk.engine, user)
        known = _known(desk.store.user(found.id), found)
        answer = explaining.explain(desk.engine, desk.store, desk.clock, desk.limits, known, Asked(model, tokens))
    if as_json:
        shell.print_json(_document(answer))
    else:
        _print(answer)


def _known(user: PolicyUser | None, found: Found) -> PolicyUser:
    if user is None:
        msg = f"{found.title} is known to the ledger alone (deleted in Open WebUI, or not synced yet); see `usage`"
        raise NoSuchSubjectError(msg)
    return user


def _print(answer: Explanation) -> None:
    user = answer.user
    shell.heading(f"{shell.name(user.name, user.id)} <{user.email}>")
    shell.facts({"id": user.id, "role": user.role.value, "policy revision": answer.revision})
    if user.role is Role.PENDING:
        shell.remark("Open WebUI lets a pending user do nothing until an admin has approved him.")
    shell.line()
    shell.heading("groups")
    shell.table(
        ("group", "id", "member", "priority", "limits"),
        [_group_cells(each, answer) for each in answer.memberships],
    )
    if answer.resolution.unknown_group_ids:
        shell.remark(f"not synced: {', '.join(sorted(answer.resolution.unknown_group_ids))}")
    shell.line(answer.reason)
    shell.line()
    shell.heading("limits in force")
    shell.table(
        ("limit", "from", "soft", "hard", "used", "held", "left", "resets"),
        [_limit_cells(each, answer) for each in answer.standings],
    )
    shell.heading("used by this user")
    shell.table(
        ("window", "used", "held", "resets"),
        [(each.window.value, each.used, each.held, _resets(each.span.end, answer)) for each in answer.windows],
    )
    tasks = answer.tasks
    shell.line(
        f"background tasks today: {tasks.used:,} of {tasks.limit.bounds.hard or 0:,} tokens that do not count;"
        f" {tasks.remaining or 0:,} left"
    )
    shell.line()
    shell.heading(f"the next call{f' of {shell.clean(answer.next_call.model)}' if answer.next_call.model else ''}")
    shell.line(f"{answer.next_call.verdict.value}: {answer.next_call.message}")


def _group_cells(membership: Membership, answer: Explanation) -> tuple[object, ...]:
    group = membership.group
    via = ", ".join(shell.name(each.name, each.id) for each in membership.via)
    limits = [scope.value for scope in Scope if group.limits and getattr(group.limits, scope.value)]
    deciding = answer.resolution.deciding
    decides = " (decides)" if deciding is not None and deciding.id == group.id else ""
    return (
        shell.name(group.name, group.id),
        group.id,
        f"through {via}" if via else "direct",
        group.limits.priority if group.limits else None,
        f"{' and '.join(limits) or 'none'}{decides}",
    )


def _limit_cells(standing: Standing, answer: Explanation) -> tuple[object, ...]:
    limit = standing.limit
    return (
        f"{limit.scope.value} {limit.window.value}",
        shell.name(limit.group_name, limit.group_id or "limits.yaml"),
        limit.bounds.soft,
        limit.bounds.hard,
        standing.used,
        standing.held,
        standing.remaining,
        _resets(standing.span.end, answer),
    )


def _resets(end: int, answer: Explanation) -> str:
    return f"{moment(end, answer.now, answer.zone)}, in {duration(end - answer.now)}"


def _document(answer: Explanation) -> dict[str, Any]:
    user, resolution = answer.user, answer.resolution
    return {
        "user": {"id": user.id, "email": user.email, "name": user.name, "role": user.role.value},
        "now": iso(int(answer.now), answer.zone),
        "zone": answer.zone.key,
        "revision": answer.revision,
        "strategy": answer.strategy.value,
        "exempt": resolution.exempt,
        "reason": answer.reason,
        "groups": [
            {
                **_named(each.group),
                "membership": "inherited" if each.via else "direct",
                "via": [group.id for group in each.via],
                "limits": _limits(each.group.limits),
            }
            for each in answer.memberships
        ],
        "unknown_group_ids": sorted(resolution.unknown_group_ids),
        "deciding": _named(resolution.deciding) if resolution.deciding else None,
        "tied": [_named(group) for group in resolution.tied],
        "limits": [_standing(each, answer) for each in answer.standings],
        "windows": [window_document(each, answer.zone) for each in answer.windows],
        "tasks": {
            "allowance": answer.tasks.limit.bounds.hard,
            "used": answer.tasks.used,
            "held": answer.tasks.held,
            "left": answer.tasks.remaining,
            "resets_at": iso(answer.tasks.span.end, answer.zone),
        },
        "next_call": {
            "verdict": answer.next_call.verdict.value,
            "message": answer.next_call.message,
            "model": answer.next_call.model,
            "weight": answer.next_call.weight,
            "tokens": answer.next_call.tokens,
        },
    }


def _named(group: Group) -> dict[str, Any]:
    return {"id": group.id, "name": group.name}


def _limits(limits: UsageLimits | None) -> dict[str, Any] | None:
    return limits.to_json() if limits else None


def _standing(standing: Standing, answer: Explanation) -> dict[str, Any]:
    limit = standing.limit
    return {
        "scope": limit.scope.value,
        "window": limit.window.value,
        "group": {"id": limit.group_id, "name": limit.group_name} if limit.group_id else None,
        "soft": limit.bounds.soft,
        "hard": limit.bounds.hard,
        "used": standing.used,
        "held": standing.held,
        "left": standing.remaining,
        "resets_at": iso(standing.span.end, answer.zone),
    }
