import sys
from types import ModuleType, SimpleNamespace
from typing import Any

import litellm
import litellm.proxy
import pytest
from kit import CONNECTION_KEY, SECRET
from pydantic import SecretStr

from owui_budget.config import HooksSettings
from owui_budget_hooks import selfcheck
from owui_budget_hooks.callback import BudgetCallback

SETTINGS = HooksSettings(jwt_secret=SecretStr(SECRET), connection_keys=(SecretStr(CONNECTION_KEY),))


@pytest.fixture(autouse=True)
def proxy(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    """The settings of a running proxy, with our callback registered."""
    fake: Any = SimpleNamespace(general_settings={}, llm_router=None)
    monkeypatch.setitem(sys.modules, "litellm.proxy.proxy_server", fake)
    monkeypatch.setattr(litellm.proxy, "proxy_server", fake, raising=False)
    monkeypatch.setattr(litellm, "callbacks", [BudgetCallback()])
    assert isinstance(litellm, ModuleType)
    found: SimpleNamespace = fake
    return found


def test_a_sound_proxy_has_no_problems() -> None:
    assert selfcheck.problems(SETTINGS) == ()


def test_nothing_is_wrong_before_litellm_has_loaded(monkeypatch: pytest.MonkeyPatch, proxy: SimpleNamespace) -> None:
    monkeypatch.setattr(litellm, "callbacks", [])
    proxy.general_settings = {"user_header_mappings": {"litellm_user_role": "internal_user"}}

    assert selfcheck.problems(SETTINGS) == ()


MAPPING = {"header_name": "X-OpenWebUI-User-Id", "litellm_user_role": "internal_user"}


@pytest.mark.parametrize("mappings", [MAPPING, [MAPPING], [{**MAPPING, "litellm_user_role": "customer"}, MAPPING]])
def test_a_header_that_names_the_keys_user_is_a_problem(proxy: SimpleNamespace, mappings: object) -> None:
    proxy.general_settings = {"user_header_mappings": mappings}

    [problem] = selfcheck.problems(SETTINGS)
    assert "litellm_user_role: customer" in problem


def test_a_customer_mapping_is_none(proxy: SimpleNamespace) -> None:
    proxy.general_settings = {"user_header_mappings": [{**MAPPING, "litellm_user_role": "customer"}]}

    assert selfcheck.problems(SETTINGS) == ()


def test_a_class_that_inherits_its_hooks_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    class Inherits(BudgetCallback):
        pass

    monkeypatch.setattr(litellm, "callbacks", [Inherits()])

    [problem] = selfcheck.problems(SETTINGS)
    assert "Inherits inherits async_pre_call_hook" in problem


def test_two_of_us_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "callbacks", [BudgetCallback(), object(), "name", BudgetCallback()])

    [problem] = selfcheck.problems(SETTINGS)
    assert "more than once" in problem


def test_streams_that_are_not_logged_are_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(litellm, "disable_streaming_logging", True, raising=False)

    [problem] = selfcheck.problems(SETTINGS)
    assert "disable_streaming_logging" in problem


def test_a_secret_without_a_connection_is_a_problem() -> None:
    [problem] = selfcheck.problems(HooksSettings(jwt_secret=SecretStr(SECRET)))

    assert "OWUI_BUDGET_CONNECTION_KEYS" in problem
