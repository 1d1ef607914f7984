"""Strict admission: bound a call before it runs, and lower its completion cap to what remains.

The promise, no token over a hard limit, holds while the provider honours its cap.
"""

from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any

from owui_budget.domain.decisions import Standing
from owui_budget.domain.estimate import Ceilings, Estimate, Shape, fitting_cap, prompt_bound
from owui_budget_hooks import answers
from owui_budget_hooks.routes import Route
from owui_budget_hooks.shape import cap_holders, positive

_ELSEWHERE = (
    "previous_response_id",
    "conversation",
    "prompt_id",
    "file_ids",
    "vector_store_ids",
    "container",
    "mcp_servers",
    "web_search_options",
    "cachedContent",
    "cached_content",
    "extra_body",
)
"""Fields that add to the prompt what the request does not show, or change what it shows."""
_MEANT_EVEN_EMPTY = frozenset({"web_search_options"})
"""An empty object turns the search on, with its defaults."""


@dataclass(frozen=True, slots=True)
class Bound:
    """A call that cannot take more than `estimate`, once `cap` is written into it."""

    shape: Shape
    estimate: Estimate
    cap: int | None
    """Completion tokens for one choice; None where the request stays as it is."""


def bound(
    data: Mapping[str, Any], route: Route, shape: Shape, standings: Sequence[Standing], prices: tuple[Decimal, Ceilings]
) -> Bound:
    """Return what to reserve for a call. The caller writes the cap once the reservation is held.

    Raises:
        BudgetAnswer: 400 `budget_unbounded`, naming what cannot be bounded.

    """
    weight, ceilings = prices
    _refuse_unbounded(data, route)
    prompt = prompt_bound(shape, ceilings)
    if not route.generates:
        return Bound(shape, Estimate(prompt, 0), None)
    if not route.caps:
        raise answers.unbounded(f"Calls to {route.name} have no cap on their answer, so strict budgets refuse them.")
    remaining = min((each.remaining for each in standings if each.remaining is not None), default=None)
    if remaining is None:
        # Only soft limits: nothing to keep under, so the client's own cap (or none) stays.
        return Bound(shape, Estimate(prompt, (shape.cap or 0) * shape.choices), None)
    # Where nothing fits, reserve decides: its refusal names the limit and what is left of it. Should room have come
    # free by then, the call runs under the cap that was reserved for.
    cap = fitting_cap(shape, ceilings, int(remaining / weight)) or max(1, shape.cap or 1)
    return Bound(replace(shape, cap=cap), Estimate(prompt, cap * shape.choices), cap)


def write_cap(data: MutableMapping[str, Any], route: Route, cap: int) -> None:
    """Lower every cap the client set to `cap`, or set the route's own where there is none. Nothing is raised."""
    holders = cap_holders(data, route) or [data.setdefault("generationConfig", {})]
    given = [(holder, name) for holder in holders for name in route.caps if holder.get(name) is not None]
    for holder, name in given or [(holder, route.caps[0]) for holder in holders]:
        holder[name] = min(cap, positive(holder.get(name)) or cap)


def _refuse_unbounded(data: Mapping[str, Any], route: Route) -> None:
    if not route.bounded:
        raise answers.unbounded(
            f"The tokens of a call to {route.name} cannot be bounded beforehand, so strict budgets refuse it."
            " Use a model of weight 0, or ask the operator about `admission: last_request`."
        )
    for field in _ELSEWHERE:
        if data.get(field) or (field in _MEANT_EVEN_EMPTY and isinstance(data.get(field), Mapping)):
            raise answers.unbounded(
                f"`{field}` adds to the prompt what the request does not show, so its tokens cannot be bounded."
                " Send the conversation in the request itself."
            )
    if route.name == "responses" and data.get("prompt"):
        raise answers.unbounded("`prompt` names a stored prompt, whose tokens cannot be bounded. Send it as `input`.")
    tools = data.get("tools")
    hosted = next((name for tool in tools if (name := _hosted(tool))), None) if isinstance(tools, list) else None
    if hosted:
        raise answers.unbounded(
            f"The hosted tool {hosted!r} adds tokens the request does not show. Use function tools only."
        )


_OWN_TYPES = (None, "function", "custom")
_OWN_KEYS = frozenset(
    {
        "type",
        "function",
        "functionDeclarations",
        "function_declarations",
        "name",
        "description",
        "parameters",
        "input_schema",
        "strict",
        "custom",
        "defer_loading",
        "input_examples",
        "format",
        "cache_control",
    }
)


def _hosted(tool: Any) -> str | None:
    """Name the tool if a provider runs it; tools the client runs itself show all their tokens."""
    if not isinstance(tool, Mapping):
        return None
    if tool.get("type") not in _OWN_TYPES:
        return str(tool.get("type"))[:40]
    # Gemini's hosted tools have no type: {"googleSearch": {}}.
    return next((str(key)[:40] for key in tool if key not in _OWN_KEYS), None)
