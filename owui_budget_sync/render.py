"""A plan for people and programs: lines of text, markdown, JSON. All three say the same."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, assert_never

from owui_budget.domain.limits import UsageLimits
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget.wording import shown
from owui_budget_sync.changes import Change, Changed, MembersChanged, Object, identifier, name, noun, verb
from owui_budget_sync.litellm.objects import NO_GROUP, Budget, ConnectionKey, Customer, Team
from owui_budget_sync.planner import Plan

AT_MOST = 20
"""Changes of one kind that text and markdown list before they only count."""
_SIGNS = {"add": "+", "change": "~", "remove": "-"}


def text(plan: Plan) -> Iterator[str]:
    """Yield the plan line by line."""
    for heading, changes in _sections(plan):
        yield heading
        for change in changes[:AT_MOST]:
            detail = details(change)
            yield f"  {_SIGNS[verb(change)]} {_label(change)}{f': {detail}' if detail else ''}"
        if len(changes) > AT_MOST:
            yield f"  … and {len(changes) - AT_MOST:,} more"
    if plan.notes:
        yield "Worth knowing"
        for note in plan.notes:
            yield f"  ! {note.text}"
    yield summary(plan)


def markdown(plan: Plan) -> str:
    """Return the plan as markdown, for a ticket or a merge request."""
    lines = [f"**{summary(plan)}**"]
    for heading, changes in _sections(plan):
        lines += ["", f"### {heading}", "", "| | what | how |", "|---|---|---|"]
        lines += [
            f"| {verb(change)} | {_cell(_label(change))} | {_cell(details(change))} |" for change in changes[:AT_MOST]
        ]
        if len(changes) > AT_MOST:
            lines.append(f"| | … and {len(changes) - AT_MOST:,} more | |")
    if plan.notes:
        lines += ["", "### Worth knowing", "", *(f"- {_cell(note.text)}" for note in plan.notes)]
    return "\n".join(lines) + "\n"


def to_json(plan: Plan) -> dict[str, Any]:
    """Return the whole plan, nothing left out."""
    return {
        "would_change": bool(plan.changes),
        "digest": plan.digest,
        "summary": summary(plan),
        "changes": [
            {
                "action": verb(change),
                "kind": noun(change),
                "id": identifier(change),
                "name": name(change),
                "details": details(change),
                **_members_json(change),
            }
            for change in plan.changes
        ],
        "notes": [{"kind": note.kind, "subject": note.subject, "text": note.text} for note in plan.notes],
    }


def summary(plan: Plan) -> str:
    """Say in one line how much would change."""
    if not plan.changes:
        return "Nothing would change."
    counted = Counter(verb(change) for change in plan.changes)
    return ", ".join(f"{counted[each]:,} to {each}" for each in _SIGNS if counted[each]) + "."


def details(change: Change) -> str:
    """Say what is new about the thing; empty where its name says it all."""
    if isinstance(change, MembersChanged):
        parts = [f"+{len(change.added):,}" * bool(change.added), f"-{len(change.removed):,}" * bool(change.removed)]
        return " ".join(filter(None, parts))
    before = change.before if isinstance(change, Changed) else None
    now = _facts(change.object)
    if verb(change) == "remove":
        return ""
    if before is None:
        return ", ".join(f"{key} {value}" for key, value in now.items() if value and key != "name")
    old = _facts(before)
    differing = [f"{key} {old[key] or 'none'} → {value or 'none'}" for key, value in now.items() if old[key] != value]
    return ", ".join(differing) or "edited by hand, put back"


def limits_text(limits: UsageLimits | None) -> str:
    """Print limits in one phrase, such as `priority 20, member daily 80,000/100,000`."""
    if not limits:
        return ""
    parts = [f"priority {limits.priority}"]
    for scope, windows in (("member", limits.member), ("pool", limits.pool)):
        for window, bounds in windows.items():
            figures = "/".join("-" if value is None else f"{value:,}" for value in (bounds.soft, bounds.hard))
            parts.append(f"{scope} {window} {figures}")
    return ", ".join(parts)


def _facts(thing: Object) -> dict[str, str]:
    match thing:
        case StoredGroup():
            facts = {"name": shown(thing.name), "parent": thing.parent_id or "", "limits": limits_text(thing.limits)}
        case StoredUser():
            facts = {"e-mail": shown(thing.email), "name": shown(thing.name), "role": thing.role.value}
        case Team():
            members = f"{len(thing.members):,}" if thing.mirrored else "not mirrored"
            limits = limits_text(thing.limits) or "none (retired)"
            facts = {"name": shown(thing.alias), "limits": limits, "members": members}
        case Budget():
            tokens = "" if thing.tpd_limit is None else f"{thing.tpd_limit:,}"
            facts = {"period": thing.duration or "", "daily tokens": tokens}
        case Customer():
            group = "" if thing.group_id == NO_GROUP else thing.group_id
            facts = {"name": shown(thing.alias), "deciding group": group}
        case ConnectionKey():
            facts = {"routes": f"{len(thing.routes)}"}
        case _:
            assert_never(thing)
    return facts


def _members_json(change: Change) -> dict[str, Any]:
    if not isinstance(change, MembersChanged):
        return {}
    return {"added": sorted(change.added), "removed": sorted(change.removed)}


def _sections(plan: Plan) -> Iterator[tuple[str, Sequence[Change]]]:
    kinds: dict[str, list[Change]] = {}
    for change in plan.changes:
        kinds.setdefault(noun(change), []).append(change)
    for kind, changes in kinds.items():
        yield f"{kind[0].upper()}{kind[1:]}{'' if kind == 'members' else 's'} ({len(changes):,})", changes


def _label(change: Change) -> str:
    found, key = name(change), identifier(change)
    return shown(found) if found == key else f"{shown(found)} ({key})"


def _cell(content: str) -> str:
    return content.replace("|", "\\|").replace("\n", " ")
