"""Makes one planned change in LiteLLM. Each may be repeated: whatever was done already counts as done."""

from collections.abc import Iterable, Mapping
from typing import Any, assert_never
from urllib.parse import quote

from pydantic import SecretStr

from owui_budget.domain.limits import Scope, UsageLimits
from owui_budget.domain.windows import Window
from owui_budget.errors import TargetRefusedError
from owui_budget_sync.changes import Added, Change, Changed, MembersChanged, Removed
from owui_budget_sync.litellm.client import LitellmAdmin, RequestRefusedError
from owui_budget_sync.litellm.objects import MARK, Budget, ConnectionKey, Customer, Foreign, Team, object_id
from owui_budget_sync.litellm.reader import LitellmReader

MEMBERS_AT_ONCE = 100
"""LiteLLM looks every member of a request up one by one; more would keep one request open for seconds."""
NOT_FOUND = 404


class LitellmWriter:
    """Creates and changes what carries our mark."""

    def __init__(self, admin: LitellmAdmin, secrets: Mapping[str, SecretStr]) -> None:
        """Write through `admin`; `secrets` are the connection keys by hash."""
        self._admin = admin
        self._reader = LitellmReader(admin)
        self._secrets = secrets

    async def apply(self, change: Change) -> Foreign | None:
        """Make one change; returns the object that stands in the way if it turns out to be somebody else's.

        Raises:
            TargetUnavailableError, TargetRefusedError: LiteLLM did not do it.

        """
        if isinstance(change, MembersChanged):
            return None
        match change.object:
            case Team():
                await self._team(change, change.object)
            case Budget():
                await self._budget(change, change.object)
            case Customer():
                return await self._customer(change, change.object)
            case ConnectionKey():
                await self._key(change, change.object)
            case _:
                pass  # the policy store's
        return None

    async def _team(self, change: Added[Any] | Changed[Any] | Removed[Any], team: Team) -> None:
        team_id = object_id(team.group_id)
        match change:
            case Added():
                await self._tolerating(
                    "already exists",
                    "/team/new",
                    {"team_id": team_id, "team_alias": team.alias, "metadata": {MARK: team.metadata}},
                )
                await self._members(team_id, added=team.members)
            case Changed(before=Team() as before):
                if before.shown != team.digest:
                    # Merged into the team's metadata: other keys there are not ours.
                    body = {"team_alias": team.alias, "metadata": {MARK: _merge_patch(team)}}
                    await self._admin.patch(f"/team/{quote(team_id, safe='')}", body)
                await self._members(team_id, team.members - before.members, before.members - team.members)
            case _:
                await self._tolerating("", "/team/delete", {"team_ids": [team_id]}, status=NOT_FOUND)

    async def _members(self, team_id: str, added: Iterable[str], removed: Iterable[str] = ()) -> None:
        coming = sorted(added)
        for start in range(0, len(coming), MEMBERS_AT_ONCE):
            members = [{"role": "user", "user_id": each} for each in coming[start : start + MEMBERS_AT_ONCE]]
            await self._tolerating("already in team", "/team/member_add", {"team_id": team_id, "member": members})
        for user_id in sorted(removed):
            await self._tolerating("not found in team", "/team/member_delete", {"team_id": team_id, "user_id": user_id})

    async def _budget(self, change: Added[Any] | Changed[Any] | Removed[Any], budget: Budget) -> None:
        body = {
            "budget_id": object_id(budget.group_id),
            "budget_duration": budget.duration,
            "tpd_limit": budget.tpd_limit,
        }
        match change:
            case Added() if await self._tolerating("already exists", "/budget/new", body):
                pass
            case Added() | Changed():
                await self._admin.post("/budget/update", body)
            case Removed():
                await self._admin.post("/budget/delete", {"id": body["budget_id"]})
            case _:
                assert_never(change)

    async def _customer(self, change: Added[Any] | Changed[Any] | Removed[Any], customer: Customer) -> Foreign | None:
        body = {"user_id": customer.user_id, "alias": customer.alias, "budget_id": object_id(customer.group_id)}
        if isinstance(change, Removed):
            await self._tolerating("", "/customer/delete", {"user_ids": [customer.user_id]}, status=NOT_FOUND)
            return None
        if isinstance(change, Changed) and await self._tolerating("", "/customer/update", body, status=NOT_FOUND):
            return None
        if await self._tolerating("already exists", "/customer/new", body):
            return None
        # Somebody was faster: LiteLLM itself, on the user's first spend, or a person.
        present = await self._reader.customer(customer.user_id)
        if isinstance(present, Foreign):
            return present
        await self._admin.post("/customer/update", body)
        return None

    async def _key(self, change: Added[Any] | Changed[Any] | Removed[Any], key: ConnectionKey) -> None:
        match change:
            case Added():
                body = {
                    "key": self._secrets[key.token_hash].get_secret_value(),
                    "key_alias": key.alias,
                    "allowed_routes": list(key.routes),
                    "metadata": {MARK: {"version": 1, "connection": True}},
                }
                if await self._tolerating("already exists", "/key/generate", body):
                    return
                if not [found async for found in self._reader.keys((key.token_hash,))]:
                    msg = f"LiteLLM has another key with the alias {key.alias}; give that one another alias"
                    raise TargetRefusedError(msg)
            case Changed():
                body = {"key": key.token_hash, "allowed_routes": list(key.routes)}
                await self._admin.post("/key/update", body)
            case _:
                pass  # a key is never deleted here: whoever still uses it would notice first

    async def _tolerating(self, text: str, path: str, body: Mapping[str, Any], *, status: int = 400) -> bool:
        """Send; False if LiteLLM refused with `status` and `text`, which then means that it was so already."""
        try:
            await self._admin.post(path, body)
        except RequestRefusedError as error:
            if error.status == status and text in error.text:
                return False
            raise
        return True


def _merge_patch(team: Team) -> dict[str, Any]:
    """The mark as an RFC 7386 patch: what is absent must be null, or an old limit would stay."""
    return {**team.metadata, "limits": _limits_patch(team.limits)}


def _limits_patch(limits: UsageLimits | None) -> dict[str, Any] | None:
    if limits is None:
        return None
    printed = limits.to_json()
    for scope in Scope:
        windows = printed.get(scope.value)
        printed[scope.value] = windows and {
            window.value: {"soft": None, "hard": None, **windows[window.value]} if window.value in windows else None
            for window in Window
        }
    return printed
