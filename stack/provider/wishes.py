"""What a caller wants simulated, written at the start of the last user message or behind the model's name.

A message that begins with `[[sim tokens=50 delay=0.1]]`, or a model called `sim-gpt@tokens=50,delay=0.1`, asks for:

============= ==================================================================================================
tokens=N      an answer of exactly N tokens (per choice)
delay=S       S seconds before each piece of a stream, or before a whole answer
first=S       S seconds before the first byte (a slow provider, for timeouts)
die=N         the connection breaks after N pieces of a stream; without a stream, instead of an answer
status=N      an error answer with this HTTP status
fail=N        `status` (500 unless given) for the first N calls, then a good answer; counted by `key`
key=TEXT      which calls belong together for `fail` (else: all with the same wishes)
error=N       an error object in the stream after N pieces, as providers send when something breaks halfway
usage=none    no usage in the answer
usage=always  usage in a stream whether it was asked for or not
tool=1        a call of the first tool that the request offers, unless the last message is a tool's result
cached=N      N of the prompt tokens reported as read from the provider's cache
reasoning=N   N further completion tokens reported as reasoning
cap=ignore    `max_tokens` and the like are not honoured
============= ==================================================================================================

Only at the start: Open WebUI's background tasks quote the conversation and must not be hit by a wish for the chat.
"""

import re
from typing import Any, Self

from pydantic import BaseModel, ConfigDict

_MARKED = re.compile(r"^\s*\[\[sim\s+([^\]]*)\]\]")


class Wishes(BaseModel):
    """The parsed wishes of one call."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    tokens: int | None = None
    delay: float = 0
    first: float = 0
    die: int | None = None
    status: int | None = None
    fail: int | None = None
    key: str | None = None
    error: int | None = None
    usage: str | None = None
    tool: int = 0
    cached: int = 0
    reasoning: int = 0
    cap: str | None = None

    @classmethod
    def parse(cls, model: str, prompt: str) -> Self:
        """Read the wishes behind the model's name and at the start of the prompt; the prompt's win.

        Raises:
            ValueError: a wish is misspelt (answered with 400, so that a test notices).

        """
        behind = model.partition("@")[2].replace(",", " ")
        marked = _MARKED.match(prompt)
        pairs = [pair.partition("=") for pair in f"{behind} {marked[1] if marked else ''}".split()]
        return cls.model_validate({name: value for name, _, value in pairs})


def last_user_text(messages: Any) -> str:
    """Return the text of the last user message of a conversation, or of a bare prompt."""
    match messages:
        case str():
            return messages
        case [*_, str(text)]:
            return text
        case list():
            users = [m for m in messages if isinstance(m, dict) and m.get("role") == "user"]
            return _text(users[-1].get("content")) if users else ""
        case _:
            return ""


def _text(content: Any) -> str:
    if isinstance(content, list):
        return " ".join(str(part.get("text", "")) for part in content if isinstance(part, dict))
    return content if isinstance(content, str) else ""
