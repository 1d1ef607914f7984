"""The tested table of LiteLLM's call types: where each keeps its caps, its text and its metadata.

A call type that is not here is ungoverned: nobody has shown that its end is reported once and with its tokens.
docs/routes.md prints this table with what was measured; a test keeps the two together.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType


@dataclass(frozen=True, slots=True)
class Route:
    """One kind of LiteLLM endpoint."""

    name: str
    """Our name for it: recorded with each call, and the key of `route_charges` in limits.yaml."""
    caps: tuple[str, ...] = ()
    """The spellings of the completion cap (tokens for one choice) in the request body; the first is the one we set."""
    choices: tuple[str, ...] = ()
    """The fields that ask for several answers at once."""
    text: tuple[str, ...] = ()
    """The fields that become the prompt."""
    generates: bool = True
    """Whether it answers with tokens."""
    frames: bool = False
    """Whether its stream may carry Open WebUI's own event frame."""
    watched: bool = False
    """Whether LiteLLM drops the end of an aborted stream, so that we watch what was delivered ourselves."""
    estimates_missing: bool = True
    """Whether tokens are estimated when the provider reports none; else `route_charges` applies."""
    by_context: bool = False
    """Whether its events may come without the metadata we marked, so that the context has to tell whose they are."""
    bounded: bool = True
    """Whether strict admission can bound its tokens from the request."""


_CHAT = Route(
    "chat",
    caps=("max_tokens", "max_completion_tokens"),
    choices=("n", "best_of"),
    text=("messages", "tools", "functions", "response_format", "prediction"),
    frames=True,
)
_COMPLETION = Route(
    "completion", caps=("max_tokens",), choices=("n", "best_of"), text=("prompt", "suffix"), watched=True
)
_RESPONSES = Route(
    "responses", caps=("max_output_tokens",), text=("input", "instructions", "tools", "text"), watched=True
)
_MESSAGES = Route("messages", caps=("max_tokens",), text=("messages", "system", "tools"), watched=True)
_EMBEDDING = Route("embedding", text=("input",), generates=False)
_IMAGE = Route(
    "image_generation", choices=("n",), text=("prompt",), generates=False, estimates_missing=False, bounded=False
)
_IMAGE_EDIT = Route(
    "image_edit", choices=("n",), text=("prompt",), generates=False, estimates_missing=False, bounded=False
)
_SPEECH = Route("speech", text=("input", "instructions"), generates=False, estimates_missing=False, bounded=False)
_TRANSCRIPTION = Route("transcription", text=("prompt",), generates=False, estimates_missing=False, bounded=False)
_RERANK = Route("rerank", text=("query", "documents"), generates=False, estimates_missing=False)
_MODERATION = Route("moderation", text=("input",), generates=False, estimates_missing=False)
_GENERATE_CONTENT = Route(
    "generate_content",
    caps=("maxOutputTokens", "max_output_tokens"),
    choices=("candidateCount", "candidate_count"),
    text=("contents", "systemInstruction", "system_instruction", "tools"),
    watched=True,
    by_context=True,
)

ROUTES: Mapping[str, Route] = MappingProxyType(
    {
        "acompletion": _CHAT,
        "completion": _CHAT,
        "atext_completion": _COMPLETION,
        "text_completion": _COMPLETION,
        "aresponses": _RESPONSES,
        "responses": _RESPONSES,
        "anthropic_messages": _MESSAGES,
        "aanthropic_messages": _MESSAGES,
        "aembedding": _EMBEDDING,
        "embedding": _EMBEDDING,
        "aimage_generation": _IMAGE,
        "image_generation": _IMAGE,
        "aimage_edit": _IMAGE_EDIT,
        "image_edit": _IMAGE_EDIT,
        "aspeech": _SPEECH,
        "speech": _SPEECH,
        "atranscription": _TRANSCRIPTION,
        "transcription": _TRANSCRIPTION,
        "arerank": _RERANK,
        "rerank": _RERANK,
        "amoderation": _MODERATION,
        "moderation": _MODERATION,
        "agenerate_content": _GENERATE_CONTENT,
        "agenerate_content_stream": _GENERATE_CONTENT,
        "generate_content": _GENERATE_CONTENT,
        "generate_content_stream": _GENERATE_CONTENT,
    }
)
"""By the call type that `async_pre_call_hook` is given."""

BATCH_CALL_TYPES = frozenset({"acreate_batch", "create_batch"})
"""Creating a batch spends tokens much later, outside any admission."""

RAW_CALL_TYPES = frozenset({"pass_through_endpoint"})
"""Call types whose hook data is the client's own body, sent on as it is: nothing in it is LiteLLM's word."""

NESTED_CALL_TYPES = frozenset({"list_mcp_tools", "call_mcp_tool"})
"""Calls that LiteLLM makes inside another one, in its context: they must not take its place."""

FREE_CALL_TYPES = frozenset(
    {
        *NESTED_CALL_TYPES,
        "acreate_file",
        "create_file",
        "aretrieve_batch",
        "retrieve_batch",
        "aget_responses",
        "adelete_responses",
        "acancel_responses",
        "alist_input_items",
        "alist_batches",
        "acancel_batch",
    }
)
"""Call types that spend no tokens: they pass, and nothing is recorded."""
