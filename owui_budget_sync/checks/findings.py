"""A finding: what was looked at and how it is, and for anything amiss why it matters and how it is mended."""

from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum


class Severity(StrEnum):
    """How bad a finding is."""

    ERROR = "error"
    """Limits do not hold, or something does not work."""
    WARNING = "warning"
    """Something is not counted, or will surprise somebody."""
    SKIPPED = "skipped"
    """Could not be looked at."""
    OK = "ok"


class Area(StrEnum):
    """Where a finding belongs; the order is that of the report."""

    SETTINGS = "settings"
    DATABASE = "database"
    LITELLM = "LiteLLM"
    HOOKS = "hooks"
    OPENWEBUI = "Open WebUI"
    GROUPS = "groups"
    SYNC = "sync"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at."""

    area: Area
    severity: Severity
    what: str
    why: str = ""
    fix: str = ""

    @property
    def needs_attention(self) -> bool:
        """Whether somebody has to act."""
        return self.severity in (Severity.ERROR, Severity.WARNING)


@dataclass(frozen=True, slots=True)
class Notes:
    """Makes findings of one area."""

    area: Area

    def ok(self, what: str) -> Finding:
        """All is well."""
        return Finding(self.area, Severity.OK, what)

    def skipped(self, what: str, why: str, fix: str = "") -> Finding:
        """It could not be looked at."""
        return Finding(self.area, Severity.SKIPPED, what, why, fix)

    def warning(self, what: str, why: str, fix: str) -> Finding:
        """It will surprise somebody."""
        return Finding(self.area, Severity.WARNING, what, why, fix)

    def error(self, what: str, why: str, fix: str) -> Finding:
        """Limits do not hold, or something does not work."""
        return Finding(self.area, Severity.ERROR, what, why, fix)


def sorted_findings(findings: Iterable[Finding]) -> list[Finding]:
    """Return findings by area, the worst first."""
    areas, severities = list(Area), list(Severity)
    return sorted(findings, key=lambda each: (areas.index(each.area), severities.index(each.severity)))
