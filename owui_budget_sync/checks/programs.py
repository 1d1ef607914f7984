"""The processes as their heartbeats show them, and sync's own state and groups."""

from collections.abc import Sequence

from owui_budget import __version__, wording
from owui_budget.ledger.processes import Heartbeat
from owui_budget_sync.checks.findings import Area, Finding, Notes
from owui_budget_sync.queries.status import GroupProblem, Status

_HOOKS = Notes(Area.HOOKS)
_SYNC = Notes(Area.SYNC)
_GROUPS = Notes(Area.GROUPS)


def hooks(status: Status, digest: str) -> list[Finding]:
    """Judge the LiteLLM processes that carry the hooks."""
    alive = [each for each in status.processes if each.kind == "hooks" and status.alive(each)]
    if not alive:
        return [
            _HOOKS.error(
                "no LiteLLM process with the budget hooks is alive",
                "nothing is counted or refused",
                "start LiteLLM with litellm_settings.callbacks: [owui_budget_hooks.callback.budget] and"
                " LITELLM_WORKER_STARTUP_HOOKS=owui_budget_hooks.startup:start; its log says why it did not start",
            )
        ]
    found = [finding for each in alive for finding in _hook_process(each, status, digest)]
    return found or [_HOOKS.ok(f"{len(alive)} of them alive, version {__version__}, same limits.yaml")]


def _hook_process(beat: Heartbeat, status: Status, digest: str) -> list[Finding]:
    who = f"{beat.host}:{beat.pid}"
    found = [
        _HOOKS.error(
            f"{who} refuses every call: {problem}", "it is not safe to serve", "do what it says and restart it"
        )
        for problem in beat.problems
    ]
    if beat.version != __version__:
        found.append(
            _HOOKS.warning(
                f"{who} runs version {beat.version}, this command is {__version__}",
                "hooks and sync of different versions may read the database differently",
                f"install {max(beat.version, __version__)} everywhere and restart",
            )
        )
    if beat.limits_digest and beat.limits_digest != digest:
        found.append(
            _HOOKS.error(
                f"{who} reads another limits.yaml than this command",
                "it decides by other rules than those you see here",
                "give both the same file (OWUI_BUDGET_LIMITS_FILE) and restart LiteLLM",
            )
        )
    # A revision behind the store's says nothing: a process reads the new one with its next call.
    if beat.policy_revision is not None and beat.policy_revision < 0:
        found.append(
            _HOOKS.error(
                f"{who} has not read the policy yet",
                "it knows no group's limits",
                "make the database reachable from LiteLLM; its log says why it is not",
            )
        )
    if beat.spool_depth:
        found.append(
            _HOOKS.warning(
                f"{who} keeps {beat.spool_depth:,} records in its spool",
                "the ledger does not show this usage yet",
                "it is written by itself once the ledger answers; if it stays, its log says why",
            )
        )
    if beat.open_since is not None:
        found.append(
            _HOOKS.error(
                f"{who} has admitted without the ledger for {wording.duration(status.now - beat.open_since)}",
                "limits do not hold meanwhile",
                "make the database reachable from LiteLLM",
            )
        )
    return found


def sync(status: Status, interval: float) -> list[Finding]:
    """Judge the sync job."""
    lag = status.sync.lag(status.now)
    found = []
    if lag is None:
        found.append(_SYNC.error("sync has never succeeded", "no limit of a group holds yet", "owui-budget run"))
    elif lag > 4 * interval:
        found.append(
            _SYNC.error(
                f"sync last succeeded {wording.duration(lag)} ago",
                "changes in Open WebUI do not reach the limits",
                "start `owui-budget run`, or see its log",
            )
        )
    if status.sync.last_error:
        found.append(
            _SYNC.error(f"the last sync failed: {status.sync.last_error}", "the last good policy holds", "see its log")
        )
    found += [_SYNC.warning(each, "sync goes on without it", "do what it says") for each in status.sync.problems]
    return found or [_SYNC.ok(f"last success {wording.duration(lag or 0)} ago")]


def groups(problems: Sequence[GroupProblem]) -> list[Finding]:
    """Report groups whose limits cannot be used."""
    if not problems:
        return [_GROUPS.ok("the limits of every group are valid")]
    return [
        _GROUPS.error(
            f"group {wording.shown(each.name)} ({each.id}): {each.problem}",
            "its last valid limits hold" if each.limited else "it has no limits, so its members may use any amount",
            f"owui-budget limits set {each.id} --replace --member-daily-hard …, or limits clear {each.id}",
        )
        for each in problems
    ]
