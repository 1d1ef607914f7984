from hypothesis import given
from hypothesis import strategies as st

from owui_budget_hooks.learning import TypicalCompletion


def test_an_unknown_model_is_expected_to_answer_the_floor() -> None:
    assert TypicalCompletion(256, 32_000).of("new") == 256


def test_nine_of_ten_answers_are_expected_to_fit() -> None:
    typical = TypicalCompletion(1, 32_000)
    for size in range(1, 101):
        typical.learn("m", size)

    assert 85 <= typical.of("m") <= 100


def test_the_first_answer_is_learned_from() -> None:
    typical = TypicalCompletion(1, 32_000)
    typical.learn("m", 500)

    assert typical.of("m") == 500
    assert typical.of("other") == 1


def test_old_answers_are_forgotten() -> None:
    typical = TypicalCompletion(1, 32_000)
    for size in [9_000] * 300 + [10] * 300:
        typical.learn("m", size)

    assert typical.of("m") == 10


def test_an_absurd_answer_is_expected_only_up_to_the_ceiling() -> None:
    typical = TypicalCompletion(256, 32_000)
    typical.learn("m", 10**9)

    assert typical.of("m") == 32_000


def test_the_models_least_recently_used_are_forgotten() -> None:
    typical = TypicalCompletion(1, 32_000)
    typical.learn("first", 500)
    typical.learn("kept", 500)
    for number in range(999):
        typical.learn(f"model-{number}", 500)
        typical.learn("kept", 500)

    assert typical.of("first") == 1
    assert typical.of("kept") == 500


@given(st.lists(st.integers(0, 10**6), max_size=300), st.integers(0, 1_000), st.integers(1_000, 10**6))
def test_an_expectation_stays_within_its_bounds(sizes: list[int], floor: int, ceiling: int) -> None:
    typical = TypicalCompletion(floor, ceiling)
    for size in sizes:
        typical.learn("m", size)

    assert floor <= typical.of("m") <= ceiling
    assert typical.of("m") <= max([floor, *sizes])
