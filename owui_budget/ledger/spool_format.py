"""How a spooled record is printed and read: one JSON object per line, with a version."""

import json
from dataclasses import asdict
from decimal import Decimal
from typing import Any

from owui_budget.domain.charge import Usage
from owui_budget.domain.identity import Counter
from owui_budget.ledger.protocol import Ending, Settlement
from owui_budget.ledger.records import call_from_json, call_to_json

Record = Settlement | str
"""A finished call, or the id of a reservation to release."""


def print_record(record: Record) -> dict[str, Any]:
    """Return `record` as JSON; `parse_record` reads it back to an equal value."""
    if isinstance(record, str):
        return {"v": 1, "release": record}
    return {
        "v": 1,
        "settle": {
            "reservation_id": record.reservation_id,
            "call": call_to_json(record.call),
            "counters": [counter.key for counter in record.counters],
            "admitted_at": record.admitted_at,
            "usage": asdict(record.usage),
            "model": record.model,
            "weight": str(record.weight),
            "charge": record.charge,
            "ending": record.ending,
        },
    }


def parse_record(line: bytes) -> Record:
    """Read one line.

    Raises:
        ValueError, KeyError, TypeError, AttributeError: it is not a record, or half of one.

    """
    value = json.loads(line)
    if "release" in value:
        return str(value["release"])
    settled = value["settle"]
    return Settlement(
        reservation_id=settled["reservation_id"],
        call=call_from_json(settled["call"]),
        counters=tuple(Counter.parse(key) for key in settled["counters"]),
        admitted_at=settled["admitted_at"],
        usage=Usage(**settled["usage"]),
        model=settled["model"],
        weight=Decimal(settled["weight"]),
        charge=settled["charge"],
        ending=Ending(settled["ending"]),
    )
