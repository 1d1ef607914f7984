"""docker-compose.yml: what it promises, without Docker."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from owui_budget.config import known_names
from owui_budget.limits_file import load_limits
from stack import env_file
from stack.compose import Compose
from stack.errors import StackError
from stack.interpolation import required, variables
from stack.state import ROOT

TEXT = (ROOT / "docker-compose.yml").read_text()
DOCUMENT: dict[str, Any] = yaml.safe_load(TEXT)
# What YAML reads, so that comments do not count.
CONTENT = json.dumps(DOCUMENT)
EXAMPLE = (ROOT / ".env.example").read_text()
LONG_RUNNING = ("postgres", "litellm", "openwebui", "sync")


@pytest.fixture
def compose() -> Compose:
    given = {"UPSTREAM_BASE_URL": "https://provider.example/v1", "UPSTREAM_API_KEY": "sk-real"}
    return Compose.load(ROOT / "docker-compose.yml", env_file.parse(env_file.complete(EXAMPLE, "", given)[0]))


def test_services() -> None:
    assert set(DOCUMENT["services"]) == {*LONG_RUNNING, "migrate"}


@pytest.mark.parametrize("name", LONG_RUNNING)
def test_long_running_services_are_checked_and_restarted(name: str) -> None:
    service = DOCUMENT["services"][name]
    assert service["healthcheck"]["test"]
    assert service["restart"] == "unless-stopped"


def test_images_are_pinned() -> None:
    for name, service in DOCUMENT["services"].items():
        tag = service["image"].rpartition(":")[2]
        assert re.search(r"\d+\.\d+", tag), f"{name}: {service['image']}"
    dockerfile = (ROOT / "docker" / "litellm.Dockerfile").read_text()
    assert re.search(r"^ARG LITELLM_IMAGE=\S+:\S*1\.106\.2\S*$", dockerfile, re.MULTILINE)


def test_only_open_webui_is_published() -> None:
    assert [name for name, service in DOCUMENT["services"].items() if service.get("ports")] == ["openwebui"]


def test_open_webui_does_not_reach_the_database() -> None:
    assert "database" not in DOCUMENT["services"]["openwebui"]["networks"]
    assert DOCUMENT["networks"]["database"]["internal"] is True


def test_bind_mounts_exist_and_are_read_only(compose: Compose) -> None:
    for service in compose.services.values():
        for mount in service.mounts:
            if mount.bind:
                assert (ROOT / mount.source).exists(), mount
                assert mount.read_only, mount


def test_named_volumes_are_declared(compose: Compose) -> None:
    used = {mount.source for service in compose.services.values() for mount in service.mounts if not mount.bind}
    assert used == set(DOCUMENT["volumes"])


def test_build_files_exist() -> None:
    for service in DOCUMENT["services"].values():
        if "build" in service:
            assert (ROOT / service["build"]["dockerfile"]).is_file()


def test_every_variable_is_in_the_example_and_the_other_way_round() -> None:
    assert variables(CONTENT) == set(env_file.parse(EXAMPLE))


def test_no_secret_has_a_default() -> None:
    secret = re.compile(r"(SECRET|PASSWORD|KEY)$")
    optional = {"OPENWEBUI_API_KEY", "UPSTREAM_ANTHROPIC_API_KEY"}
    assert {name for name in variables(CONTENT) if secret.search(name)} - optional <= required(CONTENT)
    values = env_file.parse(EXAMPLE)
    assert not [name for name in values if secret.search(name) and values[name]]


def test_a_missing_secret_is_named() -> None:
    with pytest.raises(StackError, match="POSTGRES_PASSWORD is missing; run make env"):
        Compose.load(ROOT / "docker-compose.yml", {})


def test_our_programs_get_only_names_that_they_know(compose: Compose) -> None:
    for name, service in compose.services.items():
        ours = {variable for variable in service.environment if variable.startswith("OWUI_BUDGET_")}
        assert ours <= known_names(), name


def test_each_service_has_its_own_database_role(compose: Compose) -> None:
    def role(url: str) -> str:
        match = re.match(r"postgresql://([a-z_]+):", url)
        assert match
        return match[1]

    urls = {name: compose[name].environment["OWUI_BUDGET_DATABASE_URL"] for name in ("migrate", "litellm", "sync")}
    urls["litellm itself"] = compose["litellm"].environment["DATABASE_URL"]
    assert len({role(url) for url in urls.values()}) == len(urls)
    script = (ROOT / "docker" / "postgres-init.sql").read_text()
    assert all(f"CREATE ROLE {role(url)} " in script for url in urls.values())


def test_connection_headers(compose: Compose) -> None:
    """The headers that the hooks go by; the placeholders are Open WebUI's."""
    environment = compose["openwebui"].environment
    connection = json.loads(environment["OPENAI_API_CONFIGS"])["0"]
    assert connection["headers"] == {
        "X-OpenWebUI-User-Id": "{{USER_ID}}",
        "X-OpenWebUI-Group-Ids": "{{USER_GROUP_IDS}}",
        "X-OpenWebUI-Task": "{{TASK}}",
        "X-OpenWebUI-Message-Id": "{{MESSAGE_ID}}",
        "X-OpenWebUI-Chat-Id": "{{CHAT_ID}}",
        "X-OpenWebUI-Auth-Type": "{{AUTH_TYPE}}",
    }
    secret = compose["litellm"].environment["OWUI_BUDGET_JWT_SECRET"]
    assert environment["FORWARD_USER_INFO_HEADER_JWT_SECRET"] == secret


def test_every_way_from_open_webui_to_a_model_goes_through_litellm(compose: Compose) -> None:
    environment = compose["openwebui"].environment
    addresses = {name: value for name, value in environment.items() if "API_BASE_URL" in name}
    assert set(addresses.values()) == {"http://litellm:4000/v1"}
    assert len(addresses) == 5
    for name in ("ENABLE_OLLAMA_API", "ENABLE_DIRECT_CONNECTIONS", "ENABLE_OPENAI_API_PASSTHROUGH", "ENABLE_TOOLS"):
        assert environment[name] == "false", name


def test_litellm_configuration() -> None:
    config = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text())
    assert config["litellm_settings"]["callbacks"][-1] == "owui_budget_hooks.callback.budget"
    mappings = config["general_settings"]["user_header_mappings"]
    assert [mapping["litellm_user_role"] for mapping in mappings] == ["customer"]
    assert not [path for path in (ROOT / "proxy_config").rglob("*") if path.suffix == ".py"]


def test_limits_file_is_valid() -> None:
    limits = load_limits(Path(ROOT / "proxy_config" / "limits.yaml"))
    assert limits.timezone == "UTC"
    assert limits.weights == {"sim-free": 0}


def test_no_key_stands_twice() -> None:
    """YAML readers keep the last one in silence; docker compose refuses the file."""

    class Strict(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[object, object]:  # noqa: FBT001, FBT002
            names = [self.construct_object(name) for name, _ in node.value]
            assert len(names) == len(set(names)), sorted({name for name in names if names.count(name) > 1})
            return super().construct_mapping(node, deep)

    yaml.load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"), Strict)  # noqa: S506 - a SafeLoader
