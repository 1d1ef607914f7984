"""What one answer of a model usually takes: the 90th percentile of its recent answers, per process.

Seeded from recent usage events at start. Only `last_request` admission uses it; a wrong figure is corrected when the
call ends.
"""

from collections import OrderedDict, deque

_KEPT = 200
_MODELS_KEPT = 1_000
_REFRESH = 8


class TypicalCompletion:
    """Learns completion sizes in tokens, per model."""

    def __init__(self, floor: int, ceiling: int) -> None:
        """Answer between `floor` (also for unknown models) and `ceiling` tokens."""
        self._floor = floor
        self._ceiling = ceiling
        self._seen: OrderedDict[str, _Model] = OrderedDict()

    def learn(self, model: str, completion: int) -> None:
        """Add one finished answer of `completion` tokens."""
        known = self._seen.get(model)
        if known is None:
            known = self._seen[model] = _Model()
            if len(self._seen) > _MODELS_KEPT:
                self._seen.popitem(last=False)
        self._seen.move_to_end(model)
        known.add(completion)

    def of(self, model: str) -> int:
        """Return the tokens one answer of `model` is expected to take."""
        known = self._seen.get(model)
        return min(self._ceiling, max(self._floor, known.p90 if known else 0))


class _Model:
    __slots__ = ("_recent", "_since", "p90")

    def __init__(self) -> None:
        self._recent: deque[int] = deque(maxlen=_KEPT)
        self._since = 0
        self.p90 = 0

    def add(self, completion: int) -> None:
        self._recent.append(completion)
        self._since += 1
        if self._since >= _REFRESH or len(self._recent) <= _REFRESH:
            ordered = sorted(self._recent)
            self.p90 = ordered[len(ordered) * 9 // 10] if len(ordered) > 1 else ordered[0]
            self._since = 0
