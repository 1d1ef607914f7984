"""The errors LiteLLM sends for us, byte for byte.

A subclass of `ProxyException` with its own `to_dict` is the one form whose body and headers LiteLLM leaves alone on
most routes; `request_scope` sends it whole on the others. `/v1/messages` has Anthropic's envelope around it.
"""

from typing import Any
from zoneinfo import ZoneInfo

from litellm.proxy._types import ProxyException

from owui_budget import wording
from owui_budget.domain.decisions import Refused, Standing
from owui_budget_hooks import headers

_HELD_RETRY_SECONDS = 5
"""When calls still running hold the rest, their end may free some of it long before the reset."""


class BudgetAnswer(ProxyException):
    """An answer in OpenAI's error shape, with our own `code` and extra fields."""

    def __init__(
        self,
        status: int,
        message: str,
        error_type: str,
        error_code: str,
        *,
        headers: dict[str, str] | None = None,
        extra: dict[str, Any] | None = None,
        param: str | None = None,
    ) -> None:
        """Build the answer; `extra` goes into the error object beside the standard four fields."""
        super().__init__(message=message, type=error_type, param=param, code=status, headers=headers or {})
        # Routes that wrap errors anew (transcriptions) take the status from here; without it they answer 500.
        self.status_code = status
        self._error_code = error_code
        self._extra = extra or {}

    def to_dict(self) -> dict[str, Any]:
        """Return the error object LiteLLM puts under `error`."""
        return {
            "message": self.message,
            "type": self.type,
            "param": self.param,
            "code": self._error_code,
            **self._extra,
        }


class BudgetExceeded(BudgetAnswer):
    """429: a hard limit is reached."""

    def __init__(self, decision: Refused, now: float, zone: ZoneInfo, contact: str | None) -> None:
        """Say it all in the message; the body repeats it for programs."""
        blocking = decision.blocking
        only_held = blocking.past_hard and blocking.used < (blocking.limit.bounds.hard or 0)
        retry = headers.retry_after(blocking, now)
        super().__init__(
            429,
            wording.refusal(blocking, now, zone, contact),
            "insufficient_quota",
            "budget_exceeded",
            headers={
                **headers.render(decision, now, zone),
                "Retry-After": str(min(retry, _HELD_RETRY_SECONDS) if only_held else retry),
                "X-Should-Retry": "false",
            },
            extra={"budget": _budget(blocking, zone)},
        )


def _budget(standing: Standing, zone: ZoneInfo) -> dict[str, Any]:
    limit = standing.limit
    return {
        "window": limit.window.value,
        "scope": limit.scope.value,
        "group": limit.group_name,
        "limit": limit.bounds.hard,
        "used": standing.used,
        "remaining": standing.remaining or 0,
        "resets_at": wording.iso(standing.span.end, zone),
    }


def identity_refused(reason: str) -> BudgetAnswer:
    """401: the connection key came without proof of its user."""
    return BudgetAnswer(
        401,
        f"This key belongs to an Open WebUI connection, and the call does not prove its user: {reason}.",
        "invalid_request_error",
        "budget_identity_refused",
    )


def request_refused(message: str, param: str | None, code: str = "budget_unsupported_request") -> BudgetAnswer:
    """400: the request would escape the count; the message names the field and the way out."""
    return BudgetAnswer(400, message, "invalid_request_error", code, param=param)


def unbounded(message: str) -> BudgetAnswer:
    """400: strict admission cannot bound this call."""
    return request_refused(message, None, "budget_unbounded")


def unavailable(retry_seconds: int, message: str) -> BudgetAnswer:
    """503: the ledger cannot be asked and the policy is closed."""
    return BudgetAnswer(
        503, message, "server_error", "budget_unavailable", headers={"Retry-After": str(max(1, retry_seconds))}
    )
