"""The events a batch writes: a call's usage, the estimate of one that was lost, corrections and adjustments."""

from collections.abc import Iterable
from dataclasses import replace
from decimal import Decimal
from typing import Final

from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.ledger.protocol import Call, Ending, Settlement
from owui_budget.ledger.records import Event, EventType, Open, clean, pools_of

_BY_HAND: Final = "adjustment"


def charged_counters(holds: Iterable[str], call: Call) -> tuple[str, ...]:
    """Return the counters an event charges: what was held, and every pool, so one limited later finds its usage."""
    return tuple(dict.fromkeys([*holds, *pools_of(call)]))


def usage(settlement: Settlement, call: Call, at: float, holds: Iterable[str], now: float) -> Event:
    """Return the event of a finished call. `call` is what its admission recorded, `at` its admission."""
    used = settlement.usage
    return Event(
        reservation_id=settlement.reservation_id,
        type=EventType.USAGE,
        at=at,
        recorded_at=now,
        user_id=call.user_id,
        service_id=call.service_id,
        caller=call.caller,
        kind=call.kind,
        route=call.route,
        model=clean(settlement.model),
        deciding_group_id=call.deciding_group_id,
        counters=charged_counters(holds, call),
        prompt=used.prompt,
        completion=used.completion,
        cached=used.cached,
        reasoning=used.reasoning,
        weight=str(settlement.weight),
        charge=settlement.charge,
        ending=settlement.ending,
        estimated=used.estimated,
    )


def estimate(reservation: Open, now: float) -> Event:
    """Return the event of a call whose lease ran out: charged as held; its tokens are not known."""
    call = reservation.call
    return Event(
        reservation_id=reservation.id,
        type=EventType.ESTIMATE,
        at=reservation.admitted_at,
        recorded_at=now,
        user_id=call.user_id,
        service_id=call.service_id,
        caller=call.caller,
        kind=call.kind,
        route=call.route,
        model=call.model,
        deciding_group_id=call.deciding_group_id,
        counters=charged_counters(reservation.holds, call),
        prompt=0,
        completion=0,
        cached=0,
        reasoning=0,
        weight="1",
        charge=reservation.amount,
        ending=Ending.LOST,
        estimated=True,
    )


def correction(estimated: Event, settlement: Settlement, now: float) -> Event:
    """Return the difference between an estimate and what the call took; estimate and correction add up to the truth."""
    used = settlement.usage
    return replace(
        estimated,
        type=EventType.CORRECTION,
        recorded_at=now,
        model=clean(settlement.model),
        prompt=used.prompt - estimated.prompt,
        completion=used.completion - estimated.completion,
        cached=used.cached - estimated.cached,
        reasoning=used.reasoning - estimated.reasoning,
        weight=str(settlement.weight),
        charge=settlement.charge - estimated.charge,
        ending=settlement.ending,
        estimated=used.estimated,
    )


def taken_back(estimated: Event, kind: EventType, reason: str, now: float) -> Event:
    """Return what takes an estimate back in full: the call spent nothing."""
    return replace(
        estimated,
        type=kind,
        recorded_at=now,
        charge=-estimated.charge,
        ending=Ending.FAILED,
        estimated=False,
        reason=reason,
    )


def adjustment(identifier: str, counter: Counter, charge: int, reason: str, moments: tuple[float, float]) -> Event:
    """Return a correction by hand; `moments` are where it counts and when it is recorded (ledger time)."""
    at, now = moments
    caller = Caller.SERVICE if counter.kind is CounterKind.SERVICE else Caller.OPENWEBUI
    return Event(
        reservation_id=identifier,
        type=EventType.ADJUSTMENT,
        at=at,
        recorded_at=now,
        user_id=counter.id if counter.kind in (CounterKind.USER, CounterKind.TASK) else None,
        service_id=counter.id if counter.kind is CounterKind.SERVICE else None,
        caller=Caller.TEAM_KEY if counter.kind is CounterKind.POOL else caller,
        kind=Kind.TASK if counter.kind is CounterKind.TASK else Kind.SERVICE,
        route=_BY_HAND,
        model="",
        deciding_group_id=counter.id if counter.kind is CounterKind.POOL else None,
        counters=(counter.key,),
        prompt=0,
        completion=0,
        cached=0,
        reasoning=0,
        weight=str(Decimal(1)),
        charge=charge,
        ending=Ending.COMPLETED,
        estimated=False,
        reason=clean(reason),
    )
