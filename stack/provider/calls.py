"""The provider's own account: one record per call, with what it truly cost."""

import itertools
import time
from collections import Counter, deque
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT = 20_000


def now() -> float:
    """Return the time, in seconds since 1970."""
    return time.time()  # noqa: TID251 - a provider has its own clock


@dataclass(slots=True)
class Call:
    """One call as the provider saw it."""

    number: int
    path: str
    model: str
    stream: bool
    headers: dict[str, str]
    body: dict[str, Any]
    at: float = field(default_factory=now)
    status: int = 200
    prompt_tokens: int = 0
    completion_tokens: int = 0
    """Tokens of the whole answer, as reported."""
    sent_tokens: int = 0
    """Tokens of the answer that were sent before the stream ended, for whatever reason."""
    usage_reported: bool = False
    outcome: str = "running"
    """running | ok | failed (an error answer) | died (we broke it off) | gone (the client did)"""

    @property
    def total_tokens(self) -> int:
        """Prompt and completion."""
        return self.prompt_tokens + self.completion_tokens


class Account:
    """All calls since the start or the last `clear`."""

    def __init__(self) -> None:
        """Start empty."""
        self._numbers = itertools.count(1)
        self._calls: deque[Call] = deque(maxlen=KEPT)
        self._failures: Counter[str] = Counter()

    def open(self, path: str, model: str, headers: dict[str, str], body: dict[str, Any], *, stream: bool) -> Call:
        """Record a call that has begun."""
        call = Call(next(self._numbers), path, model, stream, headers, body)
        self._calls.append(call)
        return call

    def still_failing(self, key: str, times: int) -> bool:
        """Count one more call under `key`, and return whether it is among the first `times`."""
        self._failures[key] += 1
        return self._failures[key] <= times

    def clear(self) -> None:
        """Forget everything."""
        self._calls.clear()
        self._failures.clear()

    def to_json(self) -> dict[str, Any]:
        """Return all calls, and the sums over those whose answer was good."""
        calls = [{**asdict(call), "total_tokens": call.total_tokens} for call in self._calls]
        good = [call for call in self._calls if call.status < 400]  # noqa: PLR2004 - HTTP
        sums = {
            "calls": len(good),
            "prompt_tokens": sum(call.prompt_tokens for call in good),
            "completion_tokens": sum(call.completion_tokens for call in good),
            "total_tokens": sum(call.total_tokens for call in good),
        }
        return {"calls": calls, "sums": sums}
