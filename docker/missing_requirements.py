# A script that runs inside an image, beside no package.  # noqa: INP001
"""Print those entries of a hash-locked requirements file whose package this Python does not have, in any version."""

import re
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

_ENTRY = re.compile(r"^([A-Za-z0-9._-]+)(\[[^\]]*\])?==")


def missing(lock: str) -> str:
    """Return the entries (name, version, marker and hashes) of packages that are not installed."""
    kept: list[str] = []
    keep = False
    for line in lock.splitlines():
        match = _ENTRY.match(line)
        if match:
            keep = not _installed(match[1])
        if keep and not line.lstrip().startswith("#"):
            kept.append(line)
    return "\n".join(kept) + "\n"


def _installed(name: str) -> bool:
    try:
        version(name)
    except PackageNotFoundError:
        return False
    return True


if __name__ == "__main__":
    sys.stdout.write(missing(Path(sys.argv[1]).read_text(encoding="utf-8")))
