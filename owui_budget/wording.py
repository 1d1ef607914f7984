"""What people read: refusals and warnings, in sentences that stand alone.

Open WebUI shows a refusal's message as it stands and drops every header but `Retry-After`, so the message says which
limit, how much is used, and when it ends.
"""

from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from owui_budget.domain.decisions import Notice, Standing
from owui_budget.domain.limits import Scope

_MONTHS = (
    "January", "February", "March", "April", "May", "June",
    "July", "August", "September", "October", "November", "December",
)  # fmt: skip
_NAME_LENGTH = 80


def refusal(standing: Standing, now: float, zone: ZoneInfo, contact: str | None) -> str:
    """Say why a call was refused and when the way is free again."""
    hard = standing.limit.bounds.hard or 0
    window = standing.limit.window.value.capitalize()
    group = _group(standing)
    by_all = " by all its members" if standing.limit.scope is Scope.POOL else ""
    what = f"{window} limit" if standing.limit.scope is Scope.MEMBER else f"{window} pool"
    left = standing.remaining or 0
    if standing.used >= hard:
        reached = f"{what} of {hard:,} tokens{group} reached ({standing.used:,} used{by_all})."
    elif left:
        # Strict admission: something is left, but the most this call could take does not fit.
        reached = (
            f"This request could take more than the {left:,} tokens that are left of the {what.lower()} of {hard:,}"
            f" tokens{group} ({standing.used:,} used{by_all}). A shorter one may fit."
        )
    else:
        # Nothing is left only because of calls still running: their end may free some of it again.
        reached = (
            f"{what} of {hard:,} tokens{group} reached ({standing.used:,} used{by_all},"
            f" {standing.held:,} reserved for requests still running; try again when they have ended)."
        )
    text = f"{reached} It resets {moment(standing.span.end, now, zone)}, in {duration(standing.span.end - now)}."
    return f"{text} {contact}" if contact else text


def warning(notice: Notice, now: float, zone: ZoneInfo) -> str:
    """Say how far a limit is used, for a toast in the chat."""
    return f"{usage(notice.standing)}; it resets {moment(notice.standing.span.end, now, zone)}."


def header_warning(standing: Standing, now: float, zone: ZoneInfo) -> str:
    """Say the same in ASCII, without names, for a header."""
    end = moment(standing.span.end, now, zone, zone_form=" ({})")
    text = f"{usage(standing, name_group=False)}; it resets {end}."
    return text.encode("ascii", "replace").decode()


def usage(standing: Standing, *, name_group: bool = True) -> str:
    """Say what is used of what: in percent of the hard limit, or in tokens past a soft limit that has no hard one."""
    limit = standing.limit
    whose = "your" if limit.scope is Scope.MEMBER else "the"
    what = "token limit" if limit.scope is Scope.MEMBER else "shared token pool"
    group = _group(standing) if name_group else ""
    if limit.bounds.hard:
        percent = min(100, standing.used * 100 // limit.bounds.hard)
        return f"{percent}% of {whose} {limit.window.value} {what}{group} is used"
    soft = limit.bounds.soft or 0
    return f"{standing.used:,} tokens are used, past {whose} {limit.window.value} soft limit of {soft:,}{group}"


def _group(standing: Standing) -> str:
    name = standing.limit.group_name
    return f" for group {shown(name)}" if name else ""


def shown(name: str) -> str:
    """Return a name from outside on one line, without control or direction marks, cut to a readable length."""
    clean = " ".join("".join(char if char.isprintable() else " " for char in name).split())
    return clean if len(clean) <= _NAME_LENGTH else f"{clean[: _NAME_LENGTH - 1]}…"


def moment(end: int, now: float, zone: ZoneInfo, zone_form: str = " {}") -> str:
    """Name a moment as people do: `at 00:00 CET` within a day, else `on 1 December at 00:00 CET`."""
    local = datetime.fromtimestamp(end, zone)
    today = datetime.fromtimestamp(now, zone).date()
    clock = f"{local:%H:%M}{zone_form.format(zone_name(local))}"
    if local.date() == today or (local.date() == today + timedelta(days=1) and local.hour == local.minute == 0):
        return f"at {clock}"
    return f"on {local.day} {_MONTHS[local.month - 1]} at {clock}"


def zone_name(local: datetime) -> str:
    """Return `CET`, `UTC`, or `UTC+03:00` for zones that have no letters."""
    name = local.tzname() or "UTC"
    if name.isalpha():
        return name
    offset = local.utcoffset() or timedelta()
    sign = "-" if offset < timedelta() else "+"
    minutes = abs(int(offset.total_seconds())) // 60
    return f"UTC{sign}{minutes // 60:02}:{minutes % 60:02}"


def duration(seconds: float) -> str:
    """Return a length of time in its two largest units, to the nearest minute: `8 h 27 min`, `9 d 5 h`, `40 s`."""
    left = max(0, round(seconds))
    if left < 60:  # noqa: PLR2004
        return f"{left} s"
    minutes = (left + 30) // 60
    days, hours, minutes = minutes // 1440, minutes // 60 % 24, minutes % 60
    if days:
        return f"{days} d {hours} h" if hours else f"{days} d"
    if hours:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{minutes} min"


def iso(end: int, zone: ZoneInfo) -> str:
    """Return a moment as ISO 8601 with the zone's offset, such as `2026-11-22T00:00:00+01:00`."""
    return datetime.fromtimestamp(end, UTC).astimezone(zone).isoformat()
