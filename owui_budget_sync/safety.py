"""Stops a plan that would take away too much: a broken source looks just like an admin who deleted everything.

Only disappearances count. An admin who takes the limits off a group that still exists, or edits a thousand of them, is
believed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from owui_budget.errors import FinalError
from owui_budget.policy_store import StoredGroup, StoredUser
from owui_budget_sync.changes import Change, MembersChanged, Removed
from owui_budget_sync.planner import Plan
from owui_budget_sync.state import PolicyState, Totals

SMALLEST = 10
"""A share of fewer objects than this says nothing: two of three groups may well be deleted on an afternoon."""


@dataclass(frozen=True, slots=True)
class Loss:
    """How many of how many things would disappear."""

    what: str
    lost: int
    before: int

    @property
    def percentage(self) -> int:
        """The lost share, rounded down to whole percents."""
        return self.lost * 100 // self.before if self.before else 0


class UnsafePlanError(FinalError):
    """The plan would take away more than may disappear in one sync; nothing was changed."""

    def __init__(self, losses: tuple[Loss, ...], threshold: int, digest: str) -> None:
        """Say the numbers and the way out."""
        self.losses = losses
        self.digest = digest
        numbers = " and ".join(_words(each, threshold) for each in losses)
        super().__init__(
            f"this sync would remove {numbers}, so nothing was changed; if Open WebUI is right, run "
            f"`owui-budget apply --accept {digest}`, else mend Open WebUI and the next sync goes on by itself"
        )


def check(
    plan: Plan, desired: PolicyState, totals: Totals, *, threshold: int, member_counts: Mapping[str, int]
) -> None:
    """Let `plan` pass or stop it.

    `threshold` is a percentage; `totals` and `member_counts` (by group id) are those before the plan.

    Raises:
        UnsafePlanError: the source came back empty, or more than the threshold would disappear.

    """
    losses = measure(plan.changes, totals, member_counts)
    empty = {"groups": not desired.groups, "users": desired.users is not None and not desired.users}
    unsafe = tuple(
        loss
        for loss in losses
        if (loss.before >= SMALLEST and loss.lost * 100 > threshold * loss.before)
        or (empty.get(loss.what, False) and loss.lost)
    )
    if unsafe:
        raise UnsafePlanError(unsafe, threshold, plan.digest)


def measure(changes: tuple[Change, ...], totals: Totals, member_counts: Mapping[str, int]) -> tuple[Loss, ...]:
    """Count what would disappear: groups, memberships (those of groups that go included) and users."""
    groups = members = users = 0
    for change in changes:
        match change:
            case MembersChanged():
                members += len(change.removed)
            case Removed(object=StoredGroup(id=group_id)):
                groups += 1
                members += member_counts.get(group_id, 0)
            case Removed(object=StoredUser()):
                users += 1
            case _:
                pass
    return (
        Loss("groups", groups, totals.groups),
        Loss("memberships", members, totals.members),
        Loss("users", users, totals.users),
    )


def _words(loss: Loss, threshold: int) -> str:
    if loss.lost == loss.before:
        return f"all {loss.before:,} {loss.what}"
    return f"{loss.lost:,} of {loss.before:,} {loss.what} ({loss.percentage} %, allowed are {threshold} %)"
