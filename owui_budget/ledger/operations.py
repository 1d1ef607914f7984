"""What a batch can hold: the protocol's requests and the ledger's own housekeeping."""

from dataclasses import dataclass

from owui_budget.domain.decisions import Standing
from owui_budget.domain.identity import Counter
from owui_budget.domain.policy import LimitInForce
from owui_budget.ledger.protocol import Reserve, ReserveOutcome, Settlement


@dataclass(frozen=True, slots=True)
class Release:
    """Give a hold back: nothing was spent."""

    id: str


@dataclass(frozen=True, slots=True)
class Abandon:
    """Undo a reservation whose caller never learned of it, as if it had not happened: its id may still be settled."""

    id: str


@dataclass(frozen=True, slots=True)
class Expire:
    """Charge the estimate of a reservation whose lease ran out, if it still has not been renewed."""

    id: str


@dataclass(frozen=True, slots=True)
class Renew:
    """Extend the leases of calls still running."""

    ids: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Adjust:
    """Add a charge to a counter's current windows; `id` becomes the event's reservation id."""

    id: str
    counter: Counter
    charge: int
    reason: str


@dataclass(frozen=True, slots=True)
class Reset:
    """Bring a counter's current windows to zero by adjustments."""

    id: str
    counter: Counter
    reason: str


@dataclass(frozen=True, slots=True)
class Look:
    """Tell where limits stand, changing nothing."""

    limits: tuple[LimitInForce, ...]


@dataclass(frozen=True, slots=True)
class Unopened:
    """Pools that have no counter row yet: open them from the events, then ask again. Nothing was written."""

    keys: tuple[str, ...]


Operation = Reserve | Settlement | Release | Abandon | Expire | Renew | Adjust | Reset | Look
Result = ReserveOutcome | Unopened | tuple[Standing, ...] | bool | dict[str, int] | None


def reservation_ids(operation: Operation) -> tuple[str, ...]:
    """Return the reservation rows an operation locks. A new reservation has none yet."""
    match operation:
        case Settlement():
            return (operation.reservation_id,)
        case Release() | Abandon() | Expire():
            return (operation.id,)
        case Renew():
            return operation.ids
        case Reserve() | Adjust() | Reset() | Look():
            return ()
