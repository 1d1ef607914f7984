"""limits.yaml: what the operator decides for the whole installation.

Group limits live in Open WebUI; this file holds everything else that is policy rather than wiring: the time zone, how
limits of several groups combine, defaults, weights, and what happens when the ledger cannot be reached.
"""

import hashlib
import re
from decimal import Decimal
from enum import StrEnum
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Self
from zoneinfo import ZoneInfo

import yaml
from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator
from yaml.composer import ComposerError
from yaml.constructor import ConstructorError

from owui_budget.domain.charge import Weights
from owui_budget.domain.decisions import Admission
from owui_budget.domain.estimate import Ceilings
from owui_budget.domain.limits import DEFAULT_PRIORITY, VERSION, InvalidLimitsError, UsageLimits, parse_limits
from owui_budget.domain.policy import PolicyRules, Strategy
from owui_budget.errors import ConfigurationError

COUNTED_TASKS_EXEMPT = (
    "title_generation",
    "tags_generation",
    "follow_up_generation",
    "emoji_generation",
    "query_generation",
    "autocomplete_generation",
)
"""Open WebUI's background tasks that do not count, up to the task allowance (the values of its {{TASK}} header)."""


class Admins(StrEnum):
    """Whether limits hold for admins of Open WebUI. They are recorded either way."""

    EXEMPT = "exempt"
    LIMITED = "limited"


class OnLedgerError(StrEnum):
    """What happens to calls while the ledger cannot be reached."""

    OPEN = "open"
    CLOSED = "closed"


class CacheHits(StrEnum):
    """What an answer from LiteLLM's cache is charged."""

    FREE = "free"
    CHARGE = "charge"


class Ungoverned(StrEnum):
    """What happens to call types that are not in the tested table, and to batches."""

    REFUSE = "refuse"
    ALLOW = "allow"


def _zone(name: str) -> str:
    try:
        ZoneInfo(name)
    except (KeyError, ValueError, OSError) as error:  # ZoneInfoNotFoundError is a KeyError
        msg = f"{name!r} is no IANA time zone; use a name like Europe/Berlin or UTC"
        raise ValueError(msg) from error
    return name


def _member_limits(value: object) -> UsageLimits | None:
    if value is None or isinstance(value, UsageLimits):
        return value
    if isinstance(value, dict):
        unknown = value.keys() - {"member"}
        if unknown:
            msg = f"only `member` limits can be set here, not {', '.join(sorted(map(str, unknown)))}"
            raise ValueError(msg)
        value = {"version": VERSION, "priority": DEFAULT_PRIORITY, **value}
    try:
        return parse_limits(value)
    except InvalidLimitsError as error:
        raise ValueError(str(error)) from error


def _number(value: object) -> object:
    if isinstance(value, bool):  # pydantic would read 1 and 0: `task_allowance: false` would allow nothing
        msg = "must be a number, not true or false"
        raise ValueError(msg)  # noqa: TRY004 - pydantic collects ValueErrors
    return value


_NUMBER = BeforeValidator(_number)

MemberLimits = Annotated[Any, BeforeValidator(_member_limits)]
Tokens = Annotated[int, _NUMBER, Field(ge=0, le=10**15 - 1)]
Percentage = Annotated[int, _NUMBER, Field(ge=1, le=100)]
Weight = Annotated[Decimal, Field(ge=0, le=1_000_000, decimal_places=12)]


class _Section(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class EstimateSettings(_Section):
    """Figures behind the estimates, in tokens."""

    completion_floor: Tokens = 256
    """What one answer is expected to take before anything has been learned about its model."""
    completion_ceiling: Annotated[int, _NUMBER, Field(ge=1, le=1_000_000)] = 32_000
    """The most that is held for one answer (last_request admission), so that an absurd `max_tokens` blocks no pool."""
    per_message: Tokens = 16
    """Ceiling of what a chat template adds to one message (strict admission)."""
    per_part: Tokens = 2_000
    """Ceiling of one image, audio clip or file."""

    @property
    def ceilings(self) -> Ceilings:
        """The ceilings as the rules take them."""
        return Ceilings(per_message=self.per_message, per_part=self.per_part)


class Limits(_Section):
    """The parsed file. Every field has the default that holds when the file does not name it."""

    timezone: Annotated[str, AfterValidator(_zone)] = "UTC"
    resolution: Strategy = Strategy.LOWEST_PRIORITY_NUMBER
    defaults: MemberLimits = None
    service: MemberLimits = None
    admins: Admins = Admins.EXEMPT
    admission: Admission = Admission.LAST_REQUEST
    on_ledger_error: OnLedgerError = OnLedgerError.OPEN
    open_for: Annotated[int, _NUMBER, Field(ge=0, le=86_400)] = 300
    """Seconds per outage and process during which `on_ledger_error: open` admits."""
    reserve_timeout: Annotated[float, _NUMBER, Field(gt=0, le=60)] = 0.5
    """Seconds after which an admission gives up on the ledger."""
    lease: Annotated[int, _NUMBER, Field(ge=10, le=3_600)] = 120
    """Seconds a reservation lives without being renewed."""
    task_allowance: Tokens = 20_000
    """Tokens per user and day that background tasks may take without counting."""
    tasks: frozenset[str] = frozenset(COUNTED_TASKS_EXEMPT)
    weights: dict[str, Weight] = Field(default_factory=dict)
    cache_hits: CacheHits = CacheHits.FREE
    route_charges: dict[str, Tokens] = Field(default_factory=dict)
    """Tokens charged per call on a route whose provider reported no usage, such as `speech: 1000`."""
    ungoverned: Ungoverned = Ungoverned.REFUSE
    batches: Ungoverned = Ungoverned.REFUSE
    match_email: bool = False
    thresholds: tuple[Percentage, ...] = (75, 90)
    """Percentages of a hard limit at which a browser chat shows one toast, beside the soft limit."""
    contact: Annotated[str, Field(max_length=200)] | None = None
    """A line of the operator's own at the end of every refusal."""
    estimate: EstimateSettings = EstimateSettings()
    retention_days: Annotated[int, _NUMBER, Field(ge=62, le=36_500)] = 400
    mirror_members_max: Annotated[int, _NUMBER, Field(ge=0, le=100_000)] = 1_000
    """Teams of more members than this are mirrored to LiteLLM without members."""

    @model_validator(mode="after")
    def _strict_implies_closed(self) -> Self:
        if self.admission is Admission.STRICT and "on_ledger_error" in self.model_fields_set:
            if self.on_ledger_error is OnLedgerError.OPEN:
                msg = "admission: strict implies on_ledger_error: closed; remove on_ledger_error or set it to closed"
                raise ValueError(msg)
        elif self.admission is Admission.STRICT:
            object.__setattr__(self, "on_ledger_error", OnLedgerError.CLOSED)
        return self

    @cached_property
    def zone(self) -> ZoneInfo:
        """The time zone that windows follow."""
        return ZoneInfo(self.timezone)

    @cached_property
    def rules(self) -> PolicyRules:
        """The part of the file that resolution needs."""
        return PolicyRules(
            strategy=self.resolution,
            defaults=self.defaults,
            service=self.service,
            admins_exempt=self.admins is Admins.EXEMPT,
        )

    @cached_property
    def digest(self) -> str:
        """Twelve hex digits that differ when the content does: shows processes that read different files."""
        # Sets print in another order in every process; the order of weights means something and stays.
        content = {**self.model_dump(mode="python"), "tasks": sorted(self.tasks)}
        return hashlib.sha256(repr(sorted(content.items())).encode()).hexdigest()[:12]

    @cached_property
    def model_weights(self) -> Weights:
        """The weights as the rules take them, first matching glob first."""
        return Weights(dict(self.weights))


class _Loader(yaml.SafeLoader):
    """YAML without two of its traps: of a key written twice the first is lost, and `0100` is 64, `1:30` is 90."""

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    raise ComposerError(problem=f"{key.value!r} is written twice", problem_mark=key.start_mark)
                seen.add(key.value)
        return node

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        text = str(self.construct_scalar(node))
        if not re.fullmatch(r"[-+]?(0|[1-9][0-9_]{0,29})", text):
            problem = f"{text[:40]!r} is no plain decimal number of at most 30 digits; quote it if it is text"
            raise ConstructorError(problem=problem, problem_mark=node.start_mark)
        return int(text)


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


def load_limits(path: Path | None) -> Limits:
    """Read limits.yaml; the defaults when `path` is None.

    Raises:
        ConfigurationError: the file is missing, is no YAML, or holds something it must not; all faults at once.

    """
    if path is None:
        return Limits()
    try:
        content = yaml.load(path.read_text(encoding="utf-8"), _Loader)  # noqa: S506 - a SafeLoader
    except OSError as error:
        msg = f"cannot read {path}: {error.strerror}; set OWUI_BUDGET_LIMITS_FILE to the file, or unset it for defaults"
        raise ConfigurationError(msg) from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:  # ValueError: no UTF-8, or a date such as 2026-13-01
        msg = f"{path} is not valid YAML: {error}"
        raise ConfigurationError(msg) from error
    if content is not None and not isinstance(content, dict):
        msg = f"{path} must hold a mapping such as `timezone: Europe/Berlin`"
        raise ConfigurationError(msg)
    try:
        return Limits.model_validate(content or {})
    except ValidationError as error:
        raise ConfigurationError(describe(error, str(path))) from error


def describe(error: ValidationError, place: str) -> str:
    """Turn pydantic's report into one line per fault: where, what, and what was given (cut short)."""
    lines = []
    for fault in error.errors(include_url=False, include_context=False):
        where = ".".join(str(part) for part in fault["loc"]) or "(the whole)"
        hint = "unknown name; see docs/configuration.md" if fault["type"] == "extra_forbidden" else fault["msg"]
        lines.append(f"{where}: {hint.removeprefix('Value error, ')}")
    return f"{place}:\n  " + "\n  ".join(lines)
