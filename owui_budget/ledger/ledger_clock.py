"""The ledger's time, and what was last read of its state: every batch reads it anew."""

from owui_budget.clock import Clock
from owui_budget.ledger.protocol import LedgerState


class LedgerClock:
    """The machine's clock plus the test clock's offset, as last read."""

    def __init__(self, clock: Clock) -> None:
        """Start with no offset, until the ledger has been read."""
        self._clock = clock
        self.state: LedgerState | None = None

    def now(self) -> float:
        """Return the ledger's time in epoch seconds."""
        return self._clock.now() + (self.state.clock_offset if self.state else 0.0)

    def machine(self) -> float:
        """Return the machine's time in epoch seconds."""
        return self._clock.now()

    def learn(self, state: LedgerState) -> float:
        """Remember the state a batch has read and return the ledger's time as of it."""
        self.state = state
        return self.now()
