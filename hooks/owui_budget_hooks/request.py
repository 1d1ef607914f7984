"""One request as LiteLLM's pre-call hook sees it, read once into typed values.

LiteLLM keeps a request in one large dictionary whose layout differs by route. Everything that knows that layout on the
way in is here and in `taming`; on the way out it is in `ending`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from owui_budget.domain.identity import Kind
from owui_budget_hooks.routes import Route

GROUP_IDS = "x-openwebui-group-ids"
TASK = "x-openwebui-task"
MESSAGE_ID = "x-openwebui-message-id"
CHAT_ID = "x-openwebui-chat-id"
USER_ID = "x-openwebui-user-id"
USER_ROLE = "x-openwebui-user-role"

_TEMPORARY = ("temporary:", "local:")
_BROWSER_ROUTE_SUFFIX = "/chat/completions"


def headers_of(data: Mapping[str, Any]) -> Mapping[str, str]:
    """Return the client's headers in lower case; empty where LiteLLM passes none (pass-through routes)."""
    request = data.get("proxy_server_request")
    headers = request.get("headers") if isinstance(request, Mapping) else None
    if not isinstance(headers, Mapping):
        headers = metadata_of(data).get("headers")
    return headers if isinstance(headers, Mapping) else {}


def metadata_of(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return LiteLLM's own metadata of the request, whichever of its two names the route uses."""
    for name in ("litellm_metadata", "metadata"):
        bucket = data.get(name)
        if isinstance(bucket, Mapping) and "user_api_key_hash" in bucket:
            return bucket
    bucket = data.get("metadata")
    return bucket if isinstance(bucket, Mapping) else {}


@dataclass(frozen=True, slots=True)
class Connection:
    """What the headers of an Open WebUI connection say. They are believed on connection keys only."""

    task: str = ""
    message_id: str = ""
    chat_id: str = ""
    group_ids: frozenset[str] | None = None
    """None where the header is absent (audio, images, embeddings): the policy store's memberships serve then."""

    @classmethod
    def read(cls, headers: Mapping[str, str]) -> "Connection":
        """Read the connection's headers. An empty value means "none", a missing header "not sent"."""
        groups = headers.get(GROUP_IDS)
        return cls(
            task=headers.get(TASK, "").strip(),
            message_id=headers.get(MESSAGE_ID, "").strip(),
            chat_id=headers.get(CHAT_ID, "").strip(),
            group_ids=None if groups is None else frozenset(filter(None, (part.strip() for part in groups.split(",")))),
        )

    @property
    def kind(self) -> Kind:
        """What the call is for. A user can forge task and chat id through Open WebUI's own API: never exempt by it."""
        if self.task:
            return Kind.TASK
        if not self.chat_id:
            return Kind.API
        return Kind.TEMPORARY_CHAT if self.chat_id.startswith(_TEMPORARY) else Kind.CHAT

    def is_browser_chat(self, route: Route, path: str) -> bool:
        """Whether a person looks at the answer in Open WebUI's chat, so that an event frame reaches its eyes only."""
        return route.frames and bool(self.message_id) and not self.task and path.endswith(_BROWSER_ROUTE_SUFFIX)


def path_of(data: Mapping[str, Any]) -> str:
    """Return the path the client called, such as `/v1/chat/completions`; empty when LiteLLM does not say."""
    request = data.get("proxy_server_request")
    url = request.get("url") if isinstance(request, Mapping) else None
    return str(url).partition("?")[0] if url else ""
