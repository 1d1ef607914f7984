"""The limits and memberships in force: written by sync, read by the hooks."""

from owui_budget.policy_store.snapshot_file import SnapshotFileError, load_snapshot, save_snapshot
from owui_budget.policy_store.store import FenceLostError, SqlPolicyStore
from owui_budget.policy_store.values import (
    ChangeMembers,
    Fence,
    PolicyChange,
    PolicyUser,
    PutGroup,
    PutUser,
    RemoveGroup,
    RemoveUser,
    Snapshot,
    StoredGroup,
    StoredUser,
)

__all__ = [
    "ChangeMembers",
    "Fence",
    "FenceLostError",
    "PolicyChange",
    "PolicyUser",
    "PutGroup",
    "PutUser",
    "RemoveGroup",
    "RemoveUser",
    "Snapshot",
    "SnapshotFileError",
    "SqlPolicyStore",
    "StoredGroup",
    "StoredUser",
    "load_snapshot",
    "save_snapshot",
]
