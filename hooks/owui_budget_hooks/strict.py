"""Strict admission: bound a call before it runs, and lower its completion cap to what remains.

The promise, no token over a hard limit, holds while the provider honours its cap.
"""

from collections.abc import MutableMapping, Sequence
from dataclasses import replace
from decimal import Decimal
from typing import Any

from owui_budget.domain.decisions import Standing
from owui_budget.domain.estimate import Ceilings, Estimate, Shape, fitting_cap, prompt_bound
from owui_budget_hooks import answers
from owui_budget_hooks.routes import Route

_ELSEWHERE = ("previous_response_id", "conversation", "prompt_id", "file_ids", "container", "web_search_options")
"""Fields that add to the prompt what the request does not show."""


def bound(
    data: MutableMapping[str, Any],
    route: Route,
    shape: Shape,
    standings: Sequence[Standing],
    prices: tuple[Decimal, Ceilings],
) -> tuple[Shape, Estimate]:
    """Return the request's shape with its cap in place, and the bound to reserve; writes the cap into `data`.

    Raises:
        BudgetAnswer: 400 `budget_unbounded`, naming what cannot be bounded.

    """
    weight, ceilings = prices
    _refuse_unbounded(data, route)
    prompt = prompt_bound(shape, ceilings)
    if not route.generates:
        return shape, Estimate(prompt, 0)
    if not route.caps:
        raise answers.unbounded(f"Calls to {route.name} have no cap on their answer, so strict budgets refuse them.")
    remaining = min((each.remaining for each in standings if each.remaining is not None), default=None)
    if remaining is None:
        # Only soft limits: nothing to keep under, so the client's own cap (or none) stays.
        return shape, Estimate(prompt, (shape.cap or 0) * shape.choices)
    cap = fitting_cap(shape, ceilings, int(remaining / weight))
    if cap is None:
        # Nothing fits. Reserve decides: its refusal names the limit and what is left of it.
        return shape, Estimate(prompt, max(1, shape.cap or 1) * shape.choices)
    _write_cap(data, route, cap)
    return replace(shape, cap=cap), Estimate(prompt, cap * shape.choices)


def _refuse_unbounded(data: MutableMapping[str, Any], route: Route) -> None:
    if not route.bounded:
        raise answers.unbounded(
            f"The tokens of a call to {route.name} cannot be bounded beforehand, so strict budgets refuse it."
            " Use a model of weight 0, or ask the operator about `admission: last_request`."
        )
    for field in _ELSEWHERE:
        if data.get(field):
            raise answers.unbounded(
                f"`{field}` adds to the prompt what the request does not show, so its tokens cannot be bounded."
                " Send the conversation in the request itself."
            )
    tools = data.get("tools")
    if isinstance(tools, list):
        hosted = [str(tool.get("type")) for tool in tools if isinstance(tool, dict) and tool.get("type") not in _OWN]
        if hosted:
            raise answers.unbounded(
                f"The hosted tool {hosted[0]!r} adds tokens the request does not show. Use function tools only."
            )


_OWN = (None, "function", "custom")


def _write_cap(data: MutableMapping[str, Any], route: Route, cap: int) -> None:
    holder: MutableMapping[str, Any] = data
    if route.name == "generate_content":
        nested = next((data[name] for name in ("generationConfig", "config") if isinstance(data.get(name), dict)), None)
        holder = nested if nested is not None else data.setdefault("generationConfig", {})
    given = [name for name in route.caps if holder.get(name) is not None]
    for name in given or route.caps[:1]:
        holder[name] = cap
