"""Limits as an admin writes them: `group.data.usage_limits`, version 1, parsed to frozen values and printed back.

    {"version": 1, "priority": 20,
     "member": {"daily": {"soft": 80000, "hard": 100000}},
     "pool":   {"monthly": {"hard": 5000000}}}

`member` limits count one user, `pool` limits the whole group. `null` or absent means no limit.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Any

from owui_budget.domain.windows import Window

VERSION = 1
MAX_TOKENS = 10**15 - 1
"""The largest limit: sums of many such numbers still fit a 64-bit counter, and JSON readers keep them exact."""
MAX_PRIORITY = 1_000_000
DEFAULT_PRIORITY = 100
_PRINTABLE = 10**20
_NAMED_KEYS = 5


class Scope(StrEnum):
    """Whom a limit counts."""

    MEMBER = "member"
    POOL = "pool"


class InvalidLimitsError(ValueError):
    """Limits that cannot be used; `reasons` names each fault with its place, in the words an admin used."""

    def __init__(self, reasons: list[str]) -> None:
        """Keep every reason, so that one look at the report mends all of them."""
        super().__init__("; ".join(reasons))
        self.reasons = tuple(reasons)


@dataclass(frozen=True, slots=True)
class Bounds:
    """A soft (warn) and a hard (refuse) bound in tokens per window; None is no bound."""

    soft: int | None = None
    hard: int | None = None

    def __bool__(self) -> bool:
        """Whether there is any bound at all."""
        return self.soft is not None or self.hard is not None


_NONE: Mapping[Window, Bounds] = MappingProxyType({})


@dataclass(frozen=True)
class UsageLimits:
    """All limits of one group. Empty bounds are dropped, so equal limits are equal values."""

    priority: int = DEFAULT_PRIORITY
    member: Mapping[Window, Bounds] = field(default_factory=lambda: _NONE)
    pool: Mapping[Window, Bounds] = field(default_factory=lambda: _NONE)

    def __post_init__(self) -> None:
        """Normalise: windows in order, no empty bounds, read-only."""
        for name in ("member", "pool"):
            given: Mapping[Window, Bounds] = getattr(self, name)
            kept = {window: given[window] for window in Window if given.get(window)}
            object.__setattr__(self, name, MappingProxyType(kept))

    def __bool__(self) -> bool:
        """Whether there is any limit."""
        return bool(self.member or self.pool)

    def __hash__(self) -> int:
        """Hash by value, as equality goes."""
        return hash((self.priority, tuple(self.member.items()), tuple(self.pool.items())))

    def to_json(self) -> dict[str, Any]:
        """Print as version 1; `parse_limits` reads it back to an equal value."""
        printed: dict[str, Any] = {"version": VERSION, "priority": self.priority}
        for scope, bounds in ((Scope.MEMBER, self.member), (Scope.POOL, self.pool)):
            if bounds:
                printed[scope.value] = {window.value: _bounds_json(each) for window, each in bounds.items()}
        return printed


def _bounds_json(bounds: Bounds) -> dict[str, int]:
    return {name: value for name, value in (("soft", bounds.soft), ("hard", bounds.hard)) if value is not None}


def parse_limits(value: object) -> UsageLimits | None:
    """Read `usage_limits`; None for `null`, which is how an admin takes limits away.

    Raises:
        InvalidLimitsError: with every fault found, each naming its place.

    """
    if value is None:
        return None
    reasons: list[str] = []
    limits = _parse(value, reasons)
    if reasons:
        raise InvalidLimitsError(reasons)
    return limits


def _parse(value: object, reasons: list[str]) -> UsageLimits:
    if not isinstance(value, Mapping):
        reasons.append(f"usage_limits must be an object, not {_name(value)}")
        return UsageLimits()
    reasons.extend(_unknown(value, {"version", "priority", "member", "pool"}, "usage_limits"))
    if value.get("version") != VERSION or isinstance(value.get("version"), bool):
        given = "is missing" if "version" not in value else f"is {_show(value['version'])}"
        reasons.append(
            f'usage_limits.version {given}; this release reads version {VERSION}: write "version": {VERSION}'
        )
    return UsageLimits(
        priority=_parse_priority(value.get("priority"), reasons),
        member=_parse_scope(value.get("member"), "member", reasons),
        pool=_parse_scope(value.get("pool"), "pool", reasons),
    )


def _parse_priority(value: object, reasons: list[str]) -> int:
    if value is None:
        return DEFAULT_PRIORITY
    if isinstance(value, bool) or not isinstance(value, int):
        reasons.append(f"priority must be a whole number, not {_show(value)}")
    elif not 0 <= value <= MAX_PRIORITY:
        reasons.append(f"priority must be from 0 to {MAX_PRIORITY:,}, not {_show(value)}")
    else:
        return value
    return DEFAULT_PRIORITY


def _parse_scope(value: object, place: str, reasons: list[str]) -> Mapping[Window, Bounds]:
    if value is None:
        return _NONE
    if not isinstance(value, Mapping):
        reasons.append(f"{place} must be an object of windows, not {_name(value)}")
        return _NONE
    reasons.extend(_unknown(value, {window.value for window in Window}, place))
    return {window: _parse_bounds(value.get(window.value), f"{place}.{window}", reasons) for window in Window}


def _parse_bounds(value: object, place: str, reasons: list[str]) -> Bounds:
    if value is None:
        return Bounds()
    if not isinstance(value, Mapping):
        reasons.append(f'{place} must be an object like {{"soft": 80000, "hard": 100000}}, not {_name(value)}')
        return Bounds()
    reasons.extend(_unknown(value, {"soft", "hard"}, place))
    soft = _parse_tokens(value.get("soft"), f"{place}.soft", reasons)
    hard = _parse_tokens(value.get("hard"), f"{place}.hard", reasons)
    if soft is not None and hard is not None and soft > hard:
        reasons.append(f"{place}.soft ({soft:,}) is above {place}.hard ({hard:,})")
    return Bounds(soft, hard)


def _parse_tokens(value: object, place: str, reasons: list[str]) -> int | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int):
        reasons.append(f"{place} must be a whole number of tokens, not {_show(value)}")
    elif value < 0:
        reasons.append(f"{place} must not be negative, it is {_show(value)}")
    elif value > MAX_TOKENS:
        reasons.append(f"{place} must be at most {MAX_TOKENS:,} tokens; use null for no limit")
    else:
        return value
    return None


def _unknown(value: Mapping[Any, Any], known: set[str], place: str) -> Iterator[str]:
    strays = [key for key in value if key not in known]
    for key in strays[:_NAMED_KEYS]:
        yield f"{place} has the unknown key {_show(key)}; known are {', '.join(sorted(known))}"
    if len(strays) > _NAMED_KEYS:
        yield f"{place} has {len(strays) - _NAMED_KEYS:,} more unknown keys"


_NAMES: dict[type, str] = {bool: "true or false", int: "a number", float: "a number", str: "text", list: "a list"}


def _name(value: object) -> str:
    return _NAMES.get(type(value), "an object")


def _show(value: object) -> str:
    """Quote a value from outside, cut short: reports stay readable whatever an admin pasted."""
    if isinstance(value, int) and abs(value) > _PRINTABLE:
        return "a huge number"  # Python refuses to print integers of more than 4,300 digits
    if value is not None and not isinstance(value, (bool, int, float, str)):
        return _name(value)  # nor does it print what is nested deeper than its stack
    text = repr(value[:40] if isinstance(value, str) else value)
    return text if len(text) <= 40 else f"{text[:37]}..."  # noqa: PLR2004
