"""Limits of groups as an admin writes them: read from Open WebUI and written back through its API.

They live in `group.data.usage_limits`. An update must name the group's name and description and keeps everything it
does not name, so nothing else is sent. Open WebUI has no conditional write: a change by somebody else is noticed by
looking again right before and right after, and never overwritten knowingly.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Final

from pydantic import BaseModel

from owui_budget.domain.limits import InvalidLimitsError, Scope, UsageLimits, parse_limits
from owui_budget.domain.windows import Window
from owui_budget.errors import FinalError
from owui_budget.wording import shown
from owui_budget_sync.openwebui.client import NotFoundError, OpenWebuiClient

_UNITS: Final = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "b": 10**9, "t": 10**12}
_AMOUNT: Final = re.compile(r"([-+]?\d[\d_,]*(?:\.\d+)?)\s*([kmgbt]?)", re.IGNORECASE)
_LONGEST: Final = 40
NONE_WORDS: Final = frozenset({"none", "null"})


class UnusableAmountError(FinalError):
    """A number of tokens that is none."""


class UnusableLimitsError(FinalError):
    """Limits that cannot be written; nothing was changed."""


class UnknownGroupError(FinalError):
    """Open WebUI has no such group, or several of that name."""


class ConcurrentChangeError(FinalError):
    """Somebody else changed the group at the same moment."""


class WrittenGroup(BaseModel):
    """A group as Open WebUI keeps it; only what is needed here is read."""

    id: str
    name: str
    description: str | None = None
    parent_group_id: str | None = None
    data: dict[str, Any] | None = None
    updated_at: int = 0
    member_count: int | None = None

    @property
    def usage_limits(self) -> Any:
        """The limits as they stand there, not yet judged."""
        return (self.data or {}).get("usage_limits")


def parse_amount(text: str) -> int | None:
    """Read a number of tokens: `80000`, `1_000`, `250k`, `1.5M`; None for `none` or `null`. Its range is not checked.

    Raises:
        UnusableAmountError: it is no whole number of tokens.

    """
    word = text.strip()
    if word.lower() in NONE_WORDS:
        return None
    match = _AMOUNT.fullmatch(word)
    if not match or len(word) > _LONGEST:
        msg = f"{shown(word)!r} is no number of tokens; write 80000, 1_000, 250k, 1.5M, or none for no limit"
        raise UnusableAmountError(msg)
    tokens = Decimal(re.sub("[_,]", "", match[1])) * _UNITS[match[2].lower()]
    if tokens != tokens.to_integral_value():
        msg = f"{shown(word)!r} is {tokens.normalize():f} tokens; write a whole number of tokens"
        raise UnusableAmountError(msg)
    return int(tokens)


@dataclass(frozen=True, slots=True)
class Bound:
    """The name of one figure: `member.daily.hard`."""

    scope: Scope
    window: Window
    which: str
    """`soft` or `hard`."""


def changed(current: object, figures: Mapping[Bound, int | None], priority: int | None) -> UsageLimits:
    """Return the limits that `current` becomes by changing the given figures; None removes one.

    Raises:
        UnusableLimitsError: the present limits, or those that would result, are not valid.

    """
    try:
        valid = parse_limits(current)
    except InvalidLimitsError as error:
        msg = (
            f"the group's present limits are not valid, so they cannot be changed in part: {error}. "
            "Use --replace to start from nothing, or --json-file"
        )
        raise UnusableLimitsError(msg) from error
    document = (valid or UsageLimits()).to_json()
    if priority is not None:
        document["priority"] = priority
    for bound, tokens in figures.items():
        window = document.setdefault(bound.scope.value, {}).setdefault(bound.window.value, {})
        window[bound.which] = tokens
    return valid_limits(document)


def valid_limits(document: object) -> UsageLimits:
    """Return a document of limits as a value.

    Raises:
        UnusableLimitsError: it is not valid; the message names every fault.

    """
    try:
        return parse_limits(document) or UsageLimits()
    except InvalidLimitsError as error:
        msg = f"these limits are not valid, nothing was changed: {error}"
        raise UnusableLimitsError(msg) from error


async def read_groups(client: OpenWebuiClient) -> list[WrittenGroup]:
    """Return all groups, by name.

    Raises:
        SourceUnavailableError, SourceRefusedError: Open WebUI cannot be read.

    """
    groups = await client.get("/api/v1/groups/", list[WrittenGroup])
    return sorted(groups, key=lambda group: (group.name.casefold(), group.id))


async def find_group(client: OpenWebuiClient, word: str) -> WrittenGroup:
    """Return the group that `word` means: its id, or its name where only one is called that.

    Raises:
        UnknownGroupError: none or several.
        SourceUnavailableError, SourceRefusedError: Open WebUI cannot be read.

    """
    groups = await read_groups(client)
    matches = (
        [group for group in groups if group.id == word],
        [group for group in groups if group.name == word],
        [group for group in groups if group.name.strip().casefold() == word.strip().casefold()],
    )
    found = next((each for each in matches if each), [])
    if len(found) == 1:
        return found[0]
    if found:
        listed = ", ".join(group.id for group in found)
        msg = f"{len(found)} groups are called {shown(word)!r}: {listed}; give one of these ids"
        raise UnknownGroupError(msg)
    known = ", ".join(shown(group.name) for group in groups[:10]) or "none at all"
    msg = f"Open WebUI has no group {shown(word)!r}; there are: {known}{' …' if len(groups) > 10 else ''}"  # noqa: PLR2004
    raise UnknownGroupError(msg)


async def write_limits(client: OpenWebuiClient, group: WrittenGroup, limits: UsageLimits | None) -> WrittenGroup:
    """Write `limits` (None takes them away) to the group as it was read, and return it as it is afterwards.

    Raises:
        ConcurrentChangeError: the group changed since it was read (nothing was written), or while it was written.
        UnknownGroupError: it was deleted meanwhile.
        SourceUnavailableError, SourceRefusedError: Open WebUI cannot be written.

    """
    path = f"/api/v1/groups/id/{group.id}"
    present = await _read(client, group)
    if _differs(present, group):
        msg = (
            f"group {shown(group.name)} was changed in Open WebUI while this command ran, so nothing was written; "
            "look at it (`owui-budget limits show`) and run the command again"
        )
        raise ConcurrentChangeError(msg)
    wanted = limits.to_json() if limits is not None else None
    body = {
        "name": present.name,
        "description": present.description or "",
        "data": {"usage_limits": wanted},
    }
    await client.post(f"{path}/update", body)
    after = await _read(client, group)
    if after.usage_limits != wanted:
        msg = (
            f"group {shown(group.name)} was changed in Open WebUI at the same moment: it now carries other limits than "
            "those just written; look at it (`owui-budget limits show`)"
        )
        raise ConcurrentChangeError(msg)
    return after


def _differs(present: WrittenGroup, read: WrittenGroup) -> bool:
    """Whether the group changed: `updated_at` counts whole seconds, so what it holds is compared as well."""
    return (present.updated_at, present.name, present.description, present.data) != (
        read.updated_at,
        read.name,
        read.description,
        read.data,
    )


async def _read(client: OpenWebuiClient, group: WrittenGroup) -> WrittenGroup:
    try:
        return await client.get(f"/api/v1/groups/id/{group.id}", WrittenGroup)
    except NotFoundError as error:
        msg = f"group {shown(group.name)} ({group.id}) was deleted in Open WebUI meanwhile; nothing was written"
        raise UnknownGroupError(msg) from error
