"""`owui-budget status`: how sync, the processes and the ledger are doing."""

from dataclasses import asdict
from typing import Any
from zoneinfo import ZoneInfo

import typer

from owui_budget.ledger.processes import Heartbeat
from owui_budget.wording import duration, iso
from owui_budget_sync.cli import doors, shell
from owui_budget_sync.queries.status import Status, SyncStatus, read_status

commands = typer.Typer()


@commands.command()
def status(*, as_json: shell.AsJson = False) -> None:
    """Show sync, processes and ledger, and what needs attention. Ends with 2 if anything does."""
    with doors.desk() as desk:
        found = read_status(desk.engine, desk.clock, interval=desk.settings.sync_interval, digest=desk.limits.digest)
    if as_json:
        shell.print_json(_document(found))
    else:
        _print(found)
    if found.problems:
        raise typer.Exit(shell.Exit.FINDINGS)


def _print(found: Status) -> None:
    sync, ledger = found.sync, found.ledger
    shell.heading("sync")
    shell.facts(
        {
            "last success": _ago(sync.last_success_at, found.now),
            "last start": _ago(sync.last_started_at, found.now),
            "leader": _leader(sync),
            "last error": sync.last_error,
        }
    )
    shell.line()
    shell.heading("processes")
    shell.table(
        ("kind", "host", "pid", "version", "runs", "last heard", "revision", "spool", "without ledger"),
        [_cells(each, found) for each in found.processes],
    )
    shell.heading("ledger")
    shell.facts(
        {
            "policy revision": ledger.state.revision,
            "time zone": ledger.state.zone,
            "time": iso(int(ledger.now), ZoneInfo(ledger.state.zone)),
            "groups": f"{ledger.groups:,} ({ledger.limited_groups:,} with limits)",
            "users": ledger.users,
            "counters": ledger.counters,
            "open calls": ledger.open_calls,
            "events in 24 hours": ledger.events_of_a_day,
            "oldest event": _ago(ledger.oldest_event_at, ledger.now),
        }
    )
    shell.line()
    shell.heading("problems")
    for problem in found.problems:
        shell.line(f"- {shell.clean(problem)}")
    if not found.problems:
        shell.line("none")


def _leader(sync: SyncStatus) -> str | None:
    if sync.leader_id is None:
        return None
    return sync.leader_id if sync.leading else f"{sync.leader_id} (its lease has run out)"


def _cells(beat: Heartbeat, found: Status) -> tuple[object, ...]:
    return (
        beat.kind,
        beat.host,
        str(beat.pid),
        beat.version,
        duration(found.now - beat.started_at),
        _ago(beat.seen_at, found.now),
        beat.policy_revision,
        beat.spool_depth,
        duration(found.now - beat.open_since) if beat.open_since is not None else None,
    )


def _ago(moment: float | None, now: float) -> str | None:
    return None if moment is None else f"{duration(now - moment)} ago"


def _document(found: Status) -> dict[str, Any]:
    sync, ledger = found.sync, found.ledger
    return {
        "now": _utc(found.now),
        "sync": {
            "leader_id": sync.leader_id,
            "leading": sync.leading,
            "fence": sync.fence,
            "last_started_at": _utc(sync.last_started_at),
            "last_success_at": _utc(sync.last_success_at),
            "lag_seconds": _rounded(sync.lag(found.now)),
            "last_error": sync.last_error,
            "problems": list(sync.problems),
        },
        "processes": [_process(each, found) for each in found.processes],
        "ledger": {
            "revision": ledger.state.revision,
            "zone": ledger.state.zone,
            "now": _utc(ledger.now),
            "clock_offset": ledger.state.clock_offset,
            "counters": ledger.counters,
            "open_calls": ledger.open_calls,
            "events_of_a_day": ledger.events_of_a_day,
            "oldest_event_at": _utc(ledger.oldest_event_at),
            "groups": ledger.groups,
            "limited_groups": ledger.limited_groups,
            "users": ledger.users,
        },
        "groups_with_problems": [asdict(each) for each in found.groups],
        "problems": list(found.problems),
    }


def _process(beat: Heartbeat, found: Status) -> dict[str, Any]:
    return {
        **asdict(beat),
        "started_at": _utc(beat.started_at),
        "seen_at": _utc(beat.seen_at),
        "seconds_since_seen": _rounded(found.now - beat.seen_at),
        "open_since": _utc(beat.open_since),
        "problems": list(beat.problems),
        "alive": found.alive(beat),
    }


def _utc(moment: float | None) -> str | None:
    return None if moment is None else iso(int(moment), ZoneInfo("UTC"))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)
