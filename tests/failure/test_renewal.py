"""A lease that is renewed at the very moment its call ends."""

import asyncio
from decimal import Decimal
from pathlib import Path

import pytest
from pydantic import SecretStr

from owui_budget.config import LedgerSettings
from owui_budget.database.engine import make_engine
from owui_budget.database.migrate import upgrade
from owui_budget.domain.charge import Usage
from owui_budget.domain.decisions import Admission
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind
from owui_budget.ledger import audit
from owui_budget.ledger.open import open_ledger
from owui_budget.ledger.protocol import Admitted, Call, Reserve, Settlement
from owui_budget.limits_file import Limits

ANN = Counter(CounterKind.USER, "ann")
CALL = Call(Caller.OPENWEBUI, Kind.CHAT, "chat", "gpt", user_id="ann")


@pytest.fixture(params=["sqlite", "postgres"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    return str(request.getfixturevalue("postgres_url"))


@pytest.mark.parametrize("end", ["settle", "release"])
async def test_renewing_and_ending_in_one_batch_leaves_nothing_held(url: str, end: str) -> None:
    settings = LedgerSettings(database_url=SecretStr(url))
    engine = make_engine(settings)
    upgrade(engine)
    ledger = open_ledger(settings, Limits())
    await ledger.start()
    outcome = await ledger.reserve(Reserve("r1", CALL, (ANN,), (), 100, Admission.LAST_REQUEST, 0))
    assert isinstance(outcome, Admitted)
    settlement = Settlement("r1", CALL, (ANN,), outcome.admitted_at, Usage(3, 4), "gpt", Decimal(1), 7)
    ending = ledger.settle(settlement) if end == "settle" else ledger.release("r1")
    # Asked for in one turn of the loop, all three share a transaction.
    _, ended, _ = await asyncio.gather(ledger.renew(["r1"]), ending, ledger.renew(["r1"]))
    assert ended is True
    assert await ledger.settle(settlement) is False
    assert await ledger.release("r1") is False
    assert list(audit.verify(engine)) == []
    await ledger.close()
    engine.dispose()
