"""What the rooms of one HTTP request leave for its end; `request_scope` makes it and looks at it last."""

from contextvars import ContextVar
from dataclasses import dataclass, field

from owui_budget_hooks.answers import BudgetAnswer


@dataclass(slots=True, eq=False)
class HttpRequest:
    """One request from its first byte to its last."""

    call_ids: list[str] = field(default_factory=list)
    """The calls admitted for it: LiteLLM may admit twice where another limiter rejects the first try."""
    answer: BudgetAnswer | None = None
    """The refusal to send in place of whatever LiteLLM makes of it."""
    headers: dict[str, str] = field(default_factory=dict)
    """Headers for a success, where LiteLLM's own hook is not called."""
    over: bool = False


_current: ContextVar[HttpRequest | None] = ContextVar("owui_budget_request", default=None)


def current_request() -> HttpRequest | None:
    """Return the request of this context; None where the wrapper is not installed."""
    return _current.get()


def begin_request() -> HttpRequest:
    """Make a new request the current one: every task that serves it inherits it."""
    request = HttpRequest()
    _current.set(request)
    return request
