"""Turn a container's environment into one for a process here: other hosts, ports and paths, else the same."""

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from stack.compose import Mount

LOOPBACK = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class Address:
    """Where a service listens: on its own container's port in compose, on `port` of the loopback interface here."""

    container_port: int
    port: int


@dataclass(frozen=True, slots=True)
class Rewriting:
    """The addresses of all services, and where the folders of one service's mounts are."""

    addresses: Mapping[str, Address]
    paths: Mapping[str, Path]

    def text(self, value: str) -> str:
        """Replace `//service:port`, `@service:port` and mounted paths in `value`."""
        for name, address in self.addresses.items():
            pattern = rf"(?<=[/@]){re.escape(name)}:{address.container_port}(?!\d)"
            value = re.sub(pattern, f"{LOOPBACK}:{address.port}", value)
        # The longest path first: a mount may lie inside another.
        for container, local in sorted(self.paths.items(), key=lambda item: -len(item[0])):
            replacement = str(local).replace("\\", r"\\")
            value = re.sub(rf"(?<![\w/.-]){re.escape(container)}(?=/|$)", replacement, value)
        return value

    def environment(self, environment: Mapping[str, str]) -> dict[str, str]:
        """Rewrite all values."""
        return {name: self.text(value) for name, value in environment.items()}


def listen_on(environment: Mapping[str, str], host_name: str, port_name: str, port: int) -> dict[str, str]:
    """Return `environment` with the listening host and port replaced.

    In a container 0.0.0.0 is the container's own network; here it would be the machine's.
    """
    return {**environment, host_name: LOOPBACK, port_name: str(port)}


def mounted_paths(mounts: Iterable[Mount], root: Path, volumes: Path, replaced: Mapping[str, Path]) -> dict[str, Path]:
    """Return the local path of each mount: the repository's file, or a folder under `volumes` for a named volume.

    `replaced` puts other paths in the place of a mount's source, as tests do.
    """
    paths = {}
    for mount in mounts:
        if mount.source in replaced:
            paths[mount.target] = replaced[mount.source]
        elif mount.bind:
            paths[mount.target] = (root / PurePosixPath(mount.source)).resolve()
        else:
            (volumes / mount.source).mkdir(parents=True, exist_ok=True)
            paths[mount.target] = volumes / mount.source
    return paths
