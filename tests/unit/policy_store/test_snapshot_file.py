import json
from pathlib import Path

import pytest

from owui_budget.domain.limits import Bounds, UsageLimits
from owui_budget.domain.policy import Group
from owui_budget.domain.windows import Window
from owui_budget.policy_store import Snapshot, SnapshotFileError, load_snapshot, save_snapshot

SNAPSHOT = Snapshot(
    12,
    {
        "g0": Group("g0", "Everybody"),
        "g1": Group(
            "g1", "Größe 🎓", "g0", UsageLimits(20, {Window.DAILY: Bounds(1, 2)}, {Window.MONTHLY: Bounds(None, 9)})
        ),
        "g2": Group("g2", "Nothing yet", None, UsageLimits(3)),
    },
)


def test_load_is_the_inverse_of_save(tmp_path: Path) -> None:
    path = tmp_path / "new folder" / "policy.json"
    save_snapshot(path, SNAPSHOT)
    assert load_snapshot(path) == SNAPSHOT
    save_snapshot(path, Snapshot(13, {}))
    assert load_snapshot(path) == Snapshot(13, {})
    assert [each.name for each in path.parent.iterdir()] == ["policy.json"]


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        "null",
        '{"version": 2, "revision": 1, "groups": []}',
        '{"version": 1, "revision": 1}',
        '{"version": 1, "revision": "x", "groups": []}',
        '{"version": 1, "revision": 1, "groups": [{"id": "g"}]}',
        '{"version": 1, "revision": 1, "groups": [{"id": "g", "name": "n", "parent_id": null, "limits": {}}]}',
        '{"version": 1, "revision": 1, "groups": 5}',
    ],
)
def test_a_damaged_file_is_a_named_error(tmp_path: Path, content: str) -> None:
    path = tmp_path / "policy.json"
    path.write_text(content)
    with pytest.raises(SnapshotFileError, match=r"policy\.json"):
        load_snapshot(path)


def test_a_missing_file_is_a_named_error(tmp_path: Path) -> None:
    with pytest.raises(SnapshotFileError):
        load_snapshot(tmp_path / "none.json")


def test_a_failed_write_keeps_the_old_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "policy.json"
    save_snapshot(path, SNAPSHOT)

    def full(_descriptor: int) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="no space"):
        save_snapshot(path, Snapshot(13, {}))
    assert load_snapshot(path) == SNAPSHOT
    assert list(tmp_path.iterdir()) == [path]


def test_the_file_holds_no_more_than_groups(tmp_path: Path) -> None:
    path = tmp_path / "policy.json"
    save_snapshot(path, SNAPSHOT)
    assert json.loads(path.read_text()).keys() == {"version", "revision", "groups"}
