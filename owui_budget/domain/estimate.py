"""The tokens a call may take, known before it runs.

Two kinds. `expected` is what `last_request` admission holds: a likely figure, corrected when the call ends. `bounded`
is what `strict` admission holds: a figure the call cannot exceed while the provider honours its cap, or the reason why
there is none.
"""

from dataclasses import dataclass
from typing import Final

BYTES_PER_TOKEN: Final = 4
"""Rule of thumb for English text in byte-pair encodings; only `expected` uses it."""

MAX_CHOICES: Final = 128
"""The most answers any provider gives to one request; a larger `n` is refused there."""


@dataclass(frozen=True, slots=True)
class Shape:
    """What can be seen of a call's size without tokenizing it."""

    text_bytes: int = 0
    """UTF-8 bytes of messages, tools and response schema."""
    messages: int = 0
    parts: int = 0
    """Images, audio and files: parts whose size in tokens the text does not show."""
    cap: int | None = None
    """The route's own completion cap in tokens, for one choice; None where the client set none."""
    choices: int = 1
    """`n` or `best_of`, whichever is larger: each choice may use the whole cap."""
    generates: bool = True
    """Whether the route answers with tokens at all (embeddings do not)."""


@dataclass(frozen=True, slots=True)
class Ceilings:
    """The operator's upper bounds for what bytes do not show."""

    per_message: int = 16
    """Tokens a chat template may add to one message."""
    per_part: int = 2_000
    """Tokens one image, audio clip or file may cost."""


@dataclass(frozen=True, slots=True)
class Estimate:
    """Tokens held for a call, unweighted."""

    prompt: int
    completion: int

    @property
    def total(self) -> int:
        """Prompt plus completion tokens."""
        return self.prompt + self.completion


def expected(shape: Shape, ceilings: Ceilings, typical_completion: int, completion_ceiling: int) -> Estimate:
    """Return the likely size of a call.

    `typical_completion` is the model's learned size of one answer in tokens. A client's own cap counts up to
    `completion_ceiling`: an absurd `max_tokens` must not hold a whole pool while the call runs.
    """
    prompt = -(-shape.text_bytes // BYTES_PER_TOKEN) + 4 * shape.messages + ceilings.per_part * shape.parts
    if not shape.generates:
        return Estimate(prompt, 0)
    answer = min(completion_ceiling, typical_completion if shape.cap is None else shape.cap)
    return Estimate(prompt, answer * min(shape.choices, MAX_CHOICES))


def prompt_bound(shape: Shape, ceilings: Ceilings) -> int:
    """Return a number of prompt tokens that cannot be exceeded: no byte-level encoding makes a byte two tokens."""
    return shape.text_bytes + ceilings.per_message * (shape.messages + 1) + ceilings.per_part * shape.parts


def fitting_cap(shape: Shape, ceilings: Ceilings, remaining: int) -> int | None:
    """Return the largest completion cap for one choice that fits into `remaining` tokens; None when none fits.

    The client's own cap is never raised.
    """
    room = (remaining - prompt_bound(shape, ceilings)) // max(1, shape.choices)
    if room < 1:
        return None
    return room if shape.cap is None else min(room, shape.cap)
