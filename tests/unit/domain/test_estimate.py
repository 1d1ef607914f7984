"""Estimates: the likely one, and the bound that strict admission relies on."""

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget.domain.estimate import MAX_CHOICES, Ceilings, Shape, expected, fitting_cap, prompt_bound

sizes = st.integers(0, 10**7)
ceilings = st.builds(Ceilings, per_message=st.integers(0, 100), per_part=st.integers(0, 10_000))
shapes = st.builds(
    Shape,
    text_bytes=sizes,
    messages=st.integers(0, 500),
    parts=st.integers(0, 50),
    cap=st.none() | st.integers(1, 10**6),
    choices=st.integers(1, 200),
    generates=st.booleans(),
)


@given(shape=shapes, ceilings=ceilings, field=st.sampled_from(("text_bytes", "messages", "parts")), more=sizes)
@settings(max_examples=100, deadline=None)
def test_a_larger_prompt_never_has_a_smaller_estimate(shape: Shape, ceilings: Ceilings, field: str, more: int) -> None:
    larger = replace(shape, **{field: getattr(shape, field) + more})
    assert prompt_bound(larger, ceilings) >= prompt_bound(shape, ceilings)
    assert expected(larger, ceilings, 500, 32_000).prompt >= expected(shape, ceilings, 500, 32_000).prompt


@given(text=st.text(), messages=st.integers(0, 9))
@settings(max_examples=100, deadline=None)
def test_the_bound_covers_one_token_for_each_byte(text: str, messages: int) -> None:
    shape = Shape(text_bytes=len(text.encode()), messages=messages)
    assert prompt_bound(shape, Ceilings()) >= len(text.encode()) + 16 * messages
    assert prompt_bound(shape, Ceilings()) >= expected(shape, Ceilings(), 0, 1).prompt


@given(shape=shapes, ceilings=ceilings, remaining=st.integers(-(10**6), 10**8))
@settings(max_examples=150, deadline=None)
def test_a_fitting_cap_fits_and_is_the_largest_that_does(shape: Shape, ceilings: Ceilings, remaining: int) -> None:
    cap = fitting_cap(shape, ceilings, remaining)
    prompt = prompt_bound(shape, ceilings)
    if cap is None:
        assert prompt + shape.choices > remaining
        return
    assert cap >= 1
    assert prompt + cap * shape.choices <= remaining
    assert shape.cap is None or cap <= shape.cap
    assert cap == shape.cap or prompt + (cap + 1) * shape.choices > remaining


@given(shape=shapes, typical=st.integers(0, 10**6), ceiling=st.integers(1, 10**6))
@settings(max_examples=100, deadline=None)
def test_an_absurd_request_holds_no_more_than_the_ceiling(shape: Shape, typical: int, ceiling: int) -> None:
    estimate = expected(shape, Ceilings(), typical, ceiling)
    assert 0 <= estimate.completion <= ceiling * min(shape.choices, MAX_CHOICES)
    assert estimate.total == estimate.prompt + estimate.completion
    if not shape.generates:
        assert estimate.completion == 0


CASES = [
    (Shape(), 0, 500),
    (Shape(text_bytes=1), 1, 500),
    (Shape(text_bytes=4), 1, 500),
    (Shape(text_bytes=5), 2, 500),
    (Shape(text_bytes=4, messages=2), 9, 500),
    (Shape(parts=2), 4_000, 500),
    (Shape(cap=100), 0, 100),
    (Shape(cap=10**9), 0, 32_000),
    (Shape(cap=100, choices=3), 0, 300),
    (Shape(choices=3), 0, 1_500),
    (Shape(text_bytes=40, cap=100, generates=False), 10, 0),
]


@pytest.mark.parametrize(("shape", "prompt", "completion"), CASES)
def test_likely_sizes(shape: Shape, prompt: int, completion: int) -> None:
    estimate = expected(shape, Ceilings(), typical_completion=500, completion_ceiling=32_000)
    assert (estimate.prompt, estimate.completion) == (prompt, completion)


CAPS = [
    # remaining, own cap, choices, the cap that fits beside a prompt bound of 116
    (116, None, 1, None),
    (117, None, 1, 1),
    (1_116, None, 1, 1_000),
    (1_116, 400, 1, 400),
    (1_116, 4_000, 1, 1_000),
    (1_116, None, 3, 333),
    (118, None, 3, None),
    (0, 5, 1, None),
]


@pytest.mark.parametrize(("remaining", "own", "choices", "cap"), CAPS)
def test_caps(remaining: int, own: int | None, choices: int, cap: int | None) -> None:
    shape = Shape(text_bytes=84, messages=1, cap=own, choices=choices)
    assert prompt_bound(shape, Ceilings()) == 116
    assert fitting_cap(shape, Ceilings(), remaining) == cap
