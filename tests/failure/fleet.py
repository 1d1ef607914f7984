"""LiteLLM processes that differ in their settings, on one provider and one PostgreSQL, stopped and killed by tests."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import jwt
import yaml
from support.proxied import Person, Proxied

from stack import litellm, prisma, processes
from stack.run import Stack
from stack.state import ROOT

LEASE = 10
OPEN_FOR = 6

OPEN, OTHER, CLOSED, STRICT = "litellm", "litellm-2", "litellm-3", "litellm-4"
"""Two that admit while the ledger is away, one that does not, and one that admits strictly."""

# A machine that runs tests may take seconds for a commit. That is no outage; a stopped database refuses at once.
_COMMON: dict[str, Any] = {"lease": LEASE, "reserve_timeout": 8, "weights": {"sim-free": 0}}
_LIMITS: dict[str, dict[str, Any]] = {
    "limits": {**_COMMON, "open_for": OPEN_FOR},
    "closed": {**_COMMON, "on_ledger_error": "closed"},
    "strict": {**_COMMON, "admission": "strict"},
}
_FILES = {CLOSED: "closed", STRICT: "strict"}


def write_configuration(folder: Path) -> Path:
    """Write the shipped configuration with /metrics, and one limits file per kind of process."""
    folder.mkdir(parents=True, exist_ok=True)
    config = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text(encoding="utf-8"))
    config["litellm_settings"]["callbacks"].insert(0, "prometheus")
    (folder / "config.yaml").write_text(yaml.safe_dump(config), encoding="utf-8")
    for name, content in _LIMITS.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def overrides(configuration: Path) -> dict[str, dict[str, str | None]]:
    return {name: {"OWUI_BUDGET_LIMITS_FILE": str(configuration / f"{file}.yaml")} for name, file in _FILES.items()}


class Fleet:
    """The processes by name; those a test needs are started again where an earlier one ended them."""

    def __init__(self, stack: Stack) -> None:
        self.stack = stack
        self._proxied: dict[str, Proxied] = {}
        for name, url in zip((OPEN, OTHER, CLOSED, STRICT), stack.endpoints.litellm.urls, strict=True):
            self._proxied[name] = Proxied(stack, url)

    def close(self) -> None:
        for proxied in self._proxied.values():
            proxied.close()

    def __getitem__(self, name: str) -> Proxied:
        return self._proxied[name]

    def up(self, *names: str) -> list[Proxied]:
        """Make sure that these (and the database) run, and return them."""
        if self.stack.pid("postgres") is None:
            self.stack.start_one("postgres")
        missing = [name for name in names if self.stack.pid(name) is None]
        for name in missing:
            self.stack.start_one(name, wait=False)
        for name in missing:
            self.stack.wait_healthy(name)
        return [self[name] for name in names]

    def at(self, person: Person, name: str) -> Person:
        """The same person, calling another process."""
        return Person(self[name], person.id, person.groups, person.role, person.more)

    def spool(self) -> list[Path]:
        """The spool's files, which all processes of the stack have in one folder."""
        return sorted((self.stack.state.volumes / "litellm-spool").glob("usage-*"))

    def metric(self, name: str, metric: str) -> float:
        """One of our metrics, as LiteLLM's /metrics shows it; the sum over its labels."""
        proxied = self[name]
        answer = httpx.get(
            f"{proxied.http.base_url}/metrics/",
            headers={"Authorization": f"Bearer {proxied.litellm.master_key}"},
            timeout=20,
            trust_env=False,
        )
        lines = [line for line in answer.text.splitlines() if line.startswith(metric)]
        assert lines, f"{metric} is not in /metrics: {answer.status_code} {answer.text[:300]}"
        return sum(float(line.rsplit(" ", 1)[1]) for line in lines)


class Bare:
    """LiteLLM without a database of its own: a master key, a configuration file, our hooks."""

    def __init__(self, stack: Stack, folder: Path) -> None:
        self._stack = stack
        self._folder = folder
        self._free = list(stack.wishes.instances("litellm"))
        self._started: list[BareProxy] = []
        self.master_key = stack.endpoints.litellm.master_key

    def close(self) -> None:
        for proxy in self._started:
            proxy.http.close()

    def token(self, user_id: str) -> str:
        """Sign who is calling, as Open WebUI does."""
        now = int(time.time())
        content = {"sub": user_id, "role": "user", "iss": "open-webui", "iat": now, "exp": now + 600}
        return jwt.encode(content, self._stack.endpoints.litellm.jwt_secret, algorithm="HS256")

    def config(self, **changes: Mapping[str, Any]) -> dict[str, Any]:
        """Return the shipped configuration without the database, each section changed as given."""
        config: dict[str, Any] = yaml.safe_load((ROOT / "proxy_config" / "config.yaml").read_text(encoding="utf-8"))
        for name in ("database_url", "store_model_in_db"):
            del config["general_settings"][name]
        for section, values in changes.items():
            config[section] = {**config[section], **values}
        return config

    def start(
        self,
        *,
        config: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        ledger: str | None = None,
        spool: Path | None = None,
        environment: Mapping[str, str | None] | None = None,
    ) -> "BareProxy":
        """Start one process; nobody waits for it here."""
        name = self._free.pop(0)
        folder = self._folder / name
        folder.mkdir(parents=True)
        (folder / "config.yaml").write_text(yaml.safe_dump(config or self.config()), encoding="utf-8")
        (folder / "limits.yaml").write_text(yaml.safe_dump(dict(limits or {})), encoding="utf-8")
        plan = self._stack.plan
        variables = {
            "DATABASE_URL": None,
            "OWUI_BUDGET_DATABASE_URL": ledger or f"sqlite:///{folder / 'ledger.db'}",
            "OWUI_BUDGET_CONNECTION_KEYS": self.master_key,
            "OWUI_BUDGET_LIMITS_FILE": str(folder / "limits.yaml"),
            "OWUI_BUDGET_SPOOL_DIR": str(spool or folder / "spool"),
            **(environment or {}),
        }
        program = litellm.program(
            name,
            plan.service("litellm"),
            plan.environment(name, variables),
            ["--config", str(folder / "config.yaml")],
            plan.ports[name],
            prisma.Engine.NATIVE,
        )
        processes.start(self._stack.state, program)
        self._started.append(BareProxy(self._stack, program, plan.url(name), self.master_key))
        return self._started[-1]


class BareProxy:
    """One such process."""

    def __init__(self, stack: Stack, program: processes.Program, url: str, key: str) -> None:
        self._stack = stack
        self._program = program
        self.key = key
        self.http = httpx.Client(base_url=url, timeout=60, trust_env=False)

    def wait(self) -> "BareProxy":
        """Wait until it serves.

        Raises:
            NotHealthyError: it ended instead; the text has the end of its log.

        """
        processes.wait_healthy(self._stack.state, self._program)
        return self

    def stop(self) -> None:
        processes.stop(self._stack.state, self._program.name)

    @property
    def log(self) -> str:
        return self._stack.log(self._program.name).read_text(encoding="utf-8", errors="replace")

    def chat(self, token: str, text: str = "[[sim tokens=10]] hi", groups: str = "", **body: Any) -> httpx.Response:
        content = {"model": "sim-gpt", "messages": [{"role": "user", "content": text}], **body}
        return self.post("/v1/chat/completions", token, content, groups)

    def post(self, path: str, token: str, body: Mapping[str, Any], groups: str = "") -> httpx.Response:
        headers = {
            "Authorization": f"Bearer {self.key}",
            "X-OpenWebUI-User-Jwt": token,
            "X-OpenWebUI-Group-Ids": groups,
            "X-OpenWebUI-Task": "",
            "X-OpenWebUI-Message-Id": "",
        }
        return self.http.post(path, json=body, headers=headers)


@contextmanager
def moved_clock(proxied: Proxied, seconds: float) -> Iterator[None]:
    """Put the test clock ahead for a while."""
    proxied.move_clock(seconds)
    try:
        yield
    finally:
        proxied.move_clock(0)
