"""The end of a call, once: which of LiteLLM's signals says that it is over, and what it is charged.

A success settles, and overrides an earlier failed attempt. A failure event may be followed by a success (retries,
fallbacks), so it only leaves a note of what was spent; `async_post_call_failure_hook` says that the request is over.
Some streams end without any signal: their request task's end is watched instead, and what was delivered is charged.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Any

from owui_budget.domain.charge import Usage, weighted
from owui_budget.domain.estimate import BYTES_PER_TOKEN, expected
from owui_budget.ledger.protocol import Ending, Settlement
from owui_budget.limits_file import CacheHits, Limits
from owui_budget_hooks import metrics
from owui_budget_hooks.gate import Gate
from owui_budget_hooks.inflight import InFlight, Registry
from owui_budget_hooks.learning import TypicalCompletion
from owui_budget_hooks.models import serving_model
from owui_budget_hooks.outcome import Event
from owui_budget_hooks.routes import ROUTES

log = logging.getLogger("owui_budget.ending")


class Ender:
    """Ends calls. Every write runs in a task that is held here, so that a shutdown can wait for it."""

    def __init__(self, limits: Limits, gate: Gate, registry: Registry, typical: TypicalCompletion) -> None:
        """Connect the rooms."""
        self._limits = limits
        self._gate = gate
        self._registry = registry
        self._typical = typical
        self._writes: set[asyncio.Task[None]] = set()

    def succeeded(self, call: InFlight, event: Event) -> None:
        """Settle by a success event."""
        if not _is_about(call, event) or not self._registry.end(call):
            return
        usage = event.usage if event.usage.total else self._missing(call, event)
        ending = Ending.CACHE_HIT if event.cache_hit else Ending.COMPLETED
        if call.stream_cut and not event.cache_hit:
            ending = Ending.PARTIAL
        if ending is Ending.COMPLETED and call.route.generates and not usage.estimated:
            self._typical.learn(call.call.model, usage.completion // max(1, call.shape.choices))
        self._settle(call, usage, event.model, ending)

    def attempt_failed(self, call: InFlight, event: Event) -> None:
        """Note what a failed attempt is known to have spent. The request may still succeed."""
        if call.ended or not _is_about(call, event):
            return
        call.failed = True
        if event.usage.total:
            call.partial, call.partial_model = event.usage, event.model

    def never_ran(self, call: InFlight) -> None:
        """End a call that was stopped before it reached a provider."""
        if self._registry.end(call):
            self._release(call)

    def failed(self, call: InFlight, *, left: bool = False) -> None:
        """End a call whose request has failed for good; `left`: because its client went away before the answer."""
        if self._registry.end(call):
            call.stream_cut = call.stream_cut or left
            # Without an event of its own a plain call has failed before it reached a provider (a guardrail, say).
            call.failed = not left and (call.failed or not call.streaming)
            self._end_without_success(call)

    def vanished(self, call: InFlight) -> None:
        """End a call whose request is over and of which no signal has come."""
        if self._registry.end(call):
            log.info("a call to %s ended without a signal; charging what is known of it", call.route.name)
            self._end_without_success(call)

    def _end_without_success(self, call: InFlight) -> None:
        partial = call.partial
        if partial is None and call.delivered:
            partial = Usage(prompt=self._prompt(call), completion=call.delivered_tokens, estimated=True)
        if partial is None and not call.failed:
            # Cut off before anything was delivered: the provider has read the prompt, and where it was not streaming
            # it may have written the whole answer.
            completion = 0 if call.streaming else call.estimate.completion
            partial = Usage(prompt=self._prompt(call), completion=completion, estimated=True)
        if partial is None:
            self._release(call)
            return
        ending = Ending.FAILED if call.failed else Ending.PARTIAL
        self._settle(call, partial, call.partial_model or "", ending)

    def _missing(self, call: InFlight, event: Event) -> Usage:
        """Fill in for a provider that reported no usage: estimate where the route has tokens."""
        if not call.route.estimates_missing:
            return Usage()
        completion = 0
        if call.route.generates:
            completion = max(-(-event.answer_bytes // BYTES_PER_TOKEN), call.delivered_tokens)
        return Usage(prompt=self._prompt(call), completion=completion, estimated=True)

    def _prompt(self, call: InFlight) -> int:
        """Return the likely prompt tokens: what strict admission holds is a bound, several times as many."""
        return expected(call.shape, self._limits.estimate.ceilings, 0, 0).prompt

    def _settle(self, call: InFlight, usage: Usage, answered: str, ending: Ending) -> None:
        model = answered or serving_model(call.call.model)
        weight = self._limits.model_weights.of(model)
        charge = weighted(usage.total, weight)
        if not usage.total:
            charge = weighted(self._limits.route_charges.get(call.route.name, 0), weight)
        if ending is Ending.CACHE_HIT and self._limits.cache_hits is CacheHits.FREE:
            charge = 0
        settlement = Settlement(
            reservation_id=call.id,
            call=call.call,
            counters=call.counters,
            admitted_at=call.admitted_at,
            usage=usage,
            model=model,
            weight=weight,
            charge=charge,
            ending=ending,
        )
        metrics.ENDS.labels(route=call.route.name, ending=ending).inc()
        metrics.TOKENS.labels(route=call.route.name, kind=call.call.kind).inc(charge)
        self._write(lambda: self._gate.settle(settlement))

    def _release(self, call: InFlight) -> None:
        metrics.ENDS.labels(route=call.route.name, ending="released").inc()
        if call.held:
            self._write(lambda: self._gate.release(call.id))

    def _write(self, write: Callable[[], Any]) -> None:
        task = asyncio.get_running_loop().create_task(write(), name="owui-budget end of call")
        self._writes.add(task)
        task.add_done_callback(self._written)

    def _written(self, task: "asyncio.Task[None]") -> None:
        self._writes.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            log.error("the end of a call was not written; its lease will charge the estimate", exc_info=error)

    async def drain(self, seconds: float) -> int:
        """Wait for all writes under way, at most `seconds`; return how many are left."""
        if self._writes:
            await asyncio.wait(set(self._writes), timeout=seconds)
        return len(self._writes)


def _is_about(call: InFlight, event: Event) -> bool:
    """Whether an event tells of `call`, not of one that LiteLLM made for it (a tool list, a cache's embedding)."""
    route = ROUTES.get(event.call_type)
    return not event.is_nested and (route is None or route.generates == call.route.generates)
