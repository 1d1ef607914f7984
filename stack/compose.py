"""Read docker-compose.yml: the one description of the services, whatever runs them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

import yaml

from stack.errors import StackError
from stack.interpolation import interpolate

_HEALTH_PATH = re.compile(r"https?://[^/'\"\s]+(/[^'\"\s,)]*)")


@dataclass(frozen=True, slots=True)
class Mount:
    """One entry of `volumes`: a named volume, or a file or folder of the repository (`bind`)."""

    source: str
    target: str
    read_only: bool

    @property
    def bind(self) -> bool:
        """Whether the source is a path rather than the name of a volume."""
        return self.source.startswith((".", "/", "~"))

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read the short syntax SOURCE:TARGET[:ro]."""
        source, target, *options = text.split(":")
        return cls(source, target, "ro" in options)


@dataclass(frozen=True, slots=True)
class Service:
    """One service, its variables replaced."""

    name: str
    image: str
    environment: dict[str, str] = field(repr=False)
    command: tuple[str, ...]
    mounts: tuple[Mount, ...]
    health: tuple[str, ...]
    depends_on: dict[str, str]
    grace: float
    """Seconds between SIGTERM and SIGKILL."""

    @property
    def health_path(self) -> str | None:
        """Path of the URL that the health check asks, if it asks one."""
        match = _HEALTH_PATH.search(" ".join(self.health))
        return match[1] if match else None


@dataclass(frozen=True, slots=True)
class Compose:
    """The services by name."""

    services: dict[str, Service]

    def __getitem__(self, name: str) -> Service:
        """Return one service.

        Raises:
            StackError: there is none of that name.

        """
        if name not in self.services:
            msg = f"docker-compose.yml has no service {name!r}; it has {', '.join(self.services)}"
            raise StackError(msg)
        return self.services[name]

    @classmethod
    def load(cls, path: Path, values: Mapping[str, str]) -> Self:
        """Read the file and replace its variables with `values`.

        Raises:
            StackError: a required variable has no value.

        """
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
        return cls({name: _service(name, _replace(body, values)) for name, body in document["services"].items()})


def _replace(node: Any, values: Mapping[str, str]) -> Any:
    match node:
        case str():
            return interpolate(node, values)
        case list():
            return [_replace(item, values) for item in node]
        case dict():
            return {key: _replace(item, values) for key, item in node.items()}
        case _:
            return node


def _service(name: str, body: dict[str, Any]) -> Service:
    dependencies = body.get("depends_on", {})
    return Service(
        name=name,
        image=body.get("image", ""),
        environment={key: "" if value is None else str(value) for key, value in body.get("environment", {}).items()},
        command=tuple(str(part) for part in body.get("command", ())),
        mounts=tuple(Mount.parse(text) for text in body.get("volumes", ())),
        health=tuple(str(part) for part in body.get("healthcheck", {}).get("test", ())),
        depends_on={other: details.get("condition", "") for other, details in dependencies.items()},
        grace=_seconds(str(body.get("stop_grace_period", "10s"))),
    )


def _seconds(text: str) -> float:
    match = re.fullmatch(r"(\d+)(s|m)", text)
    if not match:
        msg = f"stop_grace_period {text!r}: write it in seconds (30s) or minutes (2m)"
        raise StackError(msg)
    return float(match[1]) * (60 if match[2] == "m" else 1)
