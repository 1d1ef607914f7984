"""Token counts without a tokenizer: about as many as a real one gives for English, and the same on every machine."""

import base64
import re
from collections.abc import Iterable
from typing import Any

_PIECE = re.compile(r"\w+|[^\w\s]")
_LETTERS_PER_TOKEN = 6
PER_MESSAGE = 4
PER_ANSWER = 3
PER_IMAGE = 85
PER_SECOND_OF_AUDIO = 10

_VOCABULARY = ("alpha", "beta", "gamma", "delta", "zeta", "theta", "kappa", "omega", "sigma", "iota")


def count(text: str) -> int:
    """Return the tokens of `text`: one per six letters of a word, rounded up, and one per punctuation mark."""
    return sum(-(-len(piece) // _LETTERS_PER_TOKEN) for piece in _PIECE.findall(text))


def count_any(value: Any) -> int:  # noqa: PLR0911 - one per kind of value
    """Return the tokens of a JSON value: message contents, tools, tool calls. Images count a fixed number."""
    match value:
        case str():
            return count(value)
        case list():
            return sum(count_any(item) for item in value)
        # bool is an int, too.
        case True | False | None:
            return 0
        case int() | float():
            return 1
        case {"type": "image_url" | "image" | "input_image"}:
            return PER_IMAGE
        case {"type": "input_audio", "input_audio": {"data": str(data)}}:
            return audio_tokens(base64.b64decode(data))
        case dict():
            return sum(
                count(key) + count_any(item) for key, item in value.items() if key not in {"type", "cache_control"}
            )
        case _:
            return 0


def count_messages(messages: Iterable[dict[str, Any]]) -> int:
    """Return the prompt tokens of a conversation, with what a chat template adds to each message."""
    return PER_ANSWER + sum(PER_MESSAGE + count_any({k: v for k, v in m.items() if k != "role"}) for m in messages)


def audio_tokens(data: bytes) -> int:
    """Return the tokens of a recording, taken to be 16,000 bytes a second."""
    return max(1, len(data) * PER_SECOND_OF_AUDIO // 16_000)


def split(text: str) -> list[str]:
    """Cut `text` into pieces that join to it again and count about one token each, as a stream delivers them."""
    return re.findall(r"\s*(?:\w{1,6}|[^\w\s])\s*$|\s*(?:\w{1,6}|[^\w\s])", text) or ([text] if text else [])


def words(number: int) -> str:
    """Return a text of exactly `number` tokens."""
    return " ".join(_VOCABULARY[i % len(_VOCABULARY)] for i in range(number))


def truncate(text: str, limit: int | None) -> tuple[str, bool]:
    """Cut `text` to at most `limit` tokens, and return whether that cut anything off."""
    if limit is None or count(text) <= limit:
        return text, False
    return "".join(split(text)[:limit]).rstrip(), True
