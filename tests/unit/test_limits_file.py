"""limits.yaml: every mistake is named, nothing is misread in silence, and docs/configuration.md names every field."""

import re
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from owui_budget.domain.decisions import Admission
from owui_budget.domain.limits import Bounds
from owui_budget.domain.policy import PolicyRules, Strategy
from owui_budget.domain.windows import Window
from owui_budget.errors import ConfigurationError
from owui_budget.limits_file import Admins, EstimateSettings, Limits, OnLedgerError, load_limits

DOCUMENT = (Path(__file__).parents[2] / "docs" / "configuration.md").read_text(encoding="utf-8")


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "limits.yaml"


def fault(file: Path) -> str:
    """The text of the error, without the place it begins with."""
    with pytest.raises(ConfigurationError) as caught:
        load_limits(file)
    text = str(caught.value)
    assert str(file) in text
    return text.replace(f"{file}:\n  ", "").replace(str(file), "FILE")


# --- what can be written ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "{}", "null", "\ufeff# with a byte order mark"])
def test_an_empty_file_is_all_defaults(file: Path, text: str) -> None:
    file.write_text(text, encoding="utf-8")
    assert load_limits(file) == Limits() == load_limits(None)


def test_a_whole_file(file: Path) -> None:
    file.write_text(
        """
timezone: Europe/Berlin
resolution: most_generous
defaults: {member: {daily: {soft: 80_000, hard: 100000}, monthly: null}}
service: {member: {hourly: {hard: 5}}}
admins: limited
on_ledger_error: closed
weights: {"gpt-5*": 3, "*-mini": 0.1, free: 0}
thresholds: []
tasks: []
estimate: {per_part: 5}
reserve_timeout: 2
"""
    )
    limits = load_limits(file)
    assert str(limits.zone) == "Europe/Berlin"
    assert limits.rules.strategy is Strategy.MOST_GENEROUS
    assert limits.rules.defaults is not None
    assert limits.rules.defaults.member == {Window.DAILY: Bounds(80_000, 100_000)}
    assert limits.rules.service is not None
    assert limits.rules.service.member == {Window.HOURLY: Bounds(hard=5)}
    assert not limits.rules.admins_exempt
    assert limits.model_weights.of("x-mini") == Decimal("0.1")
    assert list(limits.weights) == ["gpt-5*", "*-mini", "free"]
    assert (limits.thresholds, limits.tasks) == ((), frozenset())
    assert (limits.estimate.ceilings.per_part, limits.estimate.ceilings.per_message) == (5, 16)


def test_the_defaults_are_the_rules_own() -> None:
    assert Limits().rules == PolicyRules()
    assert Limits().model_weights.of("any") == 1


def test_nothing_can_be_changed_after_reading() -> None:
    with pytest.raises(ValueError, match="frozen"):
        Limits().admins = Admins.LIMITED


STRICT = [
    ("admission: strict", OnLedgerError.CLOSED),
    ("{admission: strict, on_ledger_error: closed}", OnLedgerError.CLOSED),
    ("admission: last_request", OnLedgerError.OPEN),
    ("on_ledger_error: closed", OnLedgerError.CLOSED),
]


@pytest.mark.parametrize(("text", "on_error"), STRICT)
def test_strict_implies_closed(file: Path, text: str, on_error: OnLedgerError) -> None:
    file.write_text(text)
    assert load_limits(file).on_ledger_error is on_error
    assert (load_limits(file).admission is Admission.STRICT) == ("strict" in text)


# --- one tiny wrong file per mistake ------------------------------------------------------------------------------

MISTAKES = [
    ("timezon: UTC", "timezon: unknown name; see docs/configuration.md"),
    ("estimate: {per_mesage: 1}", "estimate.per_mesage: unknown name; see docs/configuration.md"),
    ("1: 2", "1: Keys should be strings"),
    ("timezone: CEST", "timezone: 'CEST' is no IANA time zone; use a name like Europe/Berlin or UTC"),
    ("timezone: europe", "timezone: 'europe' is no IANA time zone; use a name like Europe/Berlin or UTC"),
    ("timezone: Europe", "timezone: 'Europe' is no IANA time zone; use a name like Europe/Berlin or UTC"),
    ("timezone: ''", "timezone: '' is no IANA time zone; use a name like Europe/Berlin or UTC"),
    ("timezone: ../UTC", "timezone: '../UTC' is no IANA time zone; use a name like Europe/Berlin or UTC"),
    (
        "timezone: /etc/localtime",
        "timezone: '/etc/localtime' is no IANA time zone; use a name like Europe/Berlin or UTC",
    ),
    ("timezone: 2", "timezone: Input should be a valid string"),
    ("timezone: null", "timezone: Input should be a valid string"),
    (
        "resolution: most_generus",
        "resolution: Input should be 'lowest_priority_number', 'most_generous', 'most_restrictive' or 'all'",
    ),
    ("admins: no", "admins: Input should be 'exempt' or 'limited'"),
    ("admission: hard", "admission: Input should be 'last_request' or 'strict'"),
    ("on_ledger_error: off", "on_ledger_error: Input should be 'open' or 'closed'"),
    (
        "{admission: strict, on_ledger_error: open}",
        "(the whole): admission: strict implies on_ledger_error: closed; remove on_ledger_error or set it to closed",
    ),
    ("cache_hits: 0", "cache_hits: Input should be 'free' or 'charge'"),
    ("ungoverned: true", "ungoverned: Input should be 'refuse' or 'allow'"),
    ("batches: yes", "batches: Input should be 'refuse' or 'allow'"),
    ("match_email: maybe", "match_email: Input should be a valid boolean, unable to interpret input"),
    ("defaults: 100000", "defaults: usage_limits must be an object, not a number"),
    ("defaults: {daily: {hard: 5}}", "defaults: only `member` limits can be set here, not daily"),
    ("defaults: {pool: {daily: {hard: 5}}}", "defaults: only `member` limits can be set here, not pool"),
    ("service: {priority: 1}", "service: only `member` limits can be set here, not priority"),
    ("service: {2: 1}", "service: only `member` limits can be set here, not 2"),
    ("defaults: {member: []}", "defaults: member must be an object of windows, not a list"),
    (
        "defaults: {member: {daily: {soft: 9, hard: 5}}}",
        "defaults: member.daily.soft (9) is above member.daily.hard (5)",
    ),
    (
        "defaults: {member: {daily: {hard: 1e6}}}",
        "defaults: member.daily.hard must be a whole number of tokens, not '1e6'",
    ),
    (
        "defaults: {member: {yearly: {hard: 1}}}",
        "defaults: member has the unknown key 'yearly'; known are daily, hourly, monthly, weekly",
    ),
    ("open_for: -1", "open_for: Input should be greater than or equal to 0"),
    ("open_for: 86401", "open_for: Input should be less than or equal to 86400"),
    ("open_for: true", "open_for: must be a number, not true or false"),
    ("open_for: 1.5", "open_for: Input should be a valid integer, got a number with a fractional part"),
    ("open_for: 5 min", "open_for: Input should be a valid integer, unable to parse string as an integer"),
    ("open_for: [5]", "open_for: Input should be a valid integer"),
    ("reserve_timeout: 0", "reserve_timeout: Input should be greater than 0"),
    ("reserve_timeout: .nan", "reserve_timeout: Input should be greater than 0"),
    ("reserve_timeout: .inf", "reserve_timeout: Input should be less than or equal to 60"),
    ("reserve_timeout: true", "reserve_timeout: must be a number, not true or false"),
    ("lease: 9", "lease: Input should be greater than or equal to 10"),
    ("task_allowance: false", "task_allowance: must be a number, not true or false"),
    ("task_allowance: 1000000000000000", "task_allowance: Input should be less than or equal to 999999999999999"),
    ("tasks: title_generation", "tasks: Input should be a valid frozenset"),
    ("tasks: [1]", "tasks.0: Input should be a valid string"),
    ("weights: gpt-5", "weights: Input should be a valid dictionary"),
    ("weights: {gpt-5: -1}", "weights.gpt-5: Input should be greater than or equal to 0"),
    ("weights: {gpt-5: heavy}", "weights.gpt-5: Input should be a valid decimal"),
    ("weights: {gpt-5: .nan}", "weights.gpt-5: Input should be a finite number"),
    ("weights: {gpt-5: .inf}", "weights.gpt-5: Input should be a finite number"),
    ("weights: {gpt-5: 1000001}", "weights.gpt-5: Input should be less than or equal to 1000000"),
    (
        "weights: {gpt-5: 1.0e-13}",
        "weights.gpt-5: Decimal input should have no more than 12 decimal places",
    ),
    ("weights: {gpt-5: true}", "weights.gpt-5: Decimal input should be an integer, float, string or Decimal object"),
    ("weights: {5: 1}", "weights.5.[key]: Input should be a valid string"),
    ("route_charges: {speech: -1}", "route_charges.speech: Input should be greater than or equal to 0"),
    ("route_charges: {speech: true}", "route_charges.speech: must be a number, not true or false"),
    ("thresholds: 75", "thresholds: Input should be a valid tuple"),
    ("thresholds: [0]", "thresholds.0: Input should be greater than or equal to 1"),
    ("thresholds: [75, 101]", "thresholds.1: Input should be less than or equal to 100"),
    ("thresholds: [true]", "thresholds.0: must be a number, not true or false"),
    (f"contact: {'x' * 201}", "contact: String should have at most 200 characters"),
    ("estimate: 5", "estimate: Input should be a valid dictionary or instance of EstimateSettings"),
    ("estimate: {completion_ceiling: 0}", "estimate.completion_ceiling: Input should be greater than or equal to 1"),
    ("estimate: {per_part: -1}", "estimate.per_part: Input should be greater than or equal to 0"),
    ("retention_days: 61", "retention_days: Input should be greater than or equal to 62"),
    ("mirror_members_max: false", "mirror_members_max: must be a number, not true or false"),
    ("- timezone: UTC", "FILE must hold a mapping such as `timezone: Europe/Berlin`"),
    ("UTC", "FILE must hold a mapping such as `timezone: Europe/Berlin`"),
    # every fault at once
    (
        "{lease: 1, admins: no, x: 1}",
        "admins: Input should be 'exempt' or 'limited'\n"
        "  lease: Input should be greater than or equal to 10\n"
        "  x: unknown name; see docs/configuration.md",
    ),
]


@pytest.mark.parametrize(("text", "said"), MISTAKES, ids=[text for text, _ in MISTAKES])
def test_a_mistake_is_named_with_its_place(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    assert fault(file) == said


NO_YAML = [
    ("timezone: [", "while parsing a flow node"),
    ("timezone: UTC\n\tadmins: exempt", "cannot start any token"),
    ("\x00", "special characters are not allowed"),
    ("? [1]\n: 2", "unhashable key"),
    ("a: *b", "undefined alias"),
    ("!!python/object/apply:os.system [ls]", "could not determine a constructor"),
    ("timezone: UTC\nadmins: exempt\ntimezone: Europe/Berlin", "'timezone' is written twice"),
    ("weights: {a: 1, b: 2, 'a': 3}", "'a' is written twice"),
    ("defaults: {member: {daily: {hard: 0100}}}", "'0100' is no plain decimal number"),
    ("lease: 0x40", "'0x40' is no plain decimal number"),
    ("open_for: 5:00", "'5:00' is no plain decimal number"),
    (f"lease: {'9' * 5_000}", "is no plain decimal number of at most 30 digits"),
    ("contact: 2026-13-01", "month must be in 1..12"),
    ("[" * 1_500, "maximum recursion depth exceeded"),
]


@pytest.mark.parametrize(("text", "said"), NO_YAML, ids=[text[:20] for text, _ in NO_YAML])
def test_what_yaml_would_misread_is_refused(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    message = fault(file)
    assert message.startswith("FILE is not valid YAML: ")
    assert said in message
    assert len(message) < 500


def test_a_file_that_is_not_utf_8_is_refused(file: Path) -> None:
    file.write_bytes(b"contact: \xff")
    assert fault(file).startswith("FILE is not valid YAML: 'utf-8' codec can't decode")


def test_a_merged_mapping_is_no_repetition(file: Path) -> None:
    file.write_text("defaults: &some {member: {daily: {hard: 5}}}\nservice: {<<: *some, member: {daily: {hard: 6}}}\n")
    assert load_limits(file).service.member == {Window.DAILY: Bounds(hard=6)}


def test_a_missing_file_says_what_to_do(file: Path) -> None:
    assert fault(file) == (
        "cannot read FILE: No such file or directory; set OWUI_BUDGET_LIMITS_FILE to the file, or unset it for defaults"
    )


def test_a_folder_is_no_file(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="Is a directory"):
        load_limits(tmp_path)


# --- the digest by which processes see that they read different files ---------------------------------------------

SAME = 'from owui_budget.limits_file import Limits; print(Limits(tasks={"b", "a", "c", "d"}).digest)'


def test_the_digest_is_the_same_in_every_process() -> None:
    digests = {
        subprocess.run(  # noqa: S603 - our own interpreter
            [sys.executable, "-c", SAME], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    assert len(digests) == 1


@pytest.mark.parametrize(
    "other",
    [{"lease": 121}, {"defaults": {"member": {"daily": {"hard": 5}}}}, {"weights": {"b": 1, "a": 2}}, {"tasks": []}],
)
def test_the_digest_differs_with_the_content(other: dict[str, Any]) -> None:
    same = {"weights": {"a": 2, "b": 1}}
    assert Limits.model_validate(same).digest == Limits.model_validate(same).digest
    assert Limits.model_validate(other).digest != Limits.model_validate(same).digest


# --- docs/configuration.md ----------------------------------------------------------------------------------------


def documented() -> dict[str, list[str]]:
    """Name → the other cells of its row (default, allowed, meaning)."""
    part = DOCUMENT[DOCUMENT.index("## limits.yaml") : DOCUMENT.index("### Rules of the file")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in part.splitlines() if line[:3] == "| `"]
    names = [row[0].strip("`") for row in rows]
    assert len(names) == len(set(names)), "a field is documented twice"
    return {name: row[1:] for name, row in zip(names, rows, strict=True)}


def fields() -> dict[str, tuple[type[BaseModel], str, FieldInfo]]:
    top = {name: (Limits, name, field) for name, field in Limits.model_fields.items() if name != "estimate"}
    below = {
        f"estimate.{name}": (EstimateSettings, name, field) for name, field in EstimateSettings.model_fields.items()
    }
    return {**top, **below}


def test_every_field_is_documented_and_nothing_else() -> None:
    assert documented().keys() == fields().keys()


@pytest.mark.parametrize("name", fields())
def test_the_documented_default_is_the_default(name: str) -> None:
    model, field, _ = fields()[name]
    default = yaml.safe_load(documented()[name][0].strip("`"))
    assert getattr(model.model_validate({field: default}), field) == getattr(model(), field)


@pytest.mark.parametrize("name", fields())
def test_the_documented_range_is_the_range(name: str) -> None:
    model, field, _ = fields()[name]
    schema = str(model.model_json_schema()["properties"][field])
    figures = re.findall(r"'(?:exclusiveM|m)(?:inimum|aximum|axLength)': ([\d.]+)", schema)
    allowed = documented()[name][1]
    for figure in figures:
        assert re.search(rf"(?<![\d,]){float(figure):,.0f}(?!\d|,\d)", allowed), f"{figure} is missing"


@pytest.mark.parametrize(
    "name", ["resolution", "admins", "admission", "on_ledger_error", "cache_hits", "ungoverned", "batches"]
)
def test_every_choice_is_documented(name: str) -> None:
    choices = type(getattr(Limits(), name))
    assert documented()[name][1] == ", ".join(f"`{choice}`" for choice in choices)


EXAMPLES = re.findall(r"```yaml\n(.*?)```", DOCUMENT, re.DOTALL)


@pytest.mark.parametrize("example", EXAMPLES)
def test_the_examples_are_valid(file: Path, example: str) -> None:
    file.write_text(example)
    assert load_limits(file) != Limits()


def documented_mistakes() -> list[tuple[str, str]]:
    part = DOCUMENT[DOCUMENT.index("| mistake |") : DOCUMENT.index("## Environment")]
    return [
        (mistake, said.strip())
        for line in part.splitlines()
        if line.startswith("| `")
        for mistake, said in re.findall(r"^\| `(.*?)` \| `+(.*?)`+ \|$", line)
    ]


@pytest.mark.parametrize(("text", "said"), documented_mistakes())
def test_the_documented_mistakes_are_answered_as_printed(file: Path, text: str, said: str) -> None:
    file.write_text(text)
    assert fault(file) == said


def test_there_are_examples_of_both_kinds() -> None:
    assert len(EXAMPLES) >= 2
    assert len(documented_mistakes()) >= 5


def test_the_shipped_file_is_valid() -> None:
    load_limits(Path(__file__).parents[2] / "proxy_config" / "limits.yaml")
