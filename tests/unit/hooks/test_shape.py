import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from owui_budget.domain.estimate import Ceilings, prompt_bound
from owui_budget_hooks.routes import ROUTES, Route
from owui_budget_hooks.shape import choices_of, shape_of, utf8_length

CHAT, COMPLETION, GEMINI = ROUTES["acompletion"], ROUTES["atext_completion"], ROUTES["agenerate_content"]
MESSAGES, EMBEDDING = ROUTES["anthropic_messages"], ROUTES["aembedding"]
BIG = "x" * 100_000

_KEYS = st.text(max_size=3) | st.sampled_from(["type", "text", "data", "inlineData", "url", "image_url", "format"])
_WORDS = st.sampled_from(["image_url", "document", "text"])
_LEAVES = st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters()) | _WORDS


def _json(leaves: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.recursive(
        leaves,
        lambda children: st.lists(children, max_size=4) | st.dictionaries(_KEYS, children, max_size=4),
        max_leaves=12,
    )


# An integer that Python refuses to print, and hypothesis too.
_ANYTHING = _json(_LEAVES | st.just("data:image/png;base64,xx") | st.none().map(lambda _: 10**4_400))
_FIELDS = sorted({name for route in ROUTES.values() for name in (*route.text, *route.caps, *route.choices)})


@given(st.dictionaries(st.sampled_from([*_FIELDS, "generationConfig", "config"]), _ANYTHING, max_size=6))
def test_no_json_is_an_error(data: dict[str, Any]) -> None:
    for route in set(ROUTES.values()):
        shape = shape_of(data, route)
        assert shape.text_bytes >= 0
        assert shape.choices >= 1
        assert shape.cap is None or shape.cap > 0


def test_nesting_deeper_than_the_stack() -> None:
    deep: Any = "x" * 50
    for _ in range(100_000):
        deep = [deep]

    assert shape_of({"messages": deep}, CHAT).text_bytes >= 50


def test_lone_surrogates_and_wide_characters_count_by_their_bytes() -> None:
    assert utf8_length("\ud800") == 3
    assert utf8_length("日本") == 6
    assert shape_of({"messages": [{"role": "user", "content": "\ud83d 日本"}]}, CHAT).text_bytes >= 10


@given(_json(_LEAVES), st.text(max_size=50))
def test_the_bound_covers_the_json_a_provider_may_put_into_the_prompt(schema: Any, text: str) -> None:
    """Strict admission takes a byte for a token: what is counted must not be less than what is sent."""
    data = {"messages": [{"role": "user", "content": text}], "tools": [{"type": "function", "function": schema}]}
    sent = json.dumps(data["tools"], ensure_ascii=False, separators=(",", ":"))
    escapes = sent.count("\\")  # what JSON adds to quotes and control characters inside texts
    assert prompt_bound(shape_of(data, CHAT), Ceilings()) + 5 * escapes >= utf8_length(sent) + utf8_length(text)


TEXT_THAT_IS_CALLED_MEDIA = [
    {"type": "document", "source": {"type": "text", "media_type": "text/plain", "data": BIG}},
    {"type": "document", "source": {"type": "text", "media_type": "application/pdf", "data": BIG}},
    {"type": "document", "source": {"type": "text", "data": "data:image/png," + BIG}},
    {"type": "document", "source": {"type": "content", "content": [{"type": "text", "text": BIG}]}},
    {"type": "text", "text": BIG, "inlineData": {}},
    {"type": "text", "text": BIG, "inline_data": None},
    {"type": "image_url", "image_url": {"url": "https://example.org/a.png"}, "text": BIG},
    {"type": "file", "file": {"file_data": "data:text/plain;base64," + BIG}},
    {"inlineData": {"mimeType": "text/plain", "data": BIG}},
    {"type": "input_audio", "input_audio": {"data": BIG}},
    {"type": "document", "title": BIG, "source": {"type": "base64", "media_type": "application/pdf", "data": ""}},
    {"type": "image", BIG: 1},
]


@pytest.mark.parametrize("part", TEXT_THAT_IS_CALLED_MEDIA)
def test_text_counts_whatever_a_client_calls_it(part: dict[str, Any]) -> None:
    assert shape_of({"messages": [{"role": "user", "content": [part]}]}, CHAT).text_bytes >= len(BIG)


MEDIA = [
    {"type": "image_url", "image_url": {"url": "data:image/png;base64," + BIG}},
    {"type": "image_url", "image_url": "data:image/png;base64," + BIG},
    {"type": "input_image", "image_url": "data:image/jpeg;base64," + BIG},
    {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": BIG}},
    {"type": "document", "source": {"type": "base64", "media_type": "application/pdf", "data": BIG}},
    {"type": "input_audio", "input_audio": {"data": BIG, "format": "wav"}},
    {"type": "file", "file": {"file_data": "data:application/pdf;base64," + BIG, "filename": "a.pdf"}},
    {"inlineData": {"mimeType": "image/png", "data": BIG}},
    {"inline_data": {"mime_type": "image/png", "data": BIG}},
]


@pytest.mark.parametrize("part", MEDIA)
def test_media_count_as_parts_and_not_by_their_bytes(part: dict[str, Any]) -> None:
    shape = shape_of({"messages": [{"role": "user", "content": [part, {"type": "text", "text": "what is it?"}]}]}, CHAT)

    assert shape.parts == 1
    assert shape.text_bytes < 300


def test_token_ids_count_one_each() -> None:
    assert shape_of({"input": list(range(1_000, 2_000))}, EMBEDDING).text_bytes == 1_000


CAPS: list[tuple[Route, dict[str, Any], int | None]] = [
    (CHAT, {}, None),
    (CHAT, {"max_tokens": 100}, 100),
    (CHAT, {"max_completion_tokens": 100}, 100),
    (CHAT, {"max_tokens": 1, "max_completion_tokens": 9_000}, 9_000),
    (CHAT, {"max_tokens": "100"}, 100),
    (CHAT, {"max_tokens": 100.0}, 100),
    (CHAT, {"max_tokens": 100.5}, None),
    (CHAT, {"max_tokens": 0}, None),
    (CHAT, {"max_tokens": -1}, None),
    (CHAT, {"max_tokens": True}, None),
    (CHAT, {"max_tokens": 10**30}, None),
    (CHAT, {"max_tokens": float("inf")}, None),
    (CHAT, {"max_tokens": float("nan")}, None),
    (CHAT, {"max_tokens": "1" * 5_000}, None),
    (CHAT, {"max_tokens": "٣"}, None),
    (CHAT, {"max_tokens": [100]}, None),
    (CHAT, {"max_tokens": None}, None),
    (CHAT, {"max_output_tokens": 100}, None),
    (ROUTES["aresponses"], {"max_output_tokens": 100}, 100),
    (MESSAGES, {"max_tokens": 100}, 100),
    (GEMINI, {"generationConfig": {"maxOutputTokens": 100}}, 100),
    (GEMINI, {"config": {"max_output_tokens": 100}}, 100),
    (GEMINI, {"generationConfig": {"maxOutputTokens": 1}, "config": {"maxOutputTokens": 9_000}}, 9_000),
    (GEMINI, {"maxOutputTokens": 100}, None),
    (GEMINI, {"generationConfig": [100]}, None),
]


@pytest.mark.parametrize(("route", "data", "cap"), CAPS)
def test_caps(route: Route, data: dict[str, Any], cap: int | None) -> None:
    assert shape_of(data, route).cap == cap


CHOICES: list[tuple[Route, dict[str, Any], int]] = [
    (CHAT, {}, 1),
    (CHAT, {"n": 3}, 3),
    (CHAT, {"n": "3"}, 3),
    (CHAT, {"n": 2, "best_of": 5}, 5),
    (CHAT, {"n": 0}, 1),
    (CHAT, {"n": -4}, 1),
    (CHAT, {"n": True}, 1),
    (CHAT, {"n": None}, 1),
    (MESSAGES, {"n": 3}, 1),
    (GEMINI, {"generationConfig": {"candidateCount": 4}}, 4),
    # Every prompt of a list is answered, n times.
    (COMPLETION, {"prompt": ["a", "b", "c"], "n": 2}, 6),
    (COMPLETION, {"prompt": [[1, 2], [3]]}, 2),
    (COMPLETION, {"prompt": [1, 2, 3]}, 1),
    (COMPLETION, {"prompt": []}, 1),
    (COMPLETION, {"prompt": "a"}, 1),
]


@pytest.mark.parametrize(("route", "data", "choices"), CHOICES)
def test_choices(route: Route, data: dict[str, Any], choices: int) -> None:
    assert choices_of(data, route) == choices


def test_messages_are_counted_and_embeddings_do_not_generate() -> None:
    assert shape_of({"messages": [{}, {}, {}]}, CHAT).messages == 3
    assert shape_of({"messages": "one"}, CHAT).messages == 1
    assert not shape_of({"input": "text"}, EMBEDDING).generates
