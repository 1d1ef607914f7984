from collections.abc import Callable
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest
from kit import request

from owui_budget.domain.charge import Weights
from owui_budget_hooks.models import models_that_may_answer, serving_model


class Router:
    """The part of LiteLLM's router that is asked."""

    def __init__(self, **settings: Any) -> None:
        self.model_names = {"free", "paid", "gpt-5"}
        self.model_group_alias: dict[str, Any] = {"cheap": "gpt-5", "hidden": {"model": "paid", "hidden": True}}
        self.fallbacks: Any = None
        self.context_window_fallbacks: Any = None
        self.content_policy_fallbacks: Any = None
        vars(self).update(settings)

    def get_deployment(self, model_id: str) -> SimpleNamespace | None:
        return SimpleNamespace(model_name="gpt-5") if model_id == "8026d3926531" else None


CASES: list[tuple[dict[str, Any], str, set[str]]] = [
    ({}, "free", {"free"}),
    ({"fallbacks": [{"free": ["paid"]}]}, "free", {"free", "paid"}),
    ({"context_window_fallbacks": [{"free": ["paid"]}]}, "free", {"free", "paid"}),
    ({"content_policy_fallbacks": [{"free": ["paid"]}]}, "free", {"free", "paid"}),
    ({"fallbacks": [{"*": ["paid"]}]}, "free", {"free", "paid"}),
    ({"fallbacks": [{"other": ["paid"]}]}, "free", {"free"}),
    # Fallbacks of fallbacks are followed, circles once.
    ({"fallbacks": [{"free": ["a"]}, {"a": ["b"]}, {"b": ["free", "paid"]}]}, "free", {"free", "a", "b", "paid"}),
    ({"fallbacks": [{"free": [{"model": "paid", "messages": []}]}]}, "free", {"free", "paid"}),
    ({}, "cheap", {"cheap", "gpt-5"}),
    ({"fallbacks": [{"gpt-5": ["paid"]}]}, "cheap", {"cheap", "gpt-5", "paid"}),
    ({"fallbacks": [{"free": ["cheap"]}]}, "free", {"free", "cheap", "gpt-5"}),
    ({}, "hidden", {"hidden", "paid"}),
    ({}, "8026d3926531", {"8026d3926531", "gpt-5"}),
    ({}, "openai/anything", {"openai/anything"}),
    ({"fallbacks": "odd"}, "free", {"free"}),
    ({"fallbacks": [None, "odd", {"free": None}, {"free": 7}, {"free": [7]}]}, "free", {"free"}),
    ({"model_group_alias": None}, "cheap", {"cheap"}),
]  # fmt: skip


@pytest.mark.parametrize(("settings", "model", "expected"), CASES)
def test_every_model_that_may_answer_is_known(
    router: Callable[[object], None], settings: dict[str, Any], model: str, expected: set[str]
) -> None:
    router(Router(**settings))

    assert models_that_may_answer(request(model=model)) == expected


def test_fallbacks_of_a_key_or_team_count(router: Callable[[object], None]) -> None:
    router(Router())
    data = request(model="free")
    data["router_settings_override"] = {"fallbacks": [{"free": ["paid"]}]}

    assert models_that_may_answer(data) == {"free", "paid"}


def test_a_call_is_free_only_if_every_answer_would_be(router: Callable[[object], None]) -> None:
    router(Router(fallbacks=[{"free": ["paid"]}]))
    weights = Weights({"free": Decimal(0)})

    assert weights.heaviest(models_that_may_answer(request(model="free"))) == 1


@pytest.mark.parametrize("model", [None, "", 7, ["a"]])
def test_no_model_and_no_router_are_no_error(model: object) -> None:
    assert len(models_that_may_answer({"model": model})) == 1
    assert serving_model("") == ""


def test_weights_follow_the_model_behind_a_name(router: Callable[[object], None]) -> None:
    router(Router())

    assert [serving_model(name) for name in ("gpt-5", "cheap", "hidden", "8026d3926531", "openai/x")] == [
        "gpt-5", "gpt-5", "paid", "gpt-5", "openai/x"
    ]  # fmt: skip
