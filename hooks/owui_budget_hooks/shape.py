"""How large a request is, seen without tokenizing it: a walk over the fields that become the prompt."""

from collections.abc import Iterator, Mapping
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
    """Yield the UTF-8 bytes of every text in `value`, and a part for each image, clip or file (without its bytes).

    Iterative: a client may nest deeper than Python's stack.
    """
    stack = [value]
    while stack:
        item = stack.pop()
        if isinstance(item, str):
            yield utf8_length(item), False
        elif isinstance(item, Mapping):
            if item.get("type") in _PART_TYPES or any(key in item for key in _PART_KEYS):
                yield 0, True
                continue
            stack.extend(item.keys())
            stack.extend(item.values())
        elif isinstance(item, (list, tuple)):
            if item and all(type(each) is int for each in item):
                # A prompt given as token ids: each is one token, and a bound takes a byte for a token.
                yield len(item), False
            else:
                stack.extend(item)
        elif item is not None:
            yield len(str(item)), False


def utf8_length(text: str) -> int:
    """Return the length of `text` in UTF-8, also when it holds lone surrogates."""
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


def cap_of(data: Mapping[str, Any], route: Route) -> int | None:
    """Return the smallest usable completion cap the client set; absurd and negative caps are no cap."""
    source = _cap_holder(data, route)
    caps = [cap for name in route.caps if (cap := _positive(source.get(name))) is not None]
    return min(caps, default=None)


def choices_of(data: Mapping[str, Any], route: Route) -> int:
    """Return how many answers the request asks for: the largest of the route's fields, at least 1."""
    source = _cap_holder(data, route)
    return max([1, *(count for name in route.choices if (count := _positive(source.get(name))) is not None)])


def _cap_holder(data: Mapping[str, Any], route: Route) -> Mapping[str, Any]:
    if route.name != "generate_content":
        return data
    for name in ("generationConfig", "generation_config", "config"):
        nested = data.get(name)
        if isinstance(nested, Mapping):
            return nested
    return data


_MOST = 10**9


def _positive(value: Any) -> int | None:
    if isinstance(value, bool):
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 12:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return value if isinstance(value, int) and 0 < value < _MOST else None
