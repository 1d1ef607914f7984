"""Addresses and logins of a running stack: for tests as values, for other programs as `endpoints.json`."""

from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class User:
    """One seeded user."""

    email: str
    password: str = field(repr=False)
    groups: tuple[str, ...]
    """Names of the groups of which the user is a direct member."""


@dataclass(frozen=True, slots=True)
class OpenWebUI:
    """Open WebUI and its first admin."""

    url: str
    admin_email: str
    admin_password: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class LiteLLM:
    """The proxy and its keys."""

    url: str
    master_key: str = field(repr=False)
    openwebui_key: str = field(repr=False)
    """The connection key: on it Open WebUI's headers are believed."""
    jwt_secret: str = field(repr=False)
    urls: tuple[str, ...] = ()
    """All proxy processes; `url` is the first of them."""


@dataclass(frozen=True, slots=True)
class Sync:
    """The sync job."""

    url: str
    trigger_secret: str = field(repr=False)
    urls: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Ledger:
    """The ledger's database, as the role that owns its tables."""

    url: str = field(repr=False)
    """SQLAlchemy URL."""
    hooks_url: str = field(repr=False)
    sync_url: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Upstream:
    """The model provider: the simulated one, or the real one that was named."""

    url: str
    api_key: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Endpoints:
    """Everything of one stack. Services that were not asked for have their addresses all the same."""

    openwebui: OpenWebUI
    litellm: LiteLLM
    sync: Sync
    ledger: Ledger
    upstream: Upstream
    users: tuple[User, ...]
    models: tuple[str, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the documented shape of `endpoints.json`, which holds no more than other programs may rely on."""
        whole = asdict(self)
        shape = {
            "openwebui": ("url", "admin_email", "admin_password"),
            "litellm": ("url", "master_key", "openwebui_key", "jwt_secret"),
            "sync": ("url",),
            "ledger": ("url",),
            "upstream": ("url",),
        }
        parts = {part: {name: whole[part][name] for name in names} for part, names in shape.items()}
        users = [{"email": user.email, "password": user.password, "groups": list(user.groups)} for user in self.users]
        return {**parts, "users": users, "models": list(self.models)}
