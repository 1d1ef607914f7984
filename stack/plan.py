"""From docker-compose.yml to the processes of one stack: ports chosen, secrets made, environments rewritten."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import yaml

from stack import env_file, processes, real_provider
from stack.compose import Compose, Service
from stack.endpoints import Endpoints, Ledger, LiteLLM, OpenWebUI, Sync, Upstream, User
from stack.errors import StackError
from stack.rewrite import LOOPBACK, Address, Rewriting, mounted_paths
from stack.state import ROOT, State, choose_ports
from stack.surroundings import shell

SERVICES = ("postgres", "provider", "litellm", "openwebui", "sync")
"""Everything that `make up` runs, in the order of starting. `migrate` runs by itself where the database does."""
CONTAINER_PORTS = {"postgres": 5432, "litellm": 4000, "openwebui": 8080, "sync": 8090}
UPSTREAM_NAMES = (
    "UPSTREAM_BASE_URL",
    "UPSTREAM_API_KEY",
    "UPSTREAM_ANTHROPIC_BASE_URL",
    "UPSTREAM_ANTHROPIC_API_KEY",
)

Environments = Mapping[str, Mapping[str, str | None]]


@dataclass(frozen=True, slots=True)
class Wishes:
    """What a caller wants different from `make up`."""

    services: Sequence[str] = SERVICES
    overrides: Environments = field(default_factory=dict)
    """Variables per service (`litellm`) or process (`litellm-2`), over those from compose; None removes one."""
    mounts: Mapping[str, Path] = field(default_factory=dict)
    """Other folders in the place of a mount's source in compose, such as {"./proxy_config": tmp_path}."""
    replicas: Mapping[str, int] = field(default_factory=dict)
    """How many processes of `litellm` and `sync`."""
    real_provider: bool = False
    """Whether a real provider that the shell names is used. Not in tests: they would spend somebody's money."""

    def __post_init__(self) -> None:
        """Refuse a misspelt service."""
        unknown = set(self.services) - set(SERVICES)
        if unknown:
            msg = f"unknown services {', '.join(sorted(unknown))}; there are {', '.join(SERVICES)}"
            raise StackError(msg)

    def instances(self, service: str) -> list[str]:
        """Names of the processes of one service: litellm, litellm-2 ..."""
        count = self.replicas.get(service, 1)
        return [service, *(f"{service}-{number}" for number in range(2, count + 1))]


class Plan:
    """What each process of a stack is started with, the same every time: secrets and ports are remembered."""

    def __init__(self, state: State, wishes: Wishes) -> None:
        """Choose ports and complete the secrets of `state`."""
        self.state = state
        self.wishes = wishes
        state.prepare()
        instances = [name for service in SERVICES for name in wishes.instances(service)]
        self.ports = choose_ports(state, {name: processes.find(state, name) is not None for name in instances})
        self.values = self._values()
        self.compose = Compose.load(ROOT / "docker-compose.yml", self.values)
        self._mounts = {**self._real_configuration(), **wishes.mounts}

    @property
    def simulated(self) -> bool:
        """Whether the provider is the simulated one."""
        return self.values["UPSTREAM_BASE_URL"] == f"{self.url('provider')}/v1"

    def url(self, instance: str) -> str:
        """Return the address of one process."""
        return f"http://{LOOPBACK}:{self.ports[instance]}"

    def service(self, instance: str) -> Service:
        """Return the service of which `instance` is a process."""
        return self.compose[_service_of(instance)]

    def paths(self, instance: str) -> dict[str, Path]:
        """Return where the mounts of one process are. Replicas share their volumes, as containers would."""
        return mounted_paths(self.service(instance).mounts, ROOT, self.state.volumes, self._mounts)

    def environment(self, instance: str, extra: Mapping[str, str | None] | None = None) -> dict[str, str]:
        """Return the environment of one process: compose's, with hosts, ports and paths replaced, and the overrides."""
        environment: dict[str, str | None] = {
            **self._rewriting(instance).environment(self.service(instance).environment)
        }
        for name in dict.fromkeys((_service_of(instance), instance)):
            environment.update(self.wishes.overrides.get(name, {}))
        environment.update(extra or {})
        return {name: value for name, value in environment.items() if value is not None}

    def command(self, instance: str) -> list[str]:
        """Return the command of one process, its paths replaced."""
        rewriting = self._rewriting(instance)
        return [rewriting.text(part) for part in self.service(instance).command]

    def endpoints(self, users: Sequence[User] = ()) -> Endpoints:
        """Return addresses and logins."""
        openwebui, litellm, sync = (self.environment(name) for name in ("openwebui", "litellm", "sync"))
        owner = self.environment("migrate")["OWUI_BUDGET_DATABASE_URL"]
        return Endpoints(
            openwebui=OpenWebUI(
                self.url("openwebui"), openwebui["WEBUI_ADMIN_EMAIL"], openwebui["WEBUI_ADMIN_PASSWORD"]
            ),
            litellm=LiteLLM(
                url=self.url("litellm"),
                master_key=litellm["LITELLM_MASTER_KEY"],
                openwebui_key=self.values["OPENWEBUI_CONNECTION_KEY"],
                jwt_secret=self.values["USER_JWT_SECRET"],
                urls=tuple(self.url(name) for name in self.wishes.instances("litellm")),
            ),
            sync=Sync(
                self.url("sync"),
                self.values["TRIGGER_SECRET"],
                tuple(self.url(name) for name in self.wishes.instances("sync")),
            ),
            ledger=Ledger(
                url=_sqlalchemy(owner),
                hooks_url=_sqlalchemy(litellm["OWUI_BUDGET_DATABASE_URL"]),
                sync_url=_sqlalchemy(sync["OWUI_BUDGET_DATABASE_URL"]),
            ),
            upstream=Upstream(self.values["UPSTREAM_BASE_URL"].removesuffix("/v1"), self.values["UPSTREAM_API_KEY"]),
            users=tuple(users),
            models=self._models,
        )

    def _values(self) -> dict[str, str]:
        """Return the variables of docker-compose.yml: the remembered secrets, and what depends on this start."""
        remembered = env_file.write(ROOT / ".env.example", self.state.env_file).values
        allowed = UPSTREAM_NAMES if self.wishes.real_provider else ()
        given = {name: shell()[name] for name in allowed if shell().get(name)}
        values = {name: value for name, value in {**remembered, **given}.items() if value}
        if ("UPSTREAM_BASE_URL" in values) != ("UPSTREAM_API_KEY" in values):
            raise StackError(
                "UPSTREAM_BASE_URL and UPSTREAM_API_KEY belong together: set both for a real provider, "
                "neither for a simulated one"
            )
        provider = self.url("provider")
        simulated = {
            "UPSTREAM_BASE_URL": f"{provider}/v1",
            "UPSTREAM_API_KEY": "simulated",
            "UPSTREAM_ANTHROPIC_BASE_URL": provider,
            "UPSTREAM_ANTHROPIC_API_KEY": "simulated",
        }
        fallbacks = {} if "UPSTREAM_BASE_URL" in values else simulated
        return {**fallbacks, **values, "WEBUI_URL": self.url("openwebui")}

    def _real_configuration(self) -> dict[str, Path]:
        """Return LiteLLM's configuration for the models of a real provider, in the place of the simulated one's."""
        if self.simulated:
            return {}
        folder = self.state.folder / "proxy_config"
        names = real_provider.models(self.values["UPSTREAM_BASE_URL"], self.values["UPSTREAM_API_KEY"])
        real_provider.configure(ROOT / "proxy_config", folder, names)
        return {"./proxy_config": folder}

    def _rewriting(self, instance: str) -> Rewriting:
        addresses = {name: Address(port, self.ports[name]) for name, port in CONTAINER_PORTS.items()}
        return Rewriting(addresses, self.paths(instance))

    @cached_property
    def _models(self) -> tuple[str, ...]:
        config = Path(self._rewriting("litellm").text("/etc/owui-budget/config.yaml"))
        models = yaml.safe_load(config.read_text(encoding="utf-8")).get("model_list", [])
        return tuple(dict.fromkeys(model["model_name"] for model in models if "*" not in model["model_name"]))


def _service_of(instance: str) -> str:
    name, dash, number = instance.rpartition("-")
    return name if dash and number.isdigit() else instance


def _sqlalchemy(url: str) -> str:
    """Name the driver: without one SQLAlchemy takes psycopg2, which is not installed."""
    return "postgresql+psycopg" + url.removeprefix("postgresql") if url.startswith("postgresql://") else url
