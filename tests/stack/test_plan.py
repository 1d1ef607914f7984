"""What each process is started with."""

from pathlib import Path

import pytest

from stack.errors import StackError
from stack.plan import Plan, Wishes
from stack.state import State


def plan(folder: Path, wishes: Wishes | None = None) -> Plan:
    return Plan(State(folder), wishes or Wishes())


def test_the_second_start_has_the_same_ports_and_secrets(tmp_path: Path) -> None:
    first, second = plan(tmp_path), plan(tmp_path)
    assert first.ports == second.ports
    assert first.environment("litellm") == second.environment("litellm")


def test_two_stacks_share_nothing(tmp_path: Path) -> None:
    first, second = plan(tmp_path / "a"), plan(tmp_path / "b")
    assert not set(first.ports.values()) & set(second.ports.values())
    assert first.endpoints().litellm.master_key != second.endpoints().litellm.master_key


def test_no_name_of_a_container_is_left(tmp_path: Path) -> None:
    a_plan = plan(tmp_path)
    for service in ("migrate", "litellm", "openwebui", "sync"):
        for name, value in a_plan.environment(service).items():
            assert not any(f"{host}:" in value.split("@")[-1] for host in ("postgres", "litellm")), name
            assert "/etc/owui-budget" not in value, name


def test_overrides_per_service_and_per_process(tmp_path: Path) -> None:
    overrides = {"litellm": {"A": "all", "LITELLM_MODE": None}, "litellm-2": {"A": "second"}}
    a_plan = plan(tmp_path, Wishes(overrides=overrides, replicas={"litellm": 2}))
    first, second = a_plan.environment("litellm"), a_plan.environment("litellm-2")
    assert (first["A"], second["A"]) == ("all", "second")
    assert "LITELLM_MODE" not in first
    assert first["DATABASE_URL"] == second["DATABASE_URL"]
    assert a_plan.url("litellm") != a_plan.url("litellm-2")
    assert a_plan.endpoints().litellm.urls == (a_plan.url("litellm"), a_plan.url("litellm-2"))


def test_other_configuration(tmp_path: Path) -> None:
    a_plan = plan(tmp_path / "state", Wishes(mounts={"./proxy_config": tmp_path / "mine"}))
    assert a_plan.command("litellm") == ["--config", str(tmp_path / "mine" / "config.yaml")]
    assert a_plan.environment("sync")["OWUI_BUDGET_LIMITS_FILE"] == str(tmp_path / "mine" / "limits.yaml")


def test_endpoints_have_the_documented_shape(tmp_path: Path) -> None:
    shape = plan(tmp_path).endpoints().to_json()
    assert {part: set(value) for part, value in shape.items() if isinstance(value, dict)} == {
        "openwebui": {"url", "admin_email", "admin_password"},
        "litellm": {"url", "master_key", "openwebui_key", "jwt_secret"},
        "sync": {"url"},
        "ledger": {"url"},
        "upstream": {"url"},
    }
    assert set(shape) == {"openwebui", "litellm", "sync", "ledger", "upstream", "users", "models"}
    assert "sim-gpt" in shape["models"]
    assert not [model for model in shape["models"] if "*" in model]


def test_half_a_real_provider_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", "https://provider.example/v1")
    monkeypatch.delenv("UPSTREAM_API_KEY", raising=False)
    with pytest.raises(StackError, match="belong together"):
        plan(tmp_path, Wishes(real_provider=True))


def test_a_misspelt_service_is_refused() -> None:
    with pytest.raises(StackError, match="lite-llm"):
        Wishes(services=("lite-llm",))
