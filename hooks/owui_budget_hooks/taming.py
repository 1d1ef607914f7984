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


def tame(data: MutableMapping[str, Any]) -> None:
    """Remove the fields with which a client could escape the count, and secrets that must reach no log."""
    for name in REMOVED:
        data.pop(name, None)
    for bucket in _header_buckets(data):
        for name in _SECRET_HEADERS & bucket.keys():
            del bucket[name]


def _header_buckets(data: Mapping[str, Any]) -> list[MutableMapping[str, Any]]:
    holders = [data.get("proxy_server_request"), data.get("metadata"), data.get("litellm_metadata")]
    buckets = [holder.get("headers") for holder in holders if isinstance(holder, Mapping)]
    secret_fields = data.get("secret_fields")
    raw = getattr(secret_fields, "raw_headers", None)
    if isinstance(secret_fields, Mapping):
        raw = secret_fields.get("raw_headers")
    return [bucket for bucket in (*buckets, raw) if isinstance(bucket, MutableMapping)]
