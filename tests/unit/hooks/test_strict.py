from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from kit import limit, request, standing

from owui_budget.domain.charge import weighted
from owui_budget.domain.decisions import Standing
from owui_budget.domain.estimate import Ceilings, prompt_bound
from owui_budget_hooks.answers import BudgetAnswer
from owui_budget_hooks.routes import ROUTES, Route
from owui_budget_hooks.shape import shape_of
from owui_budget_hooks.strict import Bound, bound, write_cap

CHAT, MESSAGES, RESPONSES = ROUTES["acompletion"], ROUTES["anthropic_messages"], ROUTES["aresponses"]
COMPLETION, GEMINI, EMBEDDING = ROUTES["atext_completion"], ROUTES["agenerate_content"], ROUTES["aembedding"]
CEILINGS = Ceilings()


def bounded(
    data: dict[str, Any], route: Route = CHAT, left: int | None = 10_000, weight: Decimal = Decimal(1)
) -> Bound:
    """Bound `data` with `left` weighted tokens left of its one limit, and write the cap as the caller does."""
    of = limit(hard=left) if left is not None else limit(hard=None, soft=10)
    found = bound(data, route, shape_of(data, route), [standing(of)], (weight, CEILINGS))
    if found.cap is not None:
        write_cap(data, route, found.cap)
    return found


CAPS: list[tuple[Route, dict[str, Any], dict[str, Any]]] = [
    (CHAT, {}, {"max_tokens": "fit"}),
    (CHAT, {"max_tokens": 50}, {"max_tokens": 50}),
    (CHAT, {"max_tokens": 10**8}, {"max_tokens": "fit"}),
    (CHAT, {"max_completion_tokens": 10**8}, {"max_completion_tokens": "fit", "max_tokens": None}),
    (CHAT, {"max_tokens": 50, "max_completion_tokens": 10**8}, {"max_tokens": 50, "max_completion_tokens": "fit"}),
    (CHAT, {"max_tokens": -1}, {"max_tokens": "fit"}),
    (CHAT, {"max_tokens": 10**30}, {"max_tokens": "fit"}),
    (CHAT, {"max_tokens": "lots"}, {"max_tokens": "fit"}),
    (CHAT, {"max_tokens": True, "max_completion_tokens": 50}, {"max_tokens": 50, "max_completion_tokens": 50}),
    (CHAT, {"max_tokens": None}, {"max_tokens": "fit"}),
    (MESSAGES, {"max_tokens": 10**6}, {"max_tokens": "fit"}),
    (RESPONSES, {"input": "hello"}, {"max_output_tokens": "fit", "max_tokens": None}),
    (RESPONSES, {"input": "hello", "max_output_tokens": 50}, {"max_output_tokens": 50}),
    (COMPLETION, {"prompt": "hello"}, {"max_tokens": "fit"}),
    (GEMINI, {"contents": []}, {"generationConfig": {"maxOutputTokens": "fit"}}),
    (
        GEMINI,
        {"contents": [], "generationConfig": {"temperature": 1}},
        {"generationConfig": {"maxOutputTokens": "fit", "temperature": 1}},
    ),
    (GEMINI, {"contents": [], "config": {"max_output_tokens": 10**6}}, {"config": {"max_output_tokens": "fit"}}),
    (
        GEMINI,
        {"contents": [], "generationConfig": {"maxOutputTokens": 5}, "config": {"maxOutputTokens": 10**6}},
        {"generationConfig": {"maxOutputTokens": 5}, "config": {"maxOutputTokens": "fit"}},
    ),
]


@pytest.mark.parametrize(("route", "given", "expected"), CAPS)
def test_the_cap_is_written_in_the_routes_own_spelling(
    route: Route, given: dict[str, Any], expected: dict[str, Any]
) -> None:
    data = {"messages": [{"role": "user", "content": "hello"}], **given}
    if route not in (CHAT, MESSAGES):
        del data["messages"]

    found = bounded(data, route)

    def filled(value: Any) -> Any:
        if isinstance(value, dict):
            return {name: filled(each) for name, each in value.items()}
        return found.cap if value == "fit" else value

    assert {name: data.get(name) for name in expected} == filled(expected)
    assert found.estimate.total <= 10_000


def test_the_largest_cap_that_fits_is_taken() -> None:
    data = request()

    found = bounded(data, left=1_000)

    assert found.estimate.total == 1_000
    assert found.estimate.prompt == prompt_bound(found.shape, CEILINGS)


def test_every_choice_may_take_the_whole_cap() -> None:
    data = request(n=3)

    found = bounded(data, left=10_000)

    assert found.cap is not None
    assert found.estimate.completion == 3 * found.cap
    assert 10_000 - 3 < found.estimate.total <= 10_000


def test_a_list_of_prompts_is_several_answers() -> None:
    data: dict[str, Any] = {"prompt": ["a", "b", "c", "d"], "max_tokens": 100}

    found = bounded(data, COMPLETION)

    assert found.estimate.completion == 400


@pytest.mark.parametrize("weight", ["3", "0.3", "0.1", "1.5", "0.0001", "1000"])
def test_weighted_tokens_fit(weight: str) -> None:
    data = request()

    found = bounded(data, left=1_000_000, weight=Decimal(weight))

    assert weighted(found.estimate.total, Decimal(weight)) <= 1_000_000


def test_the_tightest_limit_counts() -> None:
    data, shape = request(), shape_of(request(), CHAT)
    limits = [
        standing(limit(hard=5_000), used=3_000, held=500),
        standing(limit(hard=100_000)),
        standing(limit(hard=None, soft=1)),
    ]

    assert bound(data, CHAT, shape, limits, (Decimal(1), CEILINGS)).estimate.total == 1_500


@pytest.mark.parametrize("given", [{}, {"max_tokens": 50}, {"max_tokens": 10**6, "max_completion_tokens": -3}])
def test_what_does_not_fit_is_reserved_in_full_and_runs_capped_if_room_came_free(given: dict[str, int]) -> None:
    data = request(**given)

    found = bounded(data, left=5)

    assert found.estimate.total > 5
    assert found.cap == max(1, given.get("max_tokens", 1))
    assert found.estimate.completion == found.cap
    assert all(0 < data[name] <= found.cap for name in ("max_tokens", "max_completion_tokens") if name in data)


def test_soft_limits_alone_cap_nothing() -> None:
    data = request()

    assert bounded(data, left=None).cap is None
    assert "max_tokens" not in data


def test_routes_that_answer_without_tokens_need_no_cap() -> None:
    data = {"input": "x" * 400}

    found = bounded(data, EMBEDDING)

    assert found.estimate.completion == 0
    assert data == {"input": "x" * 400}


NO_CAP = ("aimage_generation", "aspeech", "atranscription")
ELSEWHERE = (
    "previous_response_id",
    "conversation",
    "prompt_id",
    "vector_store_ids",
    "web_search_options",
    "extra_body",
)
UNBOUNDED: list[tuple[str, dict[str, Any], str]] = [
    *((name, {"model": "m"}, "cannot be bounded") for name in NO_CAP),
    *(("acompletion", {field: "x"}, f"`{field}`") for field in ELSEWHERE),
    ("acompletion", {"web_search_options": {}}, "`web_search_options`"),
    ("aresponses", {"prompt": {"id": "pmpt_1"}}, "stored prompt"),
    ("agenerate_content", {"cachedContent": "x"}, "`cachedContent`"),
    ("aresponses", {"tools": [{"type": "web_search"}]}, "'web_search'"),
    ("aresponses", {"tools": [{"type": "function", "name": "f"}, {"type": "mcp"}]}, "'mcp'"),
    ("anthropic_messages", {"tools": [{"type": "web_search_20250305", "name": "w"}]}, "'web_search_20250305'"),
    ("agenerate_content", {"tools": [{"googleSearch": {}}]}, "'googleSearch'"),
    ("acompletion", {"tools": [{"type": "function", "function": {}, "googleSearch": {}}]}, "'googleSearch'"),
    ("acompletion", {"tools": [{"type": ["function"]}]}, "hosted tool"),
]  # fmt: skip


@pytest.mark.parametrize(("call_type", "data", "reason"), UNBOUNDED)
def test_what_cannot_be_bounded_is_refused(call_type: str, data: dict[str, Any], reason: str) -> None:
    with pytest.raises(BudgetAnswer) as refusal:
        bounded(data, ROUTES[call_type])

    assert refusal.value.to_dict()["code"] == "budget_unbounded"
    assert reason in refusal.value.message


OWN_TOOLS: list[dict[str, Any]] = [
    {"type": "function", "function": {"name": "f", "parameters": {}}},
    {"type": "function", "name": "f", "parameters": {}, "strict": True},
    {"name": "f", "description": "d", "input_schema": {}, "cache_control": {"type": "ephemeral"}},
    {"type": "custom", "name": "f", "format": {"type": "text"}},
    {"type": "custom", "custom": {"name": "f"}},
    {"functionDeclarations": [{"name": "f"}]},
]


@pytest.mark.parametrize("tool", OWN_TOOLS)
def test_tools_of_the_client_are_bounded(tool: dict[str, Any]) -> None:
    assert bounded(request(tools=[tool])).cap is not None


@given(
    left=st.integers(0, 10**6),
    used=st.integers(0, 10**6),
    cap=st.none() | st.integers(-5, 10**10),
    n=st.none() | st.integers(-2, 200),
    text=st.text(max_size=200),
    weight=st.decimals("0.001", "100", places=3),
)
def test_a_bound_fits_or_is_refused_and_no_cap_is_raised(
    left: int, used: int, cap: int | None, n: int | None, text: str, weight: Decimal
) -> None:
    data = request(messages=[{"role": "user", "content": text}], max_tokens=cap, n=n)
    of: Standing = standing(limit(hard=left), used=used)

    found = bound(data, CHAT, shape_of(data, CHAT), [of], (weight, CEILINGS))
    assert found.cap is not None
    write_cap(data, CHAT, found.cap)

    remaining = max(0, left - used)
    fits = weighted(found.estimate.total, weight) <= remaining
    smallest = found.estimate.prompt + found.shape.choices
    assert fits == (weighted(smallest, weight) <= remaining)
    assert data["max_tokens"] * found.shape.choices <= found.estimate.completion
    assert cap is None or cap <= 0 or cap >= 10**9 or data["max_tokens"] <= cap
