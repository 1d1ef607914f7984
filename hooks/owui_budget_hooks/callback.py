# ruff: noqa: ARG002 - the signatures of all hooks are LiteLLM's
"""The object LiteLLM registers: `litellm_settings.callbacks: [owui_budget_hooks.callback.budget]`, last in its list.

Every hook is defined on the registered class itself: LiteLLM looks into `vars(type(callback))` and silently skips
inherited ones (a start-up check proves that ours are seen). Each method reads like the walk it is part of.
"""

import asyncio
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from litellm.integrations.custom_logger import CustomLogger
from litellm.proxy._types import UserAPIKeyAuth

from owui_budget_hooks import answers, browser, headers, stream
from owui_budget_hooks.attribution import attribute
from owui_budget_hooks.http_request import HttpRequest, current_request
from owui_budget_hooks.inflight import METADATA_KEY, InFlight
from owui_budget_hooks.outcome import read_event
from owui_budget_hooks.request import metadata_of
from owui_budget_hooks.routes import NESTED_CALL_TYPES, RAW_CALL_TYPES, ROUTES
from owui_budget_hooks.runtime import Runtime, current_runtime

log = logging.getLogger("owui_budget.callback")


class BudgetCallback(CustomLogger):
    """Token budgets: admit, count, warn, refuse."""

    async def async_pre_call_hook(
        self,
        user_api_key_dict: UserAPIKeyAuth,
        cache: Any,
        data: dict[str, Any],
        call_type: str,
    ) -> dict[str, Any]:
        """Admit the request, or raise the answer that refuses it."""
        runtime = await current_runtime()
        if call_type in NESTED_CALL_TYPES:
            return data
        request = current_request()
        _end_rejected_try(runtime, data, call_type, request)
        runtime.registry.forget_current()
        try:
            runtime.refuse_if_unsafe()
            admitted = await runtime.admitter.admit(user_api_key_dict, data, call_type)
        except answers.BudgetAnswer as answer:
            if request is not None:
                request.answer = answer
            raise
        if admitted is None:
            return data
        call, identity = admitted
        runtime.registry.open(call)
        try:
            call.streaming = bool(data.get("stream")) or call_type.endswith("_stream")
            if call_type not in RAW_CALL_TYPES:
                _metadata(data)[METADATA_KEY] = call.id
            stream.ask_for_usage(data, call)
            if browser.is_browser_chat(data, call.route, identity.connection):
                await browser.prepare(data, call, runtime.notices)
            if request is not None:
                request.headers = headers.render(call.decision, runtime.now(), runtime.zone)
        except BaseException:  # whatever stopped the request after its admission: nothing was spent
            runtime.ender.never_ran(call)
            raise
        return data

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: UserAPIKeyAuth,
        response: Any,
        request_headers: dict[str, str] | None = None,
        litellm_call_info: dict[str, Any] | None = None,
    ) -> dict[str, str] | None:
        """Return the standing at admission as headers; on streams they leave before usage is known."""
        runtime = await current_runtime()
        call = _call_of(runtime, data)
        return headers.render(call.decision, runtime.now(), runtime.zone) if call else None

    def async_post_call_streaming_iterator_hook(
        self,
        user_api_key_dict: UserAPIKeyAuth,
        response: AsyncIterator[Any],
        request_data: dict[str, Any],
    ) -> AsyncGenerator[Any, None] | AsyncIterator[Any]:
        """Watch the stream's end, and put a due warning behind its first chunk."""
        runtime = Runtime.started()
        call = _call_of(runtime, request_data) if runtime else None
        if runtime is None or call is None:
            return response
        return stream.watch(call, response, runtime.notices)

    async def async_logging_hook(
        self, kwargs: dict[str, Any], result: Any, call_type: str
    ) -> tuple[dict[str, Any], Any]:
        """Name the deciding group's team, just before LiteLLM writes its spend: routing is over by then."""
        runtime = await current_runtime()
        call = _call_of(runtime, kwargs)
        if call is not None:
            attribute(kwargs, call, runtime.policy.policy)
        return kwargs, result

    async def async_log_success_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Settle the call."""
        runtime = await current_runtime()
        call = _call_of(runtime, kwargs)
        if call is not None:
            runtime.ender.succeeded(call, read_event(kwargs, response_obj))

    async def async_log_failure_event(
        self, kwargs: dict[str, Any], response_obj: Any, start_time: Any, end_time: Any
    ) -> None:
        """Note what a failed attempt has spent; the request may still succeed."""
        runtime = await current_runtime()
        call = _call_of(runtime, kwargs)
        if call is not None:
            runtime.ender.attempt_failed(call, read_event(kwargs, response_obj))

    async def async_post_call_failure_hook(
        self,
        request_data: dict[str, Any],
        original_exception: Exception,
        user_api_key_dict: UserAPIKeyAuth,
        traceback_str: str | None = None,
    ) -> None:
        """The request is over without success: charge what was spent, or give the hold back."""
        runtime = await current_runtime()
        call = _call_of(runtime, request_data)
        if call is not None:
            # A failure event with partial usage is logged in the background; let it come first.
            await asyncio.sleep(0)
            runtime.ender.failed(call, left=getattr(original_exception, "status_code", None) == _CLIENT_LEFT)


_CLIENT_LEFT = 499
"""What `cancel_on_disconnect` ends a call with; the provider may have finished the answer by then."""


def _end_rejected_try(runtime: Runtime, data: dict[str, Any], call_type: str, request: HttpRequest | None) -> None:
    """Give back what an earlier try of the same request holds.

    Where another limiter rejects a request after us and fallbacks are configured, LiteLLM runs these hooks again, for
    the same route. A call to another one is made for this request (a semantic index asks for an embedding): it goes on.
    """
    identifiers: list[object] = [metadata_of(data).get(METADATA_KEY)]
    if request is not None:
        identifiers += request.call_ids
        request.answer = None
    for identifier in identifiers:
        call = runtime.registry.find(identifier)
        if call is not None and call.route is ROUTES.get(call_type, call.route):
            runtime.ender.never_ran(call)


def _metadata(data: dict[str, Any]) -> dict[str, Any]:
    """Return LiteLLM's metadata of this route, creating it where there is none."""
    name = "litellm_metadata" if isinstance(data.get("litellm_metadata"), dict) else "metadata"
    bucket = data.get(name)
    if not isinstance(bucket, dict):
        bucket = data[name] = {}
    return bucket


def _call_of(runtime: Runtime, holder: dict[str, Any]) -> InFlight | None:
    """Find the call a hook is about: by the id in LiteLLM's metadata.

    The context serves only the routes on which LiteLLM may lose that metadata. Elsewhere an event without it belongs to
    a call that something made inside ours (a guardrail asking a model, say), which must not end it.
    """
    params = holder.get("litellm_params")
    for source in (holder, params if isinstance(params, dict) else {}):
        for name in ("metadata", "litellm_metadata"):
            bucket = source.get(name)
            if isinstance(bucket, dict) and (identifier := bucket.get(METADATA_KEY)):
                found = runtime.registry.find(identifier)
                if found is not None:
                    return found
    current = runtime.registry.current()
    return current if current is not None and current.route.by_context else None


budget = BudgetCallback()
