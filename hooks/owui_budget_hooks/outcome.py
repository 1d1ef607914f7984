"""What a call took, read from LiteLLM's end events; the border where their dictionaries become values.

Where each number is found, and where there is none, was measured on every route: see docs/routes.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from owui_budget.domain.charge import Usage
from owui_budget_hooks.models import serving_model
from owui_budget_hooks.routes import NESTED_CALL_TYPES


@dataclass(frozen=True, slots=True)
class Event:
    """A success or failure event, reduced to what accounting needs."""

    usage: Usage
    model: str
    """The model that answered, by LiteLLM's own name; empty where the event names only the provider's."""
    cache_hit: bool
    call_type: str
    answer_bytes: int
    """UTF-8 bytes of the answer's text, for providers that report no usage."""

    @property
    def is_nested(self) -> bool:
        """Whether the event belongs to a call made inside the admitted one."""
        return self.call_type in NESTED_CALL_TYPES


def read_event(kwargs: Mapping[str, Any], response: Any) -> Event:
    """Read an event. Fields that are missing or of odd types count as 0: the caller estimates where all are."""
    payload = kwargs.get("standard_logging_object")
    record: Mapping[str, Any] = payload if isinstance(payload, Mapping) else {}
    return Event(
        usage=_usage(record, response),
        model=serving_model(str(record.get("model_group") or "")),
        cache_hit=record.get("cache_hit") is True or kwargs.get("cache_hit") is True,
        call_type=str(record.get("call_type") or kwargs.get("call_type") or ""),
        answer_bytes=_answer_bytes(kwargs, response),
    )


def _usage(record: Mapping[str, Any], response: Any) -> Usage:
    prompt = _count(record.get("prompt_tokens"))
    completion = _count(record.get("completion_tokens"))
    if not prompt and not completion:
        prompt, completion = _rerank_tokens(response)
    reported = _field(response, "usage")
    return Usage(
        prompt=prompt,
        completion=completion,
        cached=min(prompt, _detail(reported, ("prompt_tokens_details", "input_tokens_details"), "cached_tokens")),
        reasoning=min(
            completion, _detail(reported, ("completion_tokens_details", "output_tokens_details"), "reasoning_tokens")
        ),
    )


def _rerank_tokens(response: Any) -> tuple[int, int]:
    """Rerankers report their tokens in `meta`, which LiteLLM does not count."""
    meta = _field(response, "meta")
    tokens, billed = _field(meta, "tokens"), _field(meta, "billed_units")
    given = _count(_field(tokens, "input_tokens")) or _count(_field(billed, "total_tokens"))
    return given, _count(_field(tokens, "output_tokens"))


def _detail(usage: Any, groups: tuple[str, ...], name: str) -> int:
    return max((_count(_field(_field(usage, group), name)) for group in groups), default=0)


def _field(holder: Any, name: str) -> Any:
    if isinstance(holder, Mapping):
        return holder.get(name)
    return getattr(holder, name, None)


def _count(value: Any) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def _answer_bytes(kwargs: Mapping[str, Any], response: Any) -> int:
    complete = kwargs.get("async_complete_streaming_response") or response
    total = 0
    for choice in _field(complete, "choices") or []:
        message = _field(choice, "message")
        for text in (_field(message, "content"), _field(message, "reasoning_content"), _field(choice, "text")):
            total += len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
        for call in _field(message, "tool_calls") or []:
            arguments = _field(_field(call, "function"), "arguments")
            total += len(arguments) if isinstance(arguments, str) else 0
    for item in _field(complete, "output") or []:
        for part in _field(item, "content") or []:
            text = _field(part, "text")
            total += len(text.encode("utf-8", "surrogatepass")) if isinstance(text, str) else 0
    return total
