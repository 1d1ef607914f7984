"""The last snapshot, kept on disk: lets the hooks start, and go on limiting, while the database is away.

Versioned JSON, written beside its place and renamed into it, so that a reader sees the old file or the new one and
never half of one. It holds group names and limits, no users and no secrets.
"""

import contextlib
import json
import os
import tempfile
from pathlib import Path
from typing import Any

from owui_budget.domain.limits import parse_limits
from owui_budget.domain.policy import Group
from owui_budget.errors import FinalError
from owui_budget.policy_store.values import Snapshot

VERSION = 1


class SnapshotFileError(FinalError):
    """The file is missing, damaged, or written by another version."""


def save_snapshot(path: Path, snapshot: Snapshot) -> None:
    """Write `snapshot` to `path` atomically.

    Raises:
        OSError: the folder cannot be written; the previous file is untouched.

    """
    content = json.dumps(
        {"version": VERSION, "revision": snapshot.revision, "groups": [_print(each) for each in _sorted(snapshot)]},
        ensure_ascii=False,
        separators=(",", ":"),
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    # A name of its own per writer: several hook processes may share the folder.
    descriptor, name = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
    try:
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        Path(name).replace(path)
    except BaseException:  # whatever stopped the write, the half-written file must not stay behind
        with contextlib.suppress(OSError):
            Path(name).unlink()
        raise


def load_snapshot(path: Path) -> Snapshot:
    """Read what `save_snapshot` wrote.

    Raises:
        SnapshotFileError: the file is missing, damaged, or of another version.

    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:  # ValueError: no UTF-8, or no JSON
        msg = f"cannot use the policy snapshot {path}: {error}; it is written anew once the database answers"
        raise SnapshotFileError(msg) from error
    try:
        if content["version"] != VERSION:
            msg = f"version {content['version']!r} where this release writes {VERSION}"
            raise ValueError(msg)  # noqa: TRY301 - one place words every fault of the file
        groups = [_parse(each) for each in content["groups"]]
        return Snapshot(int(content["revision"]), {group.id: group for group in groups})
    except (KeyError, TypeError, ValueError) as error:  # InvalidLimitsError is a ValueError
        msg = f"cannot use the policy snapshot {path}: {error}; it is written anew once the database answers"
        raise SnapshotFileError(msg) from error


def _sorted(snapshot: Snapshot) -> list[Group]:
    return [snapshot.groups[group_id] for group_id in sorted(snapshot.groups)]


def _print(group: Group) -> dict[str, Any]:
    return {
        "id": group.id,
        "name": group.name,
        "parent_id": group.parent_id,
        "limits": group.limits.to_json() if group.limits is not None else None,
    }


def _parse(value: dict[str, Any]) -> Group:
    return Group(str(value["id"]), str(value["name"]), value["parent_id"], parse_limits(value["limits"]))
