"""The walk of one request, from LiteLLM's pre-call hook to a held reservation or a clear refusal.

may it run at all → who is it → what is it → limits in force → estimate → reserve
"""

import logging
from collections.abc import Callable, MutableMapping
from dataclasses import dataclass, replace
from decimal import Decimal
from typing import Any
from uuid import uuid4

from litellm.proxy._types import UserAPIKeyAuth

from owui_budget.domain import estimate as estimates
from owui_budget.domain.charge import weighted
from owui_budget.domain.decisions import Admission, Refused, Standing
from owui_budget.domain.estimate import Estimate, Shape
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind, Subject
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce, Resolution
from owui_budget.domain.windows import Window
from owui_budget.errors import LedgerUnavailableError
from owui_budget.ledger.protocol import Admitted, Call, Declined, Ledger, Reserve, Stale
from owui_budget.limits_file import Limits, Ungoverned
from owui_budget_hooks import answers, metrics, strict, taming
from owui_budget_hooks.gate import Gate
from owui_budget_hooks.identify import Identifier, Identity
from owui_budget_hooks.inflight import InFlight
from owui_budget_hooks.learning import TypicalCompletion
from owui_budget_hooks.models import models_that_may_answer
from owui_budget_hooks.patience import patience
from owui_budget_hooks.policy_cache import PolicyCache
from owui_budget_hooks.request import headers_of
from owui_budget_hooks.routes import BATCH_CALL_TYPES, FREE_CALL_TYPES, RAW_CALL_TYPES, ROUTES, Route
from owui_budget_hooks.shape import shape_of

log = logging.getLogger("owui_budget.admission")

_POLICY_TRIES = 5
"""How often one admission follows a policy that changes under it before it gives up."""
_MODEL_LENGTH = 256
_UNKNOWN_ROUTE = Route("other", bounded=False, by_context=True)


@dataclass(frozen=True, slots=True)
class Plan:
    """What would be reserved for a request under the policy of `revision`."""

    revision: int
    resolution: Resolution
    counters: tuple[Counter, ...]
    limits: tuple[LimitInForce, ...]


class Admitter:
    """Admits requests, or refuses them with an answer that says why."""

    def __init__(
        self,
        limits: Limits,
        identifier: Identifier,
        policy: PolicyCache,
        ledger: Ledger,
        gate: Gate,
        typical: TypicalCompletion,
        now: Callable[[], float],
    ) -> None:
        """Connect the rooms; `now` is the ledger's time in epoch seconds."""
        self._limits = limits
        self._identifier = identifier
        self._policy = policy
        self._ledger = ledger
        self._gate = gate
        self._typical = typical
        self._now = now
        self._unknown_groups: tuple[int, frozenset[str]] = (-1, frozenset())

    async def admit(
        self, key: UserAPIKeyAuth, data: MutableMapping[str, Any], call_type: str
    ) -> tuple[InFlight, Identity] | None:
        """Admit one request; None for call types that spend nothing.

        Raises:
            BudgetAnswer: the request is refused (400, 401, 429 or 503).

        """
        if call_type in FREE_CALL_TYPES:
            taming.tame(data)
            return None
        route = ROUTES.get(call_type, _UNKNOWN_ROUTE)
        try:
            # The data of a raw call is the client's own body, so headers found in it are the client's invention.
            headers = {} if call_type in RAW_CALL_TYPES else headers_of(data)
            identity = await self._identifier.identify(key, headers, ROUTES.get(call_type))
        except LedgerUnavailableError:
            # Memberships ride on the request except on a few routes and on users' own keys. Without them nobody can say
            # whose limits hold, so not even `on_ledger_error: open` admits these.
            raise answers.unavailable(
                10, "Group memberships cannot be read at the moment. Try again shortly."
            ) from None
        taming.refuse_multiples(data)
        taming.tame(data)
        call = self._call(identity, route, call_type, data)
        shape = shape_of(data, route)
        weight = self._limits.model_weights.heaviest(models_that_may_answer(data))
        in_flight = await self._admit(identity, call, data, call_type, (route, shape, weight))
        metrics.CALLS.labels(route=route.name, kind=call.kind, decision=type(in_flight.decision).__name__.lower()).inc()
        return in_flight, identity

    def _call(self, identity: Identity, route: Route, call_type: str, data: MutableMapping[str, Any]) -> Call:
        subject = identity.subject
        if subject.caller is Caller.OPENWEBUI and identity.connection is not None:
            kind = identity.connection.kind
        elif subject.caller is Caller.SERVICE:
            kind = Kind.SERVICE
        else:
            kind = Kind.API
        return Call(
            caller=subject.caller,
            kind=kind,
            route=route.name if route is not _UNKNOWN_ROUTE else call_type,
            model=_recorded(data.get("model")),
            user_id=subject.user_id,
            service_id=subject.service_id,
        )

    async def _admit(
        self,
        identity: Identity,
        call: Call,
        data: MutableMapping[str, Any],
        call_type: str,
        measured: tuple[Route, Shape, Decimal],
    ) -> InFlight:
        for _ in range(_POLICY_TRIES):
            plan = await self._plan(identity.subject)
            self._refuse_ungoverned(plan, call_type)
            placed = _placed(call, plan)
            if self._within_task_allowance(identity):
                admitted = await self._reserve_task(placed, plan.revision, data, measured)
                if isinstance(admitted, InFlight):
                    return admitted
                if isinstance(admitted, Stale):
                    await self._follow(admitted)
                    continue
            outcome = await self._reserve(placed, plan, data, measured)
            if isinstance(outcome, InFlight):
                return outcome
            if isinstance(outcome, Refused):
                metrics.CALLS.labels(route=placed.route, kind=placed.kind, decision="refused").inc()
                raise answers.BudgetExceeded(outcome, self._now(), self._limits.zone, self._limits.contact)
            await self._follow(outcome)
        raise answers.unavailable(1, "The limits are being changed at the moment. Try again.")

    async def _plan(self, subject: Subject) -> Plan:
        resolution = self._policy.policy.resolve(subject)
        if resolution.unknown_group_ids and self._is_news(resolution.unknown_group_ids):
            await self._reload_for(resolution.unknown_group_ids)
            resolution = self._policy.policy.resolve(subject)
        own = _own_counter(subject)
        counters = {own, *(limit.counter for limit in resolution.limits)} if own else set(_pools(resolution))
        ordered = tuple(sorted(counters, key=lambda each: each.lock_position))
        return Plan(self._policy.revision, resolution, ordered, resolution.limits)

    def _is_news(self, group_ids: frozenset[str]) -> bool:
        revision, known = self._unknown_groups
        return revision != self._policy.revision or not group_ids <= known

    async def _reload_for(self, group_ids: frozenset[str]) -> None:
        """Look once per revision for a group the snapshot lacks: it may just have been made."""
        try:
            await self._policy.reload()
        except LedgerUnavailableError as error:
            log.warning("unknown group ids, and the policy cannot be read: %s", error)
        revision, known = self._unknown_groups
        same = known if revision == self._policy.revision else frozenset[str]()
        self._unknown_groups = (self._policy.revision, same | group_ids)

    async def _follow(self, stale: Stale) -> None:
        log.info("policy moved from revision %d to %d", self._policy.revision, stale.revision)
        try:
            await self._policy.reload()
        except LedgerUnavailableError:
            raise answers.unavailable(5, "The limits have changed and cannot be read yet. Try again shortly.") from None

    def _refuse_ungoverned(self, plan: Plan, call_type: str) -> None:
        """Refuse, for limited users, what nobody has shown to be counted."""
        if not plan.limits:
            return
        if call_type in BATCH_CALL_TYPES and self._limits.batches is Ungoverned.REFUSE:
            raise answers.request_refused(
                "Batches cannot be counted against a token budget, so they are not available to users with limits."
                " The operator can allow them with `batches: allow`.",
                None,
            )
        if call_type not in ROUTES and call_type not in BATCH_CALL_TYPES:
            if self._limits.ungoverned is Ungoverned.ALLOW:
                return
            raise answers.request_refused(
                f"Calls of type {call_type!r} cannot be counted against a token budget, so they are not available to"
                " users with limits. The operator can allow them with `ungoverned: allow`.",
                None,
            )

    def _within_task_allowance(self, identity: Identity) -> bool:
        connection = identity.connection
        return (
            connection is not None
            and connection.kind is Kind.TASK
            and connection.task in self._limits.tasks
            and self._limits.task_allowance > 0
            and identity.subject.user_id is not None
        )

    async def _reserve_task(
        self, call: Call, revision: int, data: MutableMapping[str, Any], measured: tuple[Route, Shape, Decimal]
    ) -> InFlight | Refused | Stale:
        """Try the user's allowance for background tasks, a counter reserved like any other."""
        counter = Counter(CounterKind.TASK, call.user_id or "")
        allowance = LimitInForce(
            Scope.MEMBER, Window.DAILY, Bounds(hard=self._limits.task_allowance), counter, group_name=None
        )
        # The group attribution stays, the pools do not: within the allowance a task counts nowhere else.
        task = replace(call, pool_group_ids=())
        plan = Plan(revision, Resolution(), (counter,), (allowance,))
        outcome = await self._reserve(task, plan, data, measured)
        if isinstance(outcome, InFlight):
            # The allowance is no limit a user has heard of: nothing is said about it.
            outcome.decision = replace(outcome.decision, standings=())
        return outcome

    async def _reserve(
        self, call: Call, plan: Plan, data: MutableMapping[str, Any], measured: tuple[Route, Shape, Decimal]
    ) -> InFlight | Refused | Stale:
        route, shape, weight = measured
        # A free call is never refused, and still recorded; its counters are named, so that a charge by another
        # model that answered in the end finds its place.
        limits = plan.limits if weight else ()
        cap = None
        if limits and self._limits.admission is Admission.STRICT:
            standings = await self._standings(limits)
            bound = strict.bound(data, route, shape, standings, (weight, self._limits.estimate.ceilings))
            shape, estimate, cap = bound.shape, bound.estimate, bound.cap
        else:
            estimate = self._expected(call.model, shape)
        request = Reserve(
            id=uuid4().hex,
            call=call,
            counters=plan.counters,
            limits=limits,
            estimate=weighted(estimate.total, weight),
            admission=self._limits.admission,
            revision=plan.revision,
        )
        outcome, held = await self._gate.reserve(request)
        match outcome:
            case Admitted():
                if cap is not None:
                    strict.write_cap(data, route, cap)
                return InFlight(
                    route=route,
                    call=call,
                    counters=plan.counters,
                    admitted_at=outcome.admitted_at,
                    decision=outcome.decision,
                    estimate=estimate,
                    shape=shape,
                    weight=weight,
                    held=held,
                    id=request.id,
                )
            case Declined(decision=Refused() as refused):
                return refused
            case Stale():
                return outcome
            case _:
                msg = f"the ledger declined without a refusal: {outcome!r}"
                raise AssertionError(msg)

    async def _standings(self, limits: tuple[LimitInForce, ...]) -> tuple[Standing, ...]:
        try:
            async with patience(self._limits.reserve_timeout):
                return await self._ledger.standings(limits)
        except (TimeoutError, LedgerUnavailableError):
            raise answers.unavailable(10, "Token budgets cannot be checked at the moment. Try again shortly.") from None

    def _expected(self, model: str, shape: Shape) -> Estimate:
        settings = self._limits.estimate
        return estimates.expected(shape, settings.ceilings, self._typical.of(model), settings.completion_ceiling)


def _recorded(model: object) -> str:
    """Return the model's name as it is recorded: a client may send megabytes, and characters no database takes."""
    return "".join(char if char.isprintable() else "?" for char in str(model or "")[:_MODEL_LENGTH])


def _own_counter(subject: Subject) -> Counter | None:
    match subject.caller:
        case Caller.SERVICE:
            return Counter(CounterKind.SERVICE, subject.service_id or "unknown")
        case Caller.TEAM_KEY:
            return None
        case _:
            return Counter(CounterKind.USER, subject.user_id or "")


def _pools(resolution: Resolution) -> list[Counter]:
    return [limit.counter for limit in resolution.limits if limit.scope is Scope.POOL]


def _placed(call: Call, plan: Plan) -> Call:
    """Add to the call where it counts: every group's pool, limited today or not; none for exempt admins."""
    resolution = plan.resolution
    return replace(
        call,
        deciding_group_id=resolution.attribution.id if resolution.attribution else None,
        pool_group_ids=() if resolution.exempt else resolution.pool_group_ids,
    )
