"""Standing plus estimate: admit, warn or refuse."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from operator import itemgetter

from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Span


class Admission(StrEnum):
    """When a call is admitted."""

    LAST_REQUEST = "last_request"
    """While used + held < hard for every limit in force; the crossing call still runs."""
    STRICT = "strict"
    """Only if its upper bound still fits every limit in force."""


@dataclass(frozen=True, slots=True)
class Standing:
    """One limit in force as it stands before the call: tokens used and held in its current window."""

    limit: LimitInForce
    span: Span
    used: int
    held: int

    @property
    def remaining(self) -> int | None:
        """Tokens left before the hard limit, never negative; None where there is no hard limit."""
        hard = self.limit.bounds.hard
        return None if hard is None else max(0, hard - self.used - self.held)

    @property
    def past_soft(self) -> bool:
        """Whether what is used (not merely held) has reached the soft limit."""
        soft = self.limit.bounds.soft
        return soft is not None and self.used >= soft

    @property
    def past_hard(self) -> bool:
        """Whether nothing is left of the hard limit."""
        return self.remaining == 0


@dataclass(frozen=True, slots=True)
class Allowed:
    """The call may run; nothing to say."""

    standings: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Warned:
    """The call may run, and its user should know that a soft limit is passed."""

    standings: tuple[Standing, ...]
    past_soft: tuple[Standing, ...]


@dataclass(frozen=True, slots=True)
class Refused:
    """The call must not run. `blocking` is the limit to speak of: of those in the way, the one that resets last."""

    standings: tuple[Standing, ...]
    blocking: Standing


Decision = Allowed | Warned | Refused


def decide(standings: Iterable[Standing], estimate: int, admission: Admission) -> Decision:
    """Decide about a call of `estimate` weighted tokens. Pure: the ledger calls it inside its transaction."""
    all_standings = tuple(standings)
    blocking = [standing for standing in all_standings if _blocks(standing, estimate, admission)]
    if blocking:
        return Refused(all_standings, max(blocking, key=lambda each: each.span.end))
    past_soft = tuple(standing for standing in all_standings if standing.past_soft)
    return Warned(all_standings, past_soft) if past_soft else Allowed(all_standings)


def _blocks(standing: Standing, estimate: int, admission: Admission) -> bool:
    remaining = standing.remaining
    if remaining is None:
        return False
    return remaining == 0 or (admission is Admission.STRICT and estimate > remaining)


def nearest_end(standings: Sequence[Standing]) -> Standing | None:
    """Return the hard-limited standing with the smallest share left, the one a summary speaks of; None without any."""
    limited = [standing for standing in standings if standing.remaining is not None]
    return min(limited, key=_share_left, default=None)


def _share_left(standing: Standing) -> tuple[float, int]:
    hard = standing.limit.bounds.hard or 0
    remaining = standing.remaining or 0
    return (remaining / hard if hard else 0.0, remaining)


@dataclass(frozen=True, slots=True)
class Notice:
    """A threshold that a standing has passed and its user should be told of once."""

    standing: Standing
    threshold: str
    """`soft`, or a percentage of the hard limit such as `75`."""


def notices_due(standings: Iterable[Standing], percentages: Iterable[int]) -> tuple[Notice, ...]:
    """Return, per limit, the highest threshold passed: the soft limit or a percentage of the hard limit.

    One standing yields at most one notice, so a user who jumps from 10 % to 95 % hears one sentence, not three.
    """
    steps = sorted(percentages, reverse=True)
    return tuple(notice for standing in standings if (notice := _notice(standing, steps)))


def _notice(standing: Standing, steps: list[int]) -> Notice | None:
    soft, hard = standing.limit.bounds.soft, standing.limit.bounds.hard
    # In hundredths of a token, so that no threshold is rounded onto another; of equal ones the soft limit is named.
    passed = [] if soft is None else [(soft * 100, "soft")]
    passed += [(hard * step, str(step)) for step in steps if hard]
    passed = [each for each in passed if each[0] <= standing.used * 100]
    if not passed or standing.used == 0:
        return None
    return Notice(standing, max(passed, key=itemgetter(0))[1])
