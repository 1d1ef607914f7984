"""What a call is charged: prompt plus completion tokens, times the model's weight, rounded up per call."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class Usage:
    """The tokens a call took, as the provider counted them (or as estimated where `estimated` says so).

    `cached` is the part of `prompt`, `reasoning` the part of `completion` that the provider reported as such.
    """

    prompt: int = 0
    completion: int = 0
    cached: int = 0
    reasoning: int = 0
    estimated: bool = False

    @property
    def total(self) -> int:
        """Prompt plus completion tokens, unweighted."""
        return self.prompt + self.completion


@dataclass(frozen=True)
class Weights:
    """Decimal weights by model name: the first glob that matches decides; 1 where none does."""

    by_glob: Mapping[str, Decimal] = field(default_factory=dict)

    def of(self, model: str | None) -> Decimal:
        """Return the weight of `model`; an unknown model weighs 1."""
        for glob, weight in self.by_glob.items():
            if fnmatchcase(model or "", glob):
                return weight
        return Decimal(1)

    def heaviest(self, models: Iterable[str | None]) -> Decimal:
        """Return the largest weight among `models`, or 1 when there are none.

        A call is free at admission only if its model and every configured fallback weigh 0.
        """
        return max((self.of(model) for model in models), default=Decimal(1))


def weighted(tokens: int, weight: Decimal) -> int:
    """Return `tokens` times `weight`, rounded up to a whole token.

    In whole numbers: a Decimal product would first be rounded to the 28 digits of the thread's decimal context.
    """
    numerator, denominator = weight.as_integer_ratio()
    return -(-tokens * numerator // denominator)
