"""Charges: exact, rounded up per call, by the first glob that matches."""

from decimal import Context, Decimal, localcontext
from fractions import Fraction
from math import ceil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain.charge import Usage, Weights, weighted

weights = st.decimals(min_value=0, max_value=1_000_000, allow_nan=False, places=12) | st.decimals(
    min_value=0, max_value=10, allow_nan=False
)


@given(tokens=st.integers(0, 10**15), weight=weights)
@settings(max_examples=100, deadline=None)
def test_a_charge_is_the_exact_product_rounded_up(tokens: int, weight: Decimal) -> None:
    assert weighted(tokens, weight) == ceil(Fraction(tokens) * Fraction(weight))


@given(tokens=st.integers(0, 10**6), more=st.integers(0, 10**6), weight=weights)
@settings(max_examples=100, deadline=None)
def test_more_tokens_never_cost_less(tokens: int, more: int, weight: Decimal) -> None:
    assert weighted(tokens, weight) <= weighted(tokens + more, weight)
    assert weighted(tokens + more, weight) <= weighted(tokens, weight) + weighted(more, weight)


CHARGES = [
    (0, "3", 0),
    (1_000, "1", 1_000),
    (1_000, "0", 0),
    (1, "0.000000000001", 1),
    (10, "0.1", 1),
    (11, "0.1", 2),
    (3, "0.3333333333333333333333333333", 1),
    (10, "1.0000000000000000000000000001", 11),
    (10**15 - 1, "1000000", (10**15 - 1) * 10**6),
    (7, "1E+3", 7_000),
]


@pytest.mark.parametrize(("tokens", "weight", "charge"), CHARGES)
def test_charges(tokens: int, weight: str, charge: int) -> None:
    assert weighted(tokens, Decimal(weight)) == charge


def test_a_charge_does_not_depend_on_the_decimal_context() -> None:
    with localcontext(Context(prec=2)):
        assert weighted(123_456, Decimal("1.25")) == 154_320


GLOBS = Weights(
    {
        "gpt-5*": Decimal(3),
        "gpt-5-mini": Decimal("0.5"),
        "*/free-?": Decimal(0),
        "llama-[12]": Decimal(2),
        "": Decimal(9),
    }
)
MODELS = [
    ("gpt-5", 3),
    ("gpt-5-mini", 3),  # the first match decides, not the closest
    ("gpt-4", 1),
    ("GPT-5", 1),  # names differ by case
    ("openai/gpt-5", 1),  # a pattern covers the whole name
    ("vendor/free-1", 0),
    ("vendor/free-12", 1),
    ("llama-2", 2),
    ("llama-3", 1),
    (None, 9),  # a call without a model has the empty name
]


@pytest.mark.parametrize(("model", "weight"), MODELS)
def test_the_first_matching_pattern_decides(model: str | None, weight: int) -> None:
    assert GLOBS.of(model) == weight


def test_a_call_is_as_heavy_as_its_heaviest_fallback() -> None:
    assert GLOBS.heaviest(["a/free-1", "b/free-2"]) == 0
    assert GLOBS.heaviest(["a/free-1", "gpt-4", "llama-1"]) == 2
    assert GLOBS.heaviest([]) == 1
    assert Weights().of("anything") == 1


def test_cached_and_reasoning_tokens_are_parts_and_not_added() -> None:
    assert Usage(prompt=100, completion=20, cached=80, reasoning=15).total == 120
