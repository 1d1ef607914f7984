"""The response headers, rendered once.

`RateLimit-Policy` and `RateLimit` follow draft-ietf-httpapi-ratelimit-headers (structured fields, RFC 9651): items are
named `daily`, `pool-daily` …, with the group id added where two would share a name. The quota unit `tokens` is not a
registered one. `w` is this window's real length in seconds: a day has 23 to 25 hours. Headers carry group ids, never
names: they must be ASCII.
"""

from collections import Counter as Tally
from collections.abc import Sequence
from zoneinfo import ZoneInfo

from owui_budget import wording
from owui_budget.domain.decisions import Decision, Refused, Standing, Warned, nearest_end
from owui_budget.domain.limits import Scope


def render(decision: Decision, now: float, zone: ZoneInfo) -> dict[str, str]:
    """Return all headers for a decision; none where no limit is in force."""
    standings = decision.standings
    if not standings:
        return {}
    headers = {**_rate_limit(standings, now), "X-Budget-Status": status(decision)}
    shown = _speaking(decision)
    headers["X-Budget-Policy"] = _policy(shown)
    if shown.remaining is not None:
        headers["X-Budget-Remaining-Tokens"] = str(shown.remaining)
    headers["X-Budget-Reset"] = wording.iso(shown.span.end, zone)
    if isinstance(decision, Warned):
        headers["X-Budget-Warning"] = wording.header_warning(decision.past_soft[0], now, zone)
    return headers


def status(decision: Decision) -> str:
    """Return `ok`, `soft` or `hard`."""
    if isinstance(decision, Refused):
        return "hard"
    return "soft" if isinstance(decision, Warned) else "ok"


def retry_after(standing: Standing, now: float) -> int:
    """Return the real seconds to the reset, at least 1."""
    return max(1, round(standing.span.end - now))


def _speaking(decision: Decision) -> Standing:
    """Return the standing that single-valued headers speak of: the blocking one, else the one nearest its end."""
    if isinstance(decision, Refused):
        return decision.blocking
    near = nearest_end(decision.standings)
    if near is not None:
        return near
    return decision.past_soft[0] if isinstance(decision, Warned) else decision.standings[0]


def _rate_limit(standings: Sequence[Standing], now: float) -> dict[str, str]:
    limited = [each for each in standings if each.limit.bounds.hard is not None]
    if not limited:
        return {}
    names = _names(limited)
    policies = [
        f'"{name}";q={each.limit.bounds.hard};qu="tokens";w={each.span.seconds}'
        for name, each in zip(names, limited, strict=True)
    ]
    rests = [
        f'"{name}";r={each.remaining};t={max(0, round(each.span.end - now))}'
        for name, each in zip(names, limited, strict=True)
    ]
    return {"RateLimit-Policy": ", ".join(policies), "RateLimit": ", ".join(rests)}


def _names(standings: Sequence[Standing]) -> list[str]:
    bare = [_bare_name(each) for each in standings]
    tally = Tally(bare)
    names: list[str] = []
    for name, each in zip(bare, standings, strict=True):
        full = name if tally[name] == 1 else f"{name}-{token(each.limit.group_id or 'defaults')}"
        names.append(full if full not in names else f"{full}-{len(names)}")  # ids that differ in odd characters only
    return names


def _bare_name(standing: Standing) -> str:
    prefix = "pool-" if standing.limit.scope is Scope.POOL else ""
    return f"{prefix}{standing.limit.window}"


def _policy(standing: Standing) -> str:
    limit = standing.limit
    fields = [f"group={token(limit.group_id or 'defaults')}", f"scope={limit.scope}", f"window={limit.window}"]
    if limit.bounds.hard is not None:
        fields.append(f"limit={limit.bounds.hard}")
    if limit.bounds.soft is not None:
        fields.append(f"soft={limit.bounds.soft}")
    fields.append(f"used={standing.used}")
    return ";".join(fields)


def token(identifier: str) -> str:
    """Return an id safe in any header: letters, digits, `-`, `_` and `.`, at most 64 characters."""
    return "".join(char if char.isascii() and (char.isalnum() or char in "-_.") else "_" for char in identifier)[:64]
