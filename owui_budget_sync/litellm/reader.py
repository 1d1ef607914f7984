"""Reads our objects as LiteLLM has them, brought to the values that the planner compares.

What is read is normalised to what was asked for: whoever creates a team becomes its admin member by himself, JSON comes
back with its keys in another order, budgets carry reset times.
"""

import sys
from collections.abc import AsyncIterator, Collection, Iterable
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from owui_budget.domain.limits import InvalidLimitsError, UsageLimits, parse_limits
from owui_budget.errors import TargetRefusedError
from owui_budget_sync.litellm.client import LitellmAdmin, RequestRefusedError
from owui_budget_sync.litellm.objects import (
    MARK,
    PREFIX,
    Budget,
    ConnectionKey,
    Customer,
    Foreign,
    Team,
    fingerprint,
    group_of,
    object_id,
)

PAGE = 100
"""The most teams LiteLLM lists at once."""
NOT_FOUND = 404


class _Member(BaseModel):
    user_id: str | None = None
    role: str = "user"


class _Team(BaseModel):
    team_id: str
    team_alias: str | None = None
    members_with_roles: list[_Member] | None = None
    metadata: dict[str, Any] | None = None


class _Teams(BaseModel):
    teams: list[_Team]
    total_pages: int


class _Budget(BaseModel):
    budget_id: str
    budget_duration: str | None = None
    tpd_limit: int | None = None


class _Customer(BaseModel):
    user_id: str
    alias: str | None = None
    budget_id: str | None = None
    blocked: bool | None = None
    allowed_model_region: str | None = None
    default_model: str | None = None
    models: list[str] | None = None
    object_permission_id: str | None = None


class _KeyInfo(BaseModel):
    metadata: dict[str, Any] | None = None
    allowed_routes: list[str] | None = None


class _Key(BaseModel):
    info: _KeyInfo


M = TypeVar("M", bound=BaseModel)


class LitellmReader:
    """Reads teams, budgets, customers and keys; objects that are not ours come back as `Foreign`."""

    def __init__(self, admin: LitellmAdmin) -> None:
        """Read through `admin`."""
        self._admin = admin

    async def teams(self) -> AsyncIterator[Team | Foreign]:
        """Read all teams whose id starts as ours do."""
        page = pages = 1
        while page <= pages:
            params: dict[str, str | int] = {
                "search": PREFIX,
                "search_team_id_match": "prefix",
                "sort_by": "team_id",
                "page": page,
                "page_size": PAGE,
            }
            found = _read(_Teams, await self._admin.get("/v2/team/list", params))
            for team in found.teams:
                group_id = group_of(team.team_id)
                if group_id is not None:  # the search finds names as well
                    yield _team(team, group_id)
            page, pages = page + 1, found.total_pages

    async def budgets(self, group_ids: Collection[str]) -> AsyncIterator[Budget]:
        """Read the budgets of these groups, as far as they are there."""
        wanted = sorted(group_ids)
        for start in range(0, len(wanted), PAGE):
            ids = [object_id(group_id) for group_id in wanted[start : start + PAGE]]
            for item in _list(await self._admin.post("/budget/info", {"budgets": ids})):
                budget = _read(_Budget, item)
                yield Budget(budget.budget_id.removeprefix(PREFIX), budget.budget_duration, budget.tpd_limit)

    async def customers(self, wanted: Collection[str]) -> AsyncIterator[Customer | Foreign]:
        """Read all customers of ours, and those of others whose ids are `wanted`.

        LiteLLM serves this list in one piece, so this is for the full comparison only.
        """
        async for item in self._admin.stream("/customer/list"):
            customer = _read(_Customer, item)
            if group_of(customer.budget_id) is not None or customer.user_id in wanted:
                found = _customer(customer)
                if found is not None:
                    yield found

    async def customer(self, user_id: str) -> Customer | Foreign | None:
        """Read one customer; None if there is none, or only the bare row that LiteLLM makes for a user's spend."""
        try:
            answer = await self._admin.get("/customer/info", {"end_user_id": user_id})
        except RequestRefusedError as error:
            if error.status == NOT_FOUND:
                return None
            raise
        return _customer(_read(_Customer, answer))

    async def keys(self, hashes: Iterable[str]) -> AsyncIterator[ConnectionKey | Foreign]:
        """Read the keys with these hashes, as far as they are there."""
        for token_hash in sorted(hashes):
            try:
                answer = await self._admin.get("/key/info", {"key": token_hash})
            except RequestRefusedError as error:
                if error.status == NOT_FOUND:
                    continue
                raise
            info = _read(_Key, answer).info
            if isinstance((info.metadata or {}).get(MARK), dict):
                yield ConnectionKey(token_hash, tuple(info.allowed_routes or ()))
            else:
                yield Foreign("key", token_hash, "it was made without our mark: its routes are its maker's business")


def _team(team: _Team, group_id: str) -> Team | Foreign:
    mark = (team.metadata or {}).get(MARK)
    if not isinstance(mark, dict) or mark.get("group_id") != group_id:
        return Foreign("team", group_id, "it has no owui_budget metadata")
    members = [member for member in team.members_with_roles or () if member.user_id]
    alias = team.team_alias or ""
    shown = fingerprint(alias, mark.get("limits"), mark.get("members_mirrored"))
    return Team(
        group_id=group_id,
        alias=alias,
        limits=_limits(mark.get("limits")),
        members=frozenset(
            sys.intern(member.user_id) for member in members if member.user_id and member.role != "admin"
        ),
        mirrored=mark.get("members_mirrored") is not False,
        admins=frozenset(member.user_id for member in members if member.user_id and member.role == "admin"),
        shown=shown if shown == mark.get("digest") else "edited",
    )


def _limits(value: object) -> UsageLimits | None:
    try:
        return parse_limits(value)
    except InvalidLimitsError:
        return None  # edited by hand, which the digest shows


def _customer(customer: _Customer) -> Customer | Foreign | None:
    group_id = group_of(customer.budget_id)
    if group_id is not None:
        return Customer(customer.user_id, customer.alias or "", group_id)
    settings = (
        customer.budget_id,
        customer.alias,
        customer.blocked,
        customer.allowed_model_region,
        customer.default_model,
        customer.models,
        customer.object_permission_id,
    )
    if not any(settings):
        # LiteLLM makes this row when it first sees the user's spend: nobody set anything, so it may become ours.
        return None
    return Foreign("customer", customer.user_id, "it has settings, and no budget of ours")


def _read(shape: type[M], value: object) -> M:
    try:
        return shape.model_validate(value)
    except ValidationError as error:
        fault = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(str(part) for part in fault["loc"])
        msg = f"LiteLLM answered with JSON this release does not know ({place}: {fault['msg']}); check its version"
        raise TargetRefusedError(msg) from error


def _list(value: object) -> list[Any]:
    if not isinstance(value, list):
        msg = "LiteLLM answered with something else than a list; check its version"
        raise TargetRefusedError(msg)
    return value
