"""Which limits are in force for one subject, and why.

The default strategy is `lowest_priority_number`: of the subject's groups that carry member limits, the one with the
lowest priority number decides. Ties go to the larger monthly hard limit, then the larger daily one, then the smaller
group id. Under every strategy, every pool limit of every one of the subject's groups applies.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType

from owui_budget.domain.identity import Caller, Counter, CounterKind, Role, Subject
from owui_budget.domain.limits import Bounds, Scope, UsageLimits
from owui_budget.domain.windows import Window


class Strategy(StrEnum):
    """How member limits of several groups combine."""

    LOWEST_PRIORITY_NUMBER = "lowest_priority_number"
    """One group decides: the lowest priority number."""
    MOST_GENEROUS = "most_generous"
    """Per window and bound, the largest among the groups; a group without that bound counts as unlimited."""
    MOST_RESTRICTIVE = "most_restrictive"
    """Per window and bound, the smallest among the groups that have it."""
    ALL = "all"
    """The member limits of every group apply side by side."""


@dataclass(frozen=True, slots=True)
class Group:
    """An Open WebUI group as the policy knows it."""

    id: str
    name: str
    parent_id: str | None = None
    limits: UsageLimits | None = None


@dataclass(frozen=True)
class LimitInForce:
    """One limit on one counter, with its origin. `group_id` is None where limits.yaml set it."""

    scope: Scope
    window: Window
    bounds: Bounds
    counter: Counter
    group_id: str | None = None
    group_name: str | None = None


@dataclass(frozen=True)
class Resolution:
    """The limits in force for one subject, and how they came about."""

    limits: tuple[LimitInForce, ...] = ()
    deciding: Group | None = None
    """The group whose member limits decide; None when defaults or nothing apply."""
    tied: tuple[Group, ...] = ()
    """Groups of the same priority number as the deciding one, which lost by the tie rules."""
    attribution: Group | None = None
    """The group whose team LiteLLM's spend pages show: the deciding one, else the first with a pool limit."""
    exempt: bool = False
    pool_group_ids: tuple[str, ...] = ()
    """Every known group of the subject, sorted: the pools the call would count in if they were limited."""
    unknown_group_ids: frozenset[str] = frozenset()


@dataclass(frozen=True)
class PolicyRules:
    """What limits.yaml says about resolution."""

    strategy: Strategy = Strategy.LOWEST_PRIORITY_NUMBER
    defaults: UsageLimits | None = None
    """Member limits of users in no group with member limits."""
    service: UsageLimits | None = None
    """Member limits counted per service key."""
    admins_exempt: bool = True


@dataclass(frozen=True)
class Policy:
    """Groups, their tree and the rules: everything a decision about limits needs."""

    groups: Mapping[str, Group] = field(default_factory=dict)
    rules: PolicyRules = field(default_factory=PolicyRules)

    def __post_init__(self) -> None:
        """Make the groups read-only: a policy is shared by all calls of a process."""
        object.__setattr__(self, "groups", MappingProxyType(dict(self.groups)))

    def with_ancestors(self, group_ids: Iterable[str]) -> frozenset[str]:
        """Return `group_ids` and all their ancestors: a member of a child is a member of every ancestor.

        Open WebUI refuses cycles; one that a direct edit made is walked once.
        """
        found: set[str] = set()
        for start in group_ids:
            current: str | None = start
            while current is not None and current not in found:
                found.add(current)
                group = self.groups.get(current)
                current = group.parent_id if group else None
        return frozenset(found)

    def resolve(self, subject: Subject) -> Resolution:
        """Return the limits in force for `subject`."""
        match subject.caller:
            case Caller.SERVICE:
                return self._for_service(subject)
            case Caller.TEAM_KEY:
                return self._for_team(subject)
            case _:
                return self._for_user(subject)

    def _for_user(self, subject: Subject) -> Resolution:
        ids = self.with_ancestors(subject.group_ids)
        groups = [self.groups[group_id] for group_id in sorted(ids) if group_id in self.groups]
        unknown = frozenset(ids - self.groups.keys())
        by_rank = sorted((group for group in groups if group.limits and group.limits.member), key=rank)
        pools = _pool_limits(groups)
        first = by_rank[0] if by_rank else None
        attribution = first or next(iter(sorted((g for g in groups if g.limits and g.limits.pool), key=rank)), None)
        if subject.role is Role.ADMIN and self.rules.admins_exempt:
            return Resolution(attribution=attribution, exempt=True, unknown_group_ids=unknown)
        counter = Counter(CounterKind.USER, subject.user_id or "")
        if by_rank:
            member = _STRATEGIES[self.rules.strategy](by_rank, counter)
        else:
            member = _member_limits(None, self.rules.defaults, counter)
        return Resolution(
            limits=(*member, *pools),
            deciding=first,
            tied=tuple(group for group in by_rank[1:] if first and _priority(group) == _priority(first)),
            attribution=attribution,
            pool_group_ids=tuple(group.id for group in groups),
            unknown_group_ids=unknown,
        )

    def _for_team(self, subject: Subject) -> Resolution:
        ids = self.with_ancestors(subject.group_ids)
        groups = [self.groups[group_id] for group_id in sorted(ids) if group_id in self.groups]
        # The key belongs to one group; its ancestors' pools count too, as they do for that group's members.
        own = next((group for group in groups if group.id in subject.group_ids), None)
        return Resolution(
            limits=_pool_limits(groups),
            attribution=own,
            pool_group_ids=tuple(group.id for group in groups),
            unknown_group_ids=frozenset(ids - self.groups.keys()),
        )

    def _for_service(self, subject: Subject) -> Resolution:
        counter = Counter(CounterKind.SERVICE, subject.service_id or "unknown")
        return Resolution(limits=_member_limits(None, self.rules.service, counter))


def rank(group: Group) -> tuple[int, float, float, str]:
    """Sort groups by who decides first: priority number, larger monthly, larger daily hard limit, group id."""
    return (_priority(group), -_hard(group, Window.MONTHLY), -_hard(group, Window.DAILY), group.id)


def _priority(group: Group) -> int:
    return group.limits.priority if group.limits else 0


def _hard(group: Group, window: Window) -> float:
    bounds = group.limits.member.get(window) if group.limits else None
    return _or_infinity(bounds.hard if bounds else None)


def _or_infinity(tokens: int | None) -> float:
    return float("inf") if tokens is None else tokens


def _pool_limits(groups: list[Group]) -> tuple[LimitInForce, ...]:
    return tuple(
        LimitInForce(Scope.POOL, window, bounds, Counter(CounterKind.POOL, group.id), group.id, group.name)
        for group in groups
        if group.limits
        for window, bounds in group.limits.pool.items()
    )


def _member_limits(group: Group | None, limits: UsageLimits | None, counter: Counter) -> tuple[LimitInForce, ...]:
    if limits is None:
        return ()
    return tuple(_member_limit(window, bounds, counter, group) for window, bounds in limits.member.items())


def _member_limit(window: Window, bounds: Bounds, counter: Counter, group: Group | None) -> LimitInForce:
    return LimitInForce(
        Scope.MEMBER, window, bounds, counter, group.id if group else None, group.name if group else None
    )


def _lowest_priority_number(by_rank: list[Group], counter: Counter) -> tuple[LimitInForce, ...]:
    return _member_limits(by_rank[0], by_rank[0].limits, counter)


def _all(by_rank: list[Group], counter: Counter) -> tuple[LimitInForce, ...]:
    return tuple(limit for group in by_rank for limit in _member_limits(group, group.limits, counter))


def _most_generous(by_rank: list[Group], counter: Counter) -> tuple[LimitInForce, ...]:
    return _pick_bounds(by_rank, counter, lambda candidates: max(candidates, key=lambda each: _or_infinity(each[0])))


def _most_restrictive(by_rank: list[Group], counter: Counter) -> tuple[LimitInForce, ...]:
    return _pick_bounds(by_rank, counter, lambda candidates: min(candidates, key=lambda each: _or_infinity(each[0])))


_Candidate = tuple[int | None, Group]


def _pick_bounds(
    by_rank: list[Group], counter: Counter, pick: Callable[[list[_Candidate]], _Candidate]
) -> tuple[LimitInForce, ...]:
    """Pick soft and hard bounds apart, so each names the group it came from; equal bounds go to the better rank."""
    limits: list[LimitInForce] = []
    for window in Window:
        bounds = [((group.limits.member.get(window) if group.limits else None) or Bounds(), group) for group in by_rank]
        soft, soft_group = pick([(each.soft, group) for each, group in bounds])
        hard, hard_group = pick([(each.hard, group) for each, group in bounds])
        if hard is not None and soft is not None and soft_group is hard_group:
            limits.append(_member_limit(window, Bounds(soft, hard), counter, hard_group))
            continue
        if hard is not None:
            limits.append(_member_limit(window, Bounds(hard=hard), counter, hard_group))
        if soft is not None:
            limits.append(_member_limit(window, Bounds(soft=soft), counter, soft_group))
    return tuple(limits)


_STRATEGIES: Mapping[Strategy, Callable[[list[Group], Counter], tuple[LimitInForce, ...]]] = {
    Strategy.LOWEST_PRIORITY_NUMBER: _lowest_priority_number,
    Strategy.MOST_GENEROUS: _most_generous,
    Strategy.MOST_RESTRICTIVE: _most_restrictive,
    Strategy.ALL: _all,
}
