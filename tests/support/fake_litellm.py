"""LiteLLM's admin API as 1.106.2 answers, as far as sync uses it. Held to the real one by one contract suite."""

import hashlib
import json
from collections.abc import Callable
from typing import Any
from urllib.parse import unquote

import httpx

MASTER_KEY = "sk-master-0123456789abcdef"
CALLER = "default_user_id"


class FakeLitellm:
    """Call it as an httpx handler."""

    def __init__(self) -> None:
        self.teams: dict[str, dict[str, Any]] = {}
        self.budgets: dict[str, dict[str, Any]] = {"other": _budget({"budget_id": "other", "max_budget": 5})}
        self.customers: dict[str, dict[str, Any]] = {}
        self.keys: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.fail: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.requests.append(f"{request.method} {request.url.path}")
        failure = self.fail(request)
        if failure is not None:
            return failure
        if request.headers.get("authorization") != f"Bearer {MASTER_KEY}":
            return _error(401, "Authentication Error, Invalid proxy server token passed")
        body = json.loads(request.content) if request.content else {}
        path = request.url.path
        if path.startswith("/team/") and request.method == "PATCH":
            return self._patch_team(unquote(path.removeprefix("/team/")), body)
        handler = getattr(self, path.strip("/").replace("/", "_"))
        answer = handler(body, request.url.params)
        return answer if isinstance(answer, httpx.Response) else httpx.Response(200, content=json.dumps(answer))

    # teams

    def team_new(self, body: Any, _params: Any) -> Any:
        if body["team_id"] in self.teams:
            return _error(
                400, f"{{'error': 'Team id = {body['team_id']} already exists. Please use a different team id.'}}"
            )
        team = {
            "team_id": body["team_id"],
            "team_alias": body.get("team_alias"),
            "metadata": _reordered(body.get("metadata") or {}),
            "members_with_roles": [
                *({"user_email": None, **each} for each in body.get("members_with_roles", ())),
                {"user_id": CALLER, "user_email": None, "role": "admin"},
            ],
        }
        self.teams[body["team_id"]] = team
        return team

    def _patch_team(self, team_id: str, body: Any) -> httpx.Response:
        team = self.teams.get(team_id)
        if team is None:
            return _error(404, f"{{'error': 'Team not found, passed team_id={team_id}'}}")
        team["team_alias"] = body.get("team_alias", team["team_alias"])
        team["metadata"] = _reordered(_merge(team["metadata"], body.get("metadata", {})))
        return httpx.Response(200, json=team)

    def team_member_add(self, body: Any, _params: Any) -> Any:
        team = self.teams.get(body["team_id"])
        if team is None:
            return _error(404, "Team doesn't exist in db.")
        present = {each["user_id"] for each in team["members_with_roles"]}
        new = [each for each in body["member"] if each["user_id"] not in present]
        if not new:
            return _error(400, "All users are already in team. Existing members=[…]")
        team["members_with_roles"] += [{"user_email": None, **each} for each in new]
        return team

    def team_member_delete(self, body: Any, _params: Any) -> Any:
        team = self.teams[body["team_id"]]
        kept = [each for each in team["members_with_roles"] if each["user_id"] != body["user_id"]]
        if len(kept) == len(team["members_with_roles"]):
            return httpx.Response(400, json={"detail": {"error": "User not found in team"}})
        team["members_with_roles"] = kept
        return team

    def team_delete(self, body: Any, _params: Any) -> Any:
        if any(each not in self.teams for each in body["team_ids"]):
            return _error(404, "Team not found")
        for each in body["team_ids"]:
            del self.teams[each]
        return {"deleted_teams": len(body["team_ids"])}

    def v2_team_list(self, _body: Any, params: Any) -> Any:
        wanted, page, size = params["search"], int(params["page"]), int(params["page_size"])
        found = sorted(
            (
                each
                for each in self.teams.values()
                if each["team_id"].startswith(wanted) or wanted in (each["team_alias"] or "")
            ),
            key=lambda each: each["team_id"],
        )
        pages = -(-len(found) // size)
        return {
            "teams": found[(page - 1) * size : page * size],
            "total": len(found),
            "page": page,
            "total_pages": pages,
        }

    # budgets

    def budget_new(self, body: Any, _params: Any) -> Any:
        if body["budget_id"] in self.budgets:
            return httpx.Response(
                400, json={"detail": {"error": f"Budget with id '{body['budget_id']}' already exists."}}
            )
        self.budgets[body["budget_id"]] = _budget(body)
        return self.budgets[body["budget_id"]]

    def budget_update(self, body: Any, _params: Any) -> Any:
        if body["budget_id"] not in self.budgets:
            return None
        self.budgets[body["budget_id"]] |= body
        return self.budgets[body["budget_id"]]

    def budget_info(self, body: Any, _params: Any) -> Any:
        return [self.budgets[each] for each in body["budgets"] if each in self.budgets]

    def budget_delete(self, body: Any, _params: Any) -> Any:
        return self.budgets.pop(body["id"], None)

    # customers

    def customer_new(self, body: Any, _params: Any) -> Any:
        if body["user_id"] in self.customers:
            return _error(400, f"Customer already exists, passed user_id={body['user_id']}. Please pass a new user_id.")
        if body.get("budget_id") is not None and body["budget_id"] not in self.budgets:
            return _error(
                500, "Foreign key constraint failed on the field: `LiteLLM_EndUserTable_budget_id_fkey (index)`"
            )
        self.customers[body["user_id"]] = _customer(body)
        return self.customers[body["user_id"]]

    def customer_update(self, body: Any, _params: Any) -> Any:
        if body["user_id"] not in self.customers:
            return _error(404, f"End User Id={body['user_id']} does not exist in db")
        changed = {name: value for name, value in body.items() if value not in (None, 0)}
        self.customers[body["user_id"]] |= changed
        return self.customers[body["user_id"]]

    def customer_delete(self, body: Any, _params: Any) -> Any:
        if any(each not in self.customers for each in body["user_ids"]):
            return _error(404, "End User Id(s) do not exist in db")
        for each in body["user_ids"]:
            del self.customers[each]
        return {"deleted_customers": len(body["user_ids"])}

    def customer_info(self, _body: Any, params: Any) -> Any:
        found = self.customers.get(params["end_user_id"])
        return found or _error(404, f"End User Id={params['end_user_id']} does not exist in db")

    def customer_list(self, _body: Any, _params: Any) -> Any:
        return list(self.customers.values())

    # keys

    def key_generate(self, body: Any, _params: Any) -> Any:
        token = hashlib.sha256(body["key"].encode()).hexdigest()
        if any(each["key_alias"] == body.get("key_alias") for each in self.keys.values()):
            return _error(
                400, f"Key with alias '{body['key_alias']}' already exists. Unique key aliases across all keys…"
            )
        # A key that is there already answers 200 and stays as it was.
        self.keys.setdefault(token, {"metadata": {}, "allowed_routes": [], "key_alias": None, **body, "key": None})
        return {"key": body["key"], "token": token}

    def key_update(self, body: Any, _params: Any) -> Any:
        self.keys[body["key"]] |= {name: value for name, value in body.items() if name != "key"}
        return self.keys[body["key"]]

    def key_info(self, _body: Any, params: Any) -> Any:
        found = self.keys.get(params["key"])
        return {"key": params["key"], "info": found} if found else _error(404, "Key not found in database")


def _budget(body: dict[str, Any]) -> dict[str, Any]:
    reset = "2026-11-22T00:00:00Z" if body.get("budget_duration") else None
    return {"max_budget": None, "tpd_limit": None, "budget_duration": None, "budget_reset_at": reset, **body}


def _customer(body: dict[str, Any]) -> dict[str, Any]:
    settings = {"allowed_model_region": None, "default_model": None, "models": [], "object_permission_id": None}
    return {"blocked": False, "alias": None, "spend": 0.0, "budget_id": None, **settings, **body}


def _error(status: int, message: str) -> httpx.Response:
    return httpx.Response(
        status, json={"error": {"message": message, "type": "error", "param": None, "code": str(status)}}
    )


def _merge(target: Any, patch: Any) -> Any:
    """RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(target) if isinstance(target, dict) else {}
    for name, value in patch.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = _merge(merged.get(name), value)
    return merged


def _reordered(value: Any) -> Any:
    """PostgreSQL's jsonb gives keys back in another order."""
    if isinstance(value, dict):
        return {name: _reordered(value[name]) for name in sorted(value, key=lambda each: (len(each), each))}
    return value
