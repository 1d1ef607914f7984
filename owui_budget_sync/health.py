"""What the sync job knows about itself: for the health answer, the metrics and the log."""

from dataclasses import dataclass, field
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram

from owui_budget.clock import Clock

STUCK_AFTER = 600.0
"""Seconds without any attempt after which the loop counts as dead: longer than any pause and the slowest look."""


@dataclass
class Part:
    """How one of the other programs does, as of the last contact."""

    error: str | None = None
    since: float | None = None
    """Epoch seconds since which it has failed."""

    def fine(self) -> None:
        """It answered."""
        self.error = self.since = None

    def failed(self, error: str, now: float) -> None:
        """It did not, or not usefully."""
        self.error = error
        self.since = self.since or now

    def to_json(self, now: float) -> dict[str, Any]:
        """Print for the health answer."""
        if self.error is None or self.since is None:
            return {"ok": True}
        return {"ok": False, "error": self.error, "failing_for_seconds": round(now - self.since)}


class Metrics:
    """Prometheus metrics of one process."""

    def __init__(self) -> None:
        """Make them in a registry of their own."""
        self.registry = CollectorRegistry()
        self.syncs = Counter(
            "owui_budget_sync_runs",
            "Looks at Open WebUI by depth and result",
            ["depth", "result"],
            registry=self.registry,
        )
        self.seconds = Histogram(
            "owui_budget_sync_seconds",
            "Seconds from the look to the write",
            ["depth"],
            buckets=(0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120),
            registry=self.registry,
        )
        self.changes = Counter(
            "owui_budget_sync_policy_changes", "Changes written to the policy store", ["kind"], registry=self.registry
        )
        self.mirrored = Counter("owui_budget_sync_litellm_changes", "Changes made in LiteLLM", registry=self.registry)
        self.mirror_pending = Gauge(
            "owui_budget_sync_litellm_pending", "Changes planned for LiteLLM and not yet made", registry=self.registry
        )
        self.triggers = Counter("owui_budget_sync_triggers", "Triggers by result", ["result"], registry=self.registry)
        self.leader = Gauge("owui_budget_sync_leader", "1 while this process leads", registry=self.registry)
        self.revision = Gauge("owui_budget_sync_policy_revision", "Revision of the policy", registry=self.registry)
        self.last_success = Gauge(
            "owui_budget_sync_last_success_seconds", "Epoch seconds of the last good sync", registry=self.registry
        )
        self.up = Gauge(
            "owui_budget_sync_up", "1 while the program answered last time", ["program"], registry=self.registry
        )
        self.problems = Gauge(
            "owui_budget_sync_group_problems", "Groups whose limits cannot be used", registry=self.registry
        )


@dataclass
class Health:
    """The process as the health answer shows it. Holds no names of people or groups, and no secrets."""

    clock: Clock
    metrics: Metrics = field(default_factory=Metrics)
    openwebui: Part = field(default_factory=Part)
    litellm: Part = field(default_factory=Part)
    database: Part = field(default_factory=Part)
    leading: bool = False
    revision: int | None = None
    last_attempt: float | None = None
    last_success: float | None = None
    unsafe: str | None = None
    """The digest of a plan that safety stopped."""
    group_problems: int = 0
    notes: tuple[str, ...] = ()
    """What needs somebody's attention, in sentences that may name groups: for signed readers only."""

    def alive(self) -> bool:
        """Whether the process does its work; false only where a restart may help."""
        return self.last_attempt is None or self.clock.now() - self.last_attempt < STUCK_AFTER

    def status(self) -> str:
        """One word: ok, standby, starting, degraded (the last good policy holds) or failing."""
        if not self.alive():
            return "failing"
        if self.openwebui.error or self.litellm.error or self.database.error or self.unsafe:
            return "degraded"
        if not self.leading:
            return "standby" if self.last_attempt is not None else "starting"
        return "ok" if self.last_success is not None else "starting"

    def to_json(self) -> dict[str, Any]:
        """Print the health answer."""
        now = self.clock.now()
        return {
            "status": self.status(),
            "role": "leader" if self.leading else "standby",
            "policy_revision": self.revision,
            "seconds_since_success": None if self.last_success is None else round(now - self.last_success, 1),
            "openwebui": self.openwebui.to_json(now),
            "litellm": self.litellm.to_json(now),
            "database": self.database.to_json(now),
            "unsafe_plan": self.unsafe,
            "groups_with_unusable_limits": self.group_problems,
        }

    def publish(self) -> None:
        """Bring the gauges up to date."""
        self.metrics.leader.set(self.leading)
        self.metrics.problems.set(self.group_problems)
        self.metrics.revision.set(self.revision or 0)
        self.metrics.last_success.set(self.last_success or 0)
        for name, part in (("openwebui", self.openwebui), ("litellm", self.litellm), ("database", self.database)):
            self.metrics.up.labels(name).set(part.error is None)
