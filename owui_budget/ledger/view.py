"""What a batch works on (`View`) and what it changes (`Writes`)."""

from dataclasses import dataclass, field

from owui_budget.ledger.protocol import LedgerState
from owui_budget.ledger.records import Event, Open, Row


@dataclass(slots=True)
class View:
    """What a store has locked and read for one batch."""

    state: LedgerState
    rows: dict[str, Row]
    open: dict[str, Open]
    history: dict[str, list[Event]] = field(default_factory=dict)
    """Events of reservations that have no row."""


@dataclass(slots=True)
class Writes:
    """What one batch changes. Times are ledger time, in epoch seconds."""

    now: float
    lease_until: float
    """What new and renewed leases are extended to."""
    rows: dict[str, Row] = field(default_factory=dict)
    reserved: dict[str, Open] = field(default_factory=dict)
    deleted: list[str] = field(default_factory=list)
    released: list[str] = field(default_factory=list)
    renewed: dict[str, None] = field(default_factory=dict)
    """None that ends in the same batch: PostgreSQL would do only one of two changes of a row in one statement."""
    events: list[Event] = field(default_factory=list)

    def __bool__(self) -> bool:
        """Whether anything changes at all."""
        return bool(self.rows or self.reserved or self.deleted or self.released or self.renewed or self.events)
