"""People and groups to try things with, made through Open WebUI's API. A second run changes nothing that is there."""

import json
from dataclasses import dataclass
from typing import Any

from stack.endpoints import OpenWebUI, User
from stack.env_file import generate
from stack.state import State, write_json
from stack.webui_client import WebUI


@dataclass(frozen=True, slots=True)
class Group:
    """One seeded group."""

    name: str
    description: str
    limits: dict[str, Any]
    parent: str | None = None


GROUPS = (
    Group(
        "Staff",
        "Everybody who works here",
        {
            "version": 1,
            "priority": 20,
            "member": {
                "daily": {"soft": 80_000, "hard": 100_000},
                "monthly": {"soft": 1_500_000, "hard": 2_000_000},
            },
            "pool": {"daily": {"hard": 5_000_000}},
        },
    ),
    Group(
        "Interns",
        "Members count as Staff, too; their own limits decide",
        # Small: a chat in the browser takes some 4,000 tokens a question, most of them Open WebUI's own tools.
        {
            "version": 1,
            "priority": 10,
            "member": {"daily": {"soft": 12_000, "hard": 20_000}, "monthly": {"hard": 300_000}},
        },
        parent="Staff",
    ),
)
PEOPLE = {"alice": ("Staff",), "bob": ("Interns",), "carol": ()}
"""Names and direct groups. Carol is in none: she shows what holds without limits."""


def seed(state: State, openwebui: OpenWebUI) -> tuple[User, ...]:
    """Create what is missing and return the users with their passwords, which are random and remembered."""
    users = _users(state)
    with WebUI(openwebui.url, openwebui.admin_email, openwebui.admin_password) as admin:
        ids = {person["email"]: person["id"] for person in admin.call("GET", "/api/v1/users/all")["users"]}
        for user in users:
            if user.email not in ids:
                ids[user.email] = _add(admin, user)
        present = admin.groups()
        for group in GROUPS:
            if group.name not in present:
                members = [ids[user.email] for user in users if group.name in user.groups]
                present[group.name] = _create(admin, group, present, members)
    return users


def _users(state: State) -> tuple[User, ...]:
    memory = state.folder / "users.json"
    if not memory.exists():
        write_json(memory, {name: generate("word", 12) for name in PEOPLE})
    passwords = json.loads(memory.read_text(encoding="utf-8"))
    return tuple(User(f"{name}@example.com", passwords[name], groups) for name, groups in PEOPLE.items())


def _add(admin: WebUI, user: User) -> str:
    person = {
        "name": user.email.partition("@")[0].title(),
        "email": user.email,
        "password": user.password,
        "role": "user",
        "profile_image_url": "/user.png",
    }
    identity: str = admin.call("POST", "/api/v1/auths/add", person)["id"]
    return identity


def _create(admin: WebUI, group: Group, present: dict[str, dict[str, Any]], members: list[str]) -> dict[str, Any]:
    body = {"name": group.name, "description": group.description, "data": {"usage_limits": group.limits}}
    if group.parent:
        body["parent_group_id"] = present[group.parent]["id"]
    created: dict[str, Any] = admin.call("POST", "/api/v1/groups/create", body)
    # Limits travel in `data`, which older group forms drop on creation; writing them again is harmless.
    if (created.get("data") or {}).get("usage_limits") != group.limits:
        admin.call("POST", f"/api/v1/groups/id/{created['id']}/update", body)
    admin.call("POST", f"/api/v1/groups/id/{created['id']}/users/add", {"user_ids": members})
    return created
