"""docs/limits.md says what the rules do: its JSON parses, its worked example comes out as printed."""

import json
import re
from pathlib import Path

import pytest

from owui_budget.domain.identity import Caller, Subject
from owui_budget.domain.limits import (
    DEFAULT_PRIORITY,
    MAX_PRIORITY,
    MAX_TOKENS,
    Bounds,
    Scope,
    UsageLimits,
    parse_limits,
)
from owui_budget.domain.policy import Group, Policy, PolicyRules, Strategy
from owui_budget.domain.windows import Window

TEXT = (Path(__file__).parents[3] / "docs" / "limits.md").read_text(encoding="utf-8")


def rows(header: str) -> list[list[str]]:
    """The cells of the table whose first line is `header`."""
    lines = TEXT[TEXT.index(header) :].splitlines()[2:]
    table = lines[: next(number for number, line in enumerate(lines) if not line.startswith("|"))]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table]


def number(cell: str) -> int | None:
    return None if cell == "none" else int(cell.replace(",", ""))


def test_the_example_is_valid() -> None:
    examples = re.findall(r"```json\n(.*?)```", TEXT, re.DOTALL)
    assert examples
    for example in examples:
        assert parse_limits(json.loads(example))


def test_every_name_and_bound_is_documented() -> None:
    named = set(re.findall(r"`(\w+)`", " ".join(row[0] for row in rows("| part | meaning |"))))
    assert named == {"version", "priority", "soft", "hard", *Window, *Scope}
    for figure in (MAX_TOKENS, MAX_PRIORITY, DEFAULT_PRIORITY):
        assert f"{figure:,}" in TEXT


def example_policy(strategy: Strategy) -> Policy:
    groups = {}
    for name, priority, daily, monthly in rows("| group | priority |"):
        member = {Window.DAILY: Bounds(hard=number(daily)), Window.MONTHLY: Bounds(hard=number(monthly))}
        groups[name] = Group(name, name, limits=UsageLimits(int(priority), member))
    return Policy(groups, PolicyRules(strategy))


def test_every_strategy_is_in_the_worked_example() -> None:
    assert {row[0].strip("`") for row in rows("| `resolution` |")} == set(Strategy)


@pytest.mark.parametrize("row", rows("| `resolution` |"), ids=lambda row: row[0])
def test_the_worked_example_comes_out_as_printed(row: list[str]) -> None:
    policy = example_policy(Strategy(row[0].strip("`")))
    subject = Subject(Caller.OPENWEBUI, "u", group_ids=frozenset(policy.groups))
    limits = policy.resolve(subject).limits
    for window, cell in ((Window.DAILY, row[1]), (Window.MONTHLY, row[2])):
        hards = [each.bounds.hard for each in limits if each.window is window and each.bounds.hard is not None]
        assert min(hards, default=None) == number(cell)
