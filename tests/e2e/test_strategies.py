"""All four ways to combine the limits of several groups, defaults, and limited admins, side by side on one ledger.

Each strategy has a LiteLLM process of its own with another limits.yaml. Open WebUI reaches them by further connections,
whose models carry the strategy's name in front.
"""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from support.openwebui import House
from support.proxied import eventually

from stack.plan import Wishes
from stack.run import Stack
from stack.state import ROOT

pytestmark = pytest.mark.stack

LOWEST = "lowest_priority_number"
LIMITS: dict[str, dict[str, Any]] = {
    "most_generous": {"defaults": {"member": {"daily": {"hard": 50}}}},
    "most_restrictive": {"admins": "limited"},
    "all": {"weights": {"*": 2}},
}
"""What the strategies' limits.yaml say beside the strategy."""


@pytest.fixture(scope="module")
def models(house: House, tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """A model's name in Open WebUI for each strategy."""
    folder = tmp_path_factory.mktemp("limits")
    stack = Stack(house.stack.state.folder, Wishes(replicas={"litellm": 1 + len(LIMITS)}))
    urls = dict(zip(LIMITS, stack.endpoints.litellm.urls[1:], strict=True))
    names = dict(zip(LIMITS, stack.wishes.instances("litellm")[1:], strict=True))
    before = house.admin.call("GET", "/openai/config")
    try:
        for strategy, name in names.items():
            stack.start_one(name, {"OWUI_BUDGET_LIMITS_FILE": str(limits_file(folder, strategy))}, wait=False)
        for name in names.values():
            stack.wait_healthy(name)
        house.admin.call("POST", "/openai/config/update", with_connections(before, urls))
        models = {LOWEST: "sim-gpt", **{strategy: f"{strategy}.sim-gpt" for strategy in LIMITS}}
        house.admin.call("GET", "/api/models?refresh=true")
        yield models
    finally:
        house.admin.call("POST", "/openai/config/update", before)
        house.admin.call("GET", "/api/models?refresh=true")
        for name in names.values():
            stack.stop(name)


def limits_file(folder: Path, strategy: str) -> Path:
    shipped = yaml.safe_load((ROOT / "proxy_config" / "limits.yaml").read_text(encoding="utf-8"))
    path = folder / f"{strategy}.yaml"
    path.write_text(yaml.safe_dump({**shipped, "resolution": strategy, **LIMITS[strategy]}), encoding="utf-8")
    return path


def with_connections(config: dict[str, Any], urls: dict[str, str]) -> dict[str, Any]:
    """Open WebUI's connections with one more for each strategy, the same but for address and prefix."""
    (key,), (first,) = config["OPENAI_API_KEYS"], config["OPENAI_API_CONFIGS"].values()
    more = {str(number): {**first, "prefix_id": name} for number, name in enumerate(urls, start=1)}
    return {
        **config,
        "OPENAI_API_BASE_URLS": [*config["OPENAI_API_BASE_URLS"], *(f"{url}/v1" for url in urls.values())],
        "OPENAI_API_KEYS": [key] * (1 + len(urls)),
        "OPENAI_API_CONFIGS": {"0": first, **more},
    }


@pytest.fixture(scope="module")
def groups(house: House) -> tuple[str, str, str]:
    """The first decides by its number, the second is the strictest, the third the most generous."""
    return (
        house.group({"daily": {"hard": 200}}, priority=10),
        house.group({"daily": {"hard": 100}, "hourly": {"hard": 300}}, priority=20),
        house.group({"daily": {"hard": 400}}, priority=30),
    )


def quotas(answer: httpx.Response) -> list[str]:
    """The limits in force as the headers of a stream tell them: `daily 200`."""
    assert answer.status_code == 200, answer.text
    items = [item.split(";") for item in answer.headers["ratelimit-policy"].split(", ")]
    return [f"{name.strip(chr(34))} {quota.removeprefix('q=')}" for name, quota, *_ in items]


def test_each_strategy_puts_its_own_limits_in_force(
    house: House, models: dict[str, str], groups: tuple[str, str, str]
) -> None:
    first, second, third = groups
    user = house.user(*groups)
    shown = {
        strategy: sorted(quotas(user.ask("[[sim tokens=1]] hi", model, stream=True)))
        for strategy, model in models.items()
    }
    assert shown == {
        LOWEST: ["daily 200"],
        # A group without an hourly limit is the most generous of all hourly limits.
        "most_generous": ["daily 400"],
        "most_restrictive": ["daily 100", "hourly 300"],
        "all": sorted([f"daily-{first} 200", f"daily-{second} 100", f"daily-{third} 400", "hourly 300"]),
    }


def test_each_strategy_refuses_by_its_own_limits_on_the_same_count(
    house: House, models: dict[str, str], groups: tuple[str, str, str]
) -> None:
    user = house.user(*groups)
    first, second, third = (house.name_of(group) for group in groups)

    def refusals() -> dict[str, str | None]:
        found: dict[str, str | None] = {}
        for strategy, model in models.items():
            answer = user.ask("[[sim tokens=1]] hi", model)
            found[strategy] = answer.json()["error"]["budget"]["group"] if answer.status_code == 429 else None
        user.events(0)
        return found

    nobody: dict[str, str | None] = dict.fromkeys(models)
    user.spend(100)
    assert refusals() == {**nobody, "most_restrictive": second, "all": second}
    user.spend(100)
    assert refusals() == {**nobody, LOWEST: first, "most_restrictive": second, "all": first}
    user.ask("[[sim tokens=200]] hi", models["most_generous"])
    eventually(user.used, lambda used: used >= 400, seconds=10)
    assert refusals() == {LOWEST: first, "most_generous": third, "most_restrictive": second, "all": first}


def test_defaults_hold_for_users_in_no_limited_group(house: House, models: dict[str, str]) -> None:
    unlimited, member = house.user(house.group()), house.user(house.group({"daily": {"hard": 10**6}}))
    for user in (unlimited, member):
        user.spend(60)
    refused = unlimited.ask(model=models["most_generous"])
    assert refused.status_code == 429
    error = refused.json()["error"]
    assert error["message"].startswith("Daily limit of 50 tokens reached (")
    assert (error["budget"]["group"], error["budget"]["limit"]) == (None, 50)
    assert unlimited.ask().status_code == 200, "no defaults in the limits.yaml that ships"
    assert member.ask(model=models["most_generous"]).status_code == 200


def test_admins_are_limited_where_limits_yaml_says_so(house: House, models: dict[str, str]) -> None:
    admin = house.user(house.group({"daily": {"hard": 0}}), role="admin")
    assert admin.ask().status_code == 200
    assert admin.ask(model=models["most_restrictive"]).status_code == 429


def test_weights_multiply_what_is_charged(house: House, models: dict[str, str]) -> None:
    user = house.user(house.group({"daily": {"hard": 10**6}}))
    assert user.ask(model=models["all"]).status_code == 200
    (event,) = user.events(1)
    assert event["charge"] == user.used() == 2 * (event["prompt"] + event["completion"])
