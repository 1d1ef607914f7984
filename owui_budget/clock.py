"""The one place that reads the machine's clock.

Rules take the time as an argument. Windows and leases use the ledger's time, which is this clock plus the test-clock
offset kept in the ledger; the validity of a JWT and every HTTP deadline use this clock alone.
"""

import time
from typing import Protocol


class Clock(Protocol):
    """Seconds since 1970-01-01T00:00:00Z."""

    def now(self) -> float:
        """Return the current time in epoch seconds (UTC)."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> float:
        """Return the current time in epoch seconds (UTC)."""
        return time.time()  # noqa: TID251 - the one place


class ManualClock:
    """A clock that stands still until it is moved, for tests of one room."""

    def __init__(self, start: float) -> None:
        """Start at `start` epoch seconds."""
        self._now = start

    def now(self) -> float:
        """Return the time it was last set to, in epoch seconds."""
        return self._now

    def advance(self, seconds: float) -> None:
        """Move forward (or back, when negative) by `seconds`."""
        self._now += seconds
