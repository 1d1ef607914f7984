"""Open WebUI's admin API as 0.12.4 answers, as far as the sync job uses it."""

import json
from collections.abc import Callable
from typing import Any

import httpx

EMAIL, PASSWORD = "admin@example.com", "Adminpw-1234"
API_KEY = "sk-admin-key"


class FakeOpenWebui:
    """Call it as an httpx handler."""

    def __init__(self) -> None:
        self.groups: dict[str, dict[str, Any]] = {}
        self.members: dict[str, list[str]] = {}
        self.users: list[dict[str, Any]] = []
        self.functions: dict[str, dict[str, Any]] = {}
        self.valves: dict[str, dict[str, Any]] = {}
        self.requests: list[str] = []
        self.now = 1_800_000_000
        self.role = "admin"
        self.sessions = 0
        self.fail: Callable[[httpx.Request], httpx.Response | None] = lambda _: None

    def group(
        self, gid: str, name: str, usage_limits: Any = None, parent: str | None = None, members: Any = ()
    ) -> None:
        data = {"config": {"share": "members"}} | ({} if usage_limits is None else {"usage_limits": usage_limits})
        self.groups[gid] = {
            "parent_group_id": parent,
            "id": gid,
            "user_id": "admin",
            "name": name,
            "description": "",
            "data": data,
            "meta": None,
            "permissions": None,
            "created_at": 1,
            "updated_at": self.now,
        }
        self.members[gid] = list(members)

    def user(self, uid: str, name: str, role: str = "user") -> None:
        self.users.append(
            {"bio": None, "id": uid, "name": name, "email": f"{uid}@example.com", "role": role, "groups": []}
        )

    def __call__(self, request: httpx.Request) -> httpx.Response:
        path = request.url.path
        self.requests.append(f"{request.method} {path}")
        failure = self.fail(request)
        if failure is not None:
            return failure
        body = json.loads(request.content) if request.content else None
        if path == "/api/v1/auths/signin":
            if body != {"email": EMAIL, "password": PASSWORD}:
                return httpx.Response(400, json={"detail": "The email or password provided is incorrect."})
            self.sessions += 1
            return httpx.Response(200, json={"token": f"session-{self.sessions}", "role": self.role})
        if request.headers.get("authorization") not in (f"Bearer {API_KEY}", f"Bearer session-{self.sessions}"):
            return httpx.Response(401, json={"detail": "Your session has expired or the token is invalid."})
        answer = self._answer(request.method, path.removeprefix("/api/v1"), body)
        if isinstance(answer, httpx.Response):
            return answer
        from email.utils import formatdate

        return httpx.Response(200, json=answer, headers={"date": formatdate(self.now, usegmt=True)})

    def _answer(self, method: str, path: str, body: Any) -> Any:
        if path == "/auths/":
            return {"id": "admin", "role": self.role}
        if path == "/groups/":
            return [each | {"member_count": len(self.members[gid])} for gid, each in self.groups.items()]
        if path.startswith("/groups/id/"):
            gid = path.split("/")[3]
            if gid not in self.groups:
                return httpx.Response(404, json={"detail": "We could not find what you're looking for :/"})
            return self.groups[gid] | {"member_count": len(self.members[gid]), "user_ids": self.members[gid]}
        if path == "/users/all":
            return {"users": self.users, "total": len(self.users)}
        if path.startswith("/functions"):
            return self._function(method, path.removeprefix("/functions"), body)
        return httpx.Response(404, json={"detail": "Not Found"})

    def _function(self, method: str, path: str, body: Any) -> Any:  # noqa: C901 - a table of addresses
        if path == "/":
            return [
                {name: value for name, value in each.items() if name != "content"} for each in self.functions.values()
            ]
        if path == "/create":
            if body["id"] in self.functions:
                return httpx.Response(400, json={"detail": "Uh-oh! This id is already taken."})
            self.functions[body["id"]] = body | {"type": "event", "is_active": False}
            return self.functions[body["id"]]
        _, _, fid, *rest = path.split("/")
        if fid not in self.functions:
            return httpx.Response(401, json={"detail": "We could not find what you're looking for :/"})
        match rest:
            case []:
                return self.functions[fid]
            case ["update"]:
                self.functions[fid] |= body
            case ["toggle"]:
                self.functions[fid]["is_active"] = not self.functions[fid]["is_active"]
            case ["valves"]:
                return self.valves.get(fid)
            case ["valves", "update"]:
                self.valves[fid] = body
            case ["delete"] if method == "DELETE":
                del self.functions[fid]
                return True
        return self.functions[fid]
