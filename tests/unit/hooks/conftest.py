import os
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

# LiteLLM reads this while it is imported, and would ask the internet for a price list without it.
os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
# The words of these tests are in kit.py beside them.
sys.path.insert(0, str(Path(__file__).parent))

from kit import NOW, FakeSpool, Flaky, PolicyStub, Walk

from owui_budget.clock import ManualClock
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.ledger.protocol import LedgerOptions
from owui_budget.limits_file import Limits
from owui_budget_hooks import models


@pytest.fixture(autouse=True)
def router(monkeypatch: pytest.MonkeyPatch) -> Callable[[object], None]:
    """No LiteLLM router runs here, and the proxy is not imported to look for one; a test may put its own."""
    current: list[object] = [None]
    monkeypatch.setattr(models, "_router", lambda: current[0])

    def put(router: object) -> None:
        current[0] = router

    return put


@pytest.fixture
def clock() -> ManualClock:

    return ManualClock(NOW)


@pytest.fixture
def memory(clock: ManualClock) -> MemoryLedger:
    return MemoryLedger(clock, LedgerOptions("Europe/Berlin", 120.0, "p1"), revision=1)


@pytest.fixture
def ledger(memory: MemoryLedger) -> Flaky:
    return Flaky(memory)


@pytest.fixture
def spool() -> FakeSpool:
    return FakeSpool()


@pytest.fixture
def policy() -> PolicyStub:
    return PolicyStub()


@pytest.fixture
def walk(memory: MemoryLedger, ledger: Flaky, spool: FakeSpool, policy: PolicyStub) -> Callable[..., Walk]:
    """The rooms of one process on a ledger in memory, with the given lines of limits.yaml."""

    def make(settings: dict[str, object] | None = None, **limits: object) -> Walk:
        parsed = Limits.model_validate({"timezone": "Europe/Berlin", **limits})
        policy.rules = parsed.rules
        return Walk(parsed, ledger, spool, policy, settings or {})

    return make
