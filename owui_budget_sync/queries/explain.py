"""Why a user has the limits he has, where they stand, and whether the next call would pass."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from zoneinfo import ZoneInfo

import sqlalchemy as sa

from owui_budget import wording
from owui_budget.clock import Clock
from owui_budget.domain.charge import weighted
from owui_budget.domain.decisions import Admission, Refused, Standing, Warned, decide
from owui_budget.domain.identity import Caller, Counter, CounterKind, Subject
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import Group, LimitInForce, Policy, Resolution, Strategy
from owui_budget.domain.windows import Window
from owui_budget.ledger import reports, upkeep
from owui_budget.ledger.ledger_clock import LedgerClock
from owui_budget.ledger.reports import CurrentWindow
from owui_budget.limits_file import Limits
from owui_budget.policy_store import PolicyUser, SqlPolicyStore


@dataclass(frozen=True, slots=True)
class Membership:
    """One of the user's groups. `via` are the groups through which he is in it; empty for a direct member."""

    group: Group
    via: tuple[Group, ...] = ()


class Verdict(StrEnum):
    """What would happen to the next call."""

    ALLOWED = "allowed"
    WARNED = "warned"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class NextCall:
    """The next call of the user, as far as limits decide about it."""

    verdict: Verdict
    message: str
    """For a refusal, the sentence its user reads; else one that says why the call passes."""
    model: str | None = None
    weight: str = "1"
    tokens: int | None = None
    """Tokens of the call before its weight; None where nobody said."""


@dataclass(frozen=True, slots=True)
class Explanation:
    """Everything about one user's limits at one moment."""

    user: PolicyUser
    revision: int
    now: float
    zone: ZoneInfo
    strategy: Strategy
    memberships: tuple[Membership, ...]
    resolution: Resolution
    reason: str
    standings: tuple[Standing, ...]
    windows: tuple[CurrentWindow, ...]
    """The user's own four windows, limited or not."""
    tasks: Standing
    """The day's allowance for background tasks."""
    next_call: NextCall


@dataclass(frozen=True, slots=True)
class Asked:
    """The call in question; `tokens` before its weight."""

    model: str | None = None
    tokens: int | None = None


def explain(
    engine: sa.Engine, store: SqlPolicyStore, clock: Clock, limits: Limits, user: PolicyUser, asked: Asked
) -> Explanation:
    """Explain the limits of `user`, by the same rules and figures that decide about calls.

    Raises:
        LedgerUnavailableError: the database cannot be reached.

    """
    snapshot = store.snapshot()
    policy = Policy(snapshot.groups, limits.rules)
    resolution = policy.resolve(Subject(Caller.OPENWEBUI, user_id=user.id, role=user.role, group_ids=user.group_ids))
    ledger_clock = LedgerClock(clock)
    task_limit = LimitInForce(
        Scope.MEMBER, Window.DAILY, Bounds(hard=limits.task_allowance), Counter(CounterKind.TASK, user.id)
    )
    *standings, tasks = upkeep.standings(engine, ledger_clock, (*resolution.limits, task_limit))
    state = upkeep.state(engine, ledger_clock)
    now, zone = ledger_clock.now(), ZoneInfo(state.zone)
    return Explanation(
        user=user,
        revision=snapshot.revision,
        now=now,
        zone=zone,
        strategy=limits.resolution,
        memberships=_memberships(policy, user.group_ids),
        resolution=resolution,
        reason=_reason(resolution, limits),
        standings=tuple(standings),
        windows=tuple(reports.current(engine, clock, [Counter(CounterKind.USER, user.id)])),
        tasks=tasks,
        next_call=_next_call(resolution, standings, limits, asked, (now, zone)),
    )


def _memberships(policy: Policy, direct: frozenset[str]) -> tuple[Membership, ...]:
    groups: Mapping[str, Group] = policy.groups
    found = []
    for group_id in policy.with_ancestors(direct):
        if group_id in groups:
            below = [each for each in direct if each in groups and group_id in policy.with_ancestors([each])]
            via = () if group_id in direct else tuple(sorted((groups[each] for each in below), key=lambda g: g.name))
            found.append(Membership(groups[group_id], via))
    return tuple(sorted(found, key=lambda each: (bool(each.via), each.group.name, each.group.id)))


def _reason(resolution: Resolution, limits: Limits) -> str:
    """Say in one sentence which member limits hold and why."""
    if resolution.exempt:
        return "Admins are exempt (admins: exempt in limits.yaml): calls are recorded and never refused."
    deciding = resolution.deciding
    if deciding is None:
        if limits.defaults is not None and limits.defaults.member:
            return "None of the groups has member limits, so the defaults of limits.yaml hold."
        return "None of the groups has member limits, and limits.yaml sets no defaults."
    if limits.resolution is Strategy.LOWEST_PRIORITY_NUMBER:
        return _by_priority(deciding, wording.shown(deciding.name), resolution.tied)
    return f"{_COMBINED[limits.resolution]} (resolution: {limits.resolution})."


_COMBINED = {
    Strategy.MOST_GENEROUS: "For each window, the highest bound of any of the groups holds",
    Strategy.MOST_RESTRICTIVE: "For each window, the lowest bound of any of the groups holds",
    Strategy.ALL: "The member limits of every group hold side by side",
}


def _by_priority(deciding: Group, name: str, tied: Sequence[Group]) -> str:
    priority = deciding.limits.priority if deciding.limits else 0
    text = f"Group {name} decides: its priority number {priority} is the lowest of the groups with member limits"
    if not tied:
        return f"{text}."
    others = ", ".join(wording.shown(group.name) for group in tied)
    return (
        f"{text}. Tied with {others}; it comes first by the larger monthly hard limit, then the larger daily one, then"
        " the smaller id. Give the groups different priority numbers to decide it yourself."
    )


def _next_call(
    resolution: Resolution,
    standings: Sequence[Standing],
    limits: Limits,
    asked: Asked,
    when: tuple[float, ZoneInfo],
) -> NextCall:
    weight = limits.model_weights.of(asked.model)

    def answer(verdict: Verdict, message: str) -> NextCall:
        return NextCall(verdict, message, asked.model, f"{weight:f}", asked.tokens)

    free = asked.model is not None and weight == 0
    if resolution.exempt or free or not standings:
        return answer(Verdict.ALLOWED, _unhindered(resolution, asked.model if free else None))
    estimate = weighted(asked.tokens or 0, weight)
    decision = decide(standings, estimate, limits.admission)
    if isinstance(decision, Refused):
        return answer(Verdict.REFUSED, _refusal(decision, limits, estimate, when))
    if isinstance(decision, Warned):
        said = "; ".join(wording.usage(each) for each in decision.past_soft)
        return answer(Verdict.WARNED, f"It passes, with a warning: {said}.")
    return answer(Verdict.ALLOWED, _passing(standings, limits))


def _unhindered(resolution: Resolution, free_model: str | None) -> str:
    if resolution.exempt:
        return "It passes: the user is exempt."
    if free_model is not None:
        return f"It passes: {wording.shown(free_model)} is free (weight 0)."
    return "It passes: no limit is in force."


def _refusal(decision: Refused, limits: Limits, estimate: int, when: tuple[float, ZoneInfo]) -> str:
    blocking = decision.blocking
    if blocking.remaining:
        return (
            f"It may not fit: {blocking.remaining:,} tokens are left of the {blocking.limit.window} limit, and a call"
            f" of {estimate:,} tokens needs more (admission: strict; its completion cap is lowered where that helps)."
        )
    return wording.refusal(blocking, *when, limits.contact)


def _passing(standings: Sequence[Standing], limits: Limits) -> str:
    left = [each.remaining for each in standings if each.remaining is not None]
    if not left:
        return "It passes: no hard limit is in force."
    if limits.admission is Admission.STRICT:
        return f"It passes if the most it can take is at most {min(left):,} tokens (admission: strict)."
    return f"It passes: {min(left):,} tokens are left."
