"""One admission is one call: refuse or remove what would turn one admitted request into several, or hide its end.

Each entry names the hole it closes. `docs/no-way-round.md` lists what a client can try, with the test that tries it.
"""

from collections.abc import Mapping, MutableMapping
from typing import Any

from owui_budget_hooks import answers, jwt_identity

REMOVED = (
    "fallbacks",  # a body's own list lets a free model's call be answered, and charged, by a paid one
    "context_window_fallbacks",
    "content_policy_fallbacks",
    "no-log",  # suppresses the success event: usage nobody counts
    "deployment_id",  # another model of the same provider answers, at this one's weight
    "azure",
    "timeout",  # a client that makes LiteLLM give up early would pay nothing for what the provider does
    "stream_timeout",
    "model_group_retry_policy",  # asks the provider again as often as the client likes
    "specific_deployment",  # names a deployment by its provider's model, which no weight is written for
)

REMOVED_FROM_EXTRA_BODY = (
    "model",  # extra_body is laid over the provider's request, behind LiteLLM's back
    "stream",
    "stream_options",
    "background",
)

_SECRET_HEADERS = frozenset({jwt_identity.HEADER})


def refuse_multiples(data: Mapping[str, Any]) -> None:
    """Refuse shapes that make LiteLLM call several models, or several times, under one admission.

    Raises:
        BudgetAnswer: 400, naming the field and the way out.

    """
    model = data.get("model")
    if isinstance(model, list) or (isinstance(model, str) and "," in model):
        raise answers.request_refused(
            "One request may name one model: `model` must not be a list or hold a comma."
            " Send one request per model, so that each is counted.",
            "model",
        )
    messages = data.get("messages")
    if isinstance(messages, list) and any(isinstance(item, list) for item in messages):
        raise answers.request_refused(
            "`messages` must be one conversation, not a list of conversations. Send one request per conversation.",
            "messages",
        )
    if data.get("fastest_response"):
        raise answers.request_refused(
            "`fastest_response` asks several models and counts one. Name one model instead.", "fastest_response"
        )
    if data.get("background"):
        raise answers.request_refused(
            "`background: true` is not supported: such a response ends where it cannot be counted."
            " Send it without `background`.",
            "background",
        )
    tools = data.get("tools")
    if isinstance(tools, list) and any(_runs_by_itself(tool) for tool in tools):
        raise answers.request_refused(
            "LiteLLM would run this MCP tool and ask the model again without counting it. Leave out"
            ' `require_approval: "never"` and run the tool calls in your program.',
            "tools",
        )


def _runs_by_itself(tool: Any) -> bool:
    if not isinstance(tool, Mapping) or tool.get("type") != "mcp" or tool.get("require_approval") != "never":
        return False
    address = str(tool.get("server_url"))
    return address.startswith("litellm_proxy") or "/mcp/" in address


def tame(data: MutableMapping[str, Any]) -> None:
    """Remove the fields with which a client could escape the count, and secrets that must reach no log."""
    for name in REMOVED:
        data.pop(name, None)
    sent = _sent_body(data)
    if "router_settings_override" in sent:  # LiteLLM puts a key's or team's own settings there
        data.pop("router_settings_override", None)
    if "custom_llm_provider" in sent and "model" in data:  # another provider answers under the model's name
        data.pop("custom_llm_provider", None)
    extra = data.get("extra_body")
    if isinstance(extra, MutableMapping):
        for name in REMOVED_FROM_EXTRA_BODY:
            extra.pop(name, None)
    for bucket in _header_buckets(data):
        for name in [each for each in bucket if str(each).lower() in _SECRET_HEADERS]:
            del bucket[name]


def _sent_body(data: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the body as the client sent it, where LiteLLM kept it."""
    request = data.get("proxy_server_request")
    body = request.get("body") if isinstance(request, Mapping) else None
    return body if isinstance(body, Mapping) else {}


def _header_buckets(data: Mapping[str, Any]) -> list[MutableMapping[str, Any]]:
    holders = [data, *(data.get(name) for name in ("proxy_server_request", "metadata", "litellm_metadata"))]
    # LiteLLM keeps a deep copy of the metadata for its logs.
    holders += [holder.get("requester_metadata") for holder in holders if isinstance(holder, Mapping)]
    buckets = [holder.get("headers") for holder in holders if isinstance(holder, Mapping)]
    secret_fields = data.get("secret_fields")
    raw = getattr(secret_fields, "raw_headers", None)
    if isinstance(secret_fields, Mapping):
        raw = secret_fields.get("raw_headers")
    return [bucket for bucket in (*buckets, raw) if isinstance(bucket, MutableMapping)]
