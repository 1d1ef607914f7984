"""How large a request is, seen without tokenizing it: a walk over the fields that become the prompt."""

from collections.abc import Iterator, Mapping, MutableMapping
from typing import Any

from owui_budget.domain.estimate import Shape
from owui_budget_hooks.routes import Route

_PART_TYPES = frozenset(
    {
        "image_url",
        "input_image",
        "image",
        "input_audio",
        "audio",
        "file",
        "input_file",
        "document",
        "video_url",
        "inline_data",
        "file_data",
    }
)
_PART_KEYS = ("inlineData", "fileData", "inline_data", "file_data")
_LINK_KEYS = frozenset({"url", "image_url", "video_url", "audio_url", "file_url", "file_data"})
_MEDIA_KEYS = ("media_type", "mime_type", "mimeType", "format")
_MESSAGE_LISTS = ("messages", "input", "contents", "prompt", "documents")


def shape_of(data: Mapping[str, Any], route: Route) -> Shape:
    """Measure `data`. Values of unexpected types count by the text they print as: never nothing, never an error."""
    text_bytes = parts = messages = 0
    for field in route.text:
        value = data.get(field)
        if value is None:
            continue
        if field in _MESSAGE_LISTS:
            messages += len(value) if isinstance(value, list) else 1
        for size, is_part in _measure(value):
            text_bytes += size
            parts += is_part
    return Shape(
        text_bytes=text_bytes,
        messages=messages,
        parts=parts,
        cap=cap_of(data, route),
        choices=choices_of(data, route),
        generates=route.generates,
    )


def _measure(value: Any) -> Iterator[tuple[int, bool]]:
    """Yield the UTF-8 bytes of `value` as the JSON a provider may put into the prompt, and a part for each media item.

    Only a media item's own bytes are left out, never text beside them: a client chooses what it calls an image.
    Iterative, because a client may nest deeper than Python's stack.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield utf8_length(item), False
        elif isinstance(item, Mapping):
            # Braces, and for each entry the quotes of its key, a colon and a comma.
            yield 2 + 4 * len(item), _is_part(item)
            stack.extend(item.keys())
            stack.extend(each for key, each in item.items() if not _is_media(item, key, each))
        elif isinstance(item, (list, tuple)):
            if item and all(type(each) is int for each in item):
                # A prompt given as token ids: each is one token, and a bound takes a byte for a token.
                yield len(item), False
            else:
                yield 2 + len(item), False
                stack.extend(item)
        elif isinstance(item, int):
            yield 1 + item.bit_length() // 3, False  # Python refuses to print integers of more than 4,300 digits
        else:
            yield len(str(item)), False


def _is_part(item: Mapping[Any, Any]) -> bool:
    kind = item.get("type")
    return (isinstance(kind, str) and kind in _PART_TYPES) or any(
        isinstance(item.get(key), Mapping) for key in _PART_KEYS
    )


def _is_media(item: Mapping[Any, Any], key: object, value: object) -> bool:
    """Whether `value` holds the bytes of an image, clip or file, which a provider does not read as text."""
    if not isinstance(value, str):
        return False
    if key in _LINK_KEYS:
        return value.startswith("data:") and not value.startswith("data:text")
    if key != "data" or item.get("type") == "text":
        return False
    media = next((each for name in _MEDIA_KEYS if isinstance(each := item.get(name), str)), "text/")
    return not media.startswith("text/")


def utf8_length(text: str) -> int:
    """Return the length of `text` in UTF-8, also when it holds lone surrogates."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cap_of(data: Mapping[str, Any], route: Route) -> int | None:
    """Return the largest usable completion cap the client set; absurd and negative caps are no cap.

    The largest: which of several spellings the provider follows is not ours to know.
    """
    holders = cap_holders(data, route)
    caps = [cap for holder in holders for name in route.caps if (cap := positive(holder.get(name))) is not None]
    return max(caps, default=None)


def choices_of(data: Mapping[str, Any], route: Route) -> int:
    """Return how many answers the request asks for: the largest of the route's fields, for each of its prompts."""
    holders = cap_holders(data, route)
    counts = [count for each in holders for name in route.choices if (count := positive(each.get(name))) is not None]
    return max([1, *counts]) * _prompts_of(data, route)


def _prompts_of(data: Mapping[str, Any], route: Route) -> int:
    """`/v1/completions` takes a list of prompts (texts or lists of token ids) and answers each."""
    prompt = data.get("prompt")
    if route.name != "completion" or not isinstance(prompt, list):
        return 1
    return max(1, sum(isinstance(each, (str, list)) for each in prompt))


def cap_holders(data: Mapping[str, Any], route: Route) -> list[Any]:
    """Return the dictionaries in which the route's caps and choices may stand.

    LiteLLM follows `config` before `generationConfig`, so the caps of all count and all are written.
    """
    if route.name != "generate_content":
        return [data]
    nested = [data.get(name) for name in ("config", "generationConfig", "generation_config")]
    return [each for each in nested if isinstance(each, MutableMapping)]


_MOST = 10**9


def positive(value: Any) -> int | None:
    """Read a cap or a count as leniently as providers may; None for what is no number from 1 to a billion."""
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 < value < _MOST else None
