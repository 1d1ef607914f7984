"""Who is calling: one of four callers, by the key first and the headers only where the key makes them believable.

Nothing else is ever believed: not `x-litellm-end-user-id`, not `user` in the body, not a JWT on any other key.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

from litellm.constants import LITELLM_PROXY_MASTER_KEY_ALIAS
from litellm.proxy._types import UserAPIKeyAuth

from owui_budget.config import HooksSettings
from owui_budget.domain.identity import Caller, Role, Subject
from owui_budget_hooks import answers, jwt_identity
from owui_budget_hooks.policy_cache import PolicyCache
from owui_budget_hooks.request import USER_ID, USER_ROLE, Connection
from owui_budget_hooks.routes import Route

TEAM_PREFIX = "owui-"
"""Our teams in LiteLLM are named `owui-<group id>`."""

_USERLESS_ROUTES = frozenset({"embedding", "moderation", "rerank"})
"""Open WebUI indexes documents by itself, on behalf of no user: such calls are the connection's own."""


@dataclass(frozen=True, slots=True)
class Identity:
    """Who is calling, and what the Open WebUI connection adds (None for every other caller)."""

    subject: Subject
    connection: Connection | None = None


class Identifier:
    """Tells callers apart."""

    def __init__(self, settings: HooksSettings, policy: PolicyCache, *, match_email: bool) -> None:
        """Read the connection keys' hashes once; LiteLLM shows hooks only hashes."""
        self._connection_hashes = frozenset(
            hashlib.sha256(key.get_secret_value().encode()).hexdigest() for key in settings.connection_keys
        )
        self._jwt_secret = settings.jwt_secret.get_secret_value() if settings.jwt_secret else None
        self._policy = policy
        self._match_email = match_email

    async def identify(self, key: UserAPIKeyAuth, headers: Mapping[str, str], route: Route | None) -> Identity:
        """Return who is calling.

        Raises:
            BudgetAnswer: 401, a connection key without proof of its user.
            LedgerUnavailableError: memberships are needed, not known, and cannot be read.

        """
        if self.is_connection(key):
            connection = Connection.read(headers)
            subject = await self._openwebui_user(headers, connection, route)
            return Identity(subject, connection)
        return Identity(await self._key_owner(key))

    def is_connection(self, key: UserAPIKeyAuth) -> bool:
        """Whether `key` is one that Open WebUI's connections use."""
        token = key.api_key or ""
        if token == LITELLM_PROXY_MASTER_KEY_ALIAS:
            # LiteLLM shows no hook its master key, which is all there is without a database. Nothing else is called
            # this: every other key arrives as a hash.
            from litellm.proxy import proxy_server  # noqa: PLC0415 - LiteLLM starts first

            token = str(proxy_server.master_key)
        return _hash_of(token) in self._connection_hashes

    async def _openwebui_user(self, headers: Mapping[str, str], connection: Connection, route: Route | None) -> Subject:
        user = self._proven_user(headers)
        if user is None:
            if route is not None and route.name in _USERLESS_ROUTES and not connection.message_id:
                return Subject(Caller.SERVICE, service_id="openwebui")
            if self._jwt_secret is None:
                raise answers.identity_refused("the header X-OpenWebUI-User-Id is missing")
            raise answers.identity_refused("the header X-OpenWebUI-User-Jwt is missing")
        group_ids = connection.group_ids
        if group_ids is None:
            known = await self._policy.user(user.user_id or "")
            group_ids = known.group_ids if known else frozenset()
        return replace(user, group_ids=group_ids)

    def _proven_user(self, headers: Mapping[str, str]) -> Subject | None:
        if self._jwt_secret is None:
            user_id = headers.get(USER_ID, "").strip()
            role = Role.parse(headers.get(USER_ROLE))
            return Subject(Caller.OPENWEBUI, user_id, role) if user_id else None
        token = headers.get(jwt_identity.HEADER, "").strip()
        if not token:
            return None
        try:
            user = jwt_identity.verify(token, self._jwt_secret)
        except jwt_identity.InvalidUserTokenError as error:
            raise answers.identity_refused(f"the header X-OpenWebUI-User-Jwt is not valid, {error}") from None
        return Subject(Caller.OPENWEBUI, user.id, user.role)

    async def _key_owner(self, key: UserAPIKeyAuth) -> Subject:
        known = None
        if key.user_id:
            known = await self._policy.user(key.user_id)
            if known is None and self._match_email:
                # The key's own stored address, never a header: LiteLLM loads it with the key.
                known = await self._policy.user_by_email(key.user_email or key.user_id)
        if known is not None:
            return Subject(Caller.USER_KEY, known.id, known.role, known.group_ids)
        if key.team_id and key.team_id.startswith(TEAM_PREFIX):
            # By name alone: whether the group is known is for the policy to say, which may have moved on.
            group_id = key.team_id.removeprefix(TEAM_PREFIX)
            return Subject(Caller.TEAM_KEY, group_ids=frozenset({group_id}), service_id=_service_name(key))
        return Subject(Caller.SERVICE, service_id=_service_name(key))


def hash_key(key: str) -> str:
    """Return the hash under which LiteLLM stores a key."""
    return hashlib.sha256(key.encode()).hexdigest()


def _hash_of(token: str) -> str:
    """Return the hash of a key, or of a key's hash."""
    return token if len(token) == 64 and not token.startswith("sk-") else hash_key(token)  # noqa: PLR2004


def _service_name(key: UserAPIKeyAuth) -> str:
    """Name a key for reports without revealing it: the start of its hash, which its owner cannot choose."""
    return f"key-{_hash_of(key.api_key or '')[:12]}"
