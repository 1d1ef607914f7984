"""`make up` with a real provider: its own models in the place of the simulated ones."""

from pathlib import Path

import httpx
import pytest
import respx
import yaml

from stack import real_provider
from stack.errors import StackError
from stack.plan import Plan, Wishes
from stack.state import ROOT, State

BASE = "https://provider.example/v1"


@respx.mock
def test_its_models_replace_the_simulated_ones(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    listing = respx.get(f"{BASE}/models").respond(json={"data": [{"id": "gpt-b"}, {"id": "gpt-a"}]})
    monkeypatch.setenv("UPSTREAM_BASE_URL", BASE)
    monkeypatch.setenv("UPSTREAM_API_KEY", "sk-real")
    plan = Plan(State(tmp_path), Wishes(real_provider=True))
    assert not plan.simulated
    assert plan.endpoints().models == ("gpt-a", "gpt-b")
    assert plan.endpoints().upstream.url == "https://provider.example"
    assert listing.calls.last.request.headers["authorization"] == "Bearer sk-real"
    config = yaml.safe_load(Path(plan.command("litellm")[1]).read_text())
    assert config["model_list"][0] == {
        "model_name": "gpt-a",
        "litellm_params": {
            "model": "openai/gpt-a",
            "api_base": "os.environ/UPSTREAM_BASE_URL",
            "api_key": "os.environ/UPSTREAM_API_KEY",
        },
    }
    original = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text())
    assert {k: v for k, v in config.items() if k != "model_list"} == {
        k: v for k, v in original.items() if k != "model_list"
    }


def test_tests_never_use_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("UPSTREAM_BASE_URL", BASE)
    monkeypatch.setenv("UPSTREAM_API_KEY", "sk-real")
    assert Plan(State(tmp_path), Wishes()).simulated


@respx.mock
@pytest.mark.parametrize(
    ("answer", "text"),
    [
        (httpx.Response(401, text="bad key"), "401"),
        (httpx.Response(200, text="<html>"), "no list of models"),
        (httpx.Response(200, json={"data": []}), "lists no models"),
        (httpx.ConnectError("refused"), "cannot be reached"),
    ],
)
def test_a_provider_that_is_none_is_reported(answer: httpx.Response | Exception, text: str) -> None:
    respx.get(f"{BASE}/models").mock(side_effect=[answer])
    with pytest.raises(StackError, match=f"(?s){text}.*UPSTREAM_BASE_URL"):
        real_provider.models(BASE, "sk-real")
