import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from owui_budget_sync.json_stream import objects

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)


async def cut(text: str, size: int) -> AsyncIterator[str]:
    for start in range(0, len(text), size):
        yield text[start : start + size]


async def read(text: str, size: int = 5, key: str | None = None) -> list[Any]:
    return [item async for item in objects(cut(text, size), key=key)]


@settings(max_examples=60, deadline=None)
@given(st.lists(values, max_size=5), st.integers(1, 40), st.none() | st.integers(0, 4))
async def test_it_reads_what_json_reads(items: list[Any], size: int, indent: int | None) -> None:
    assert await read(json.dumps(items, indent=indent), size) == items
    assert await read(json.dumps({"users": items, "total": 3}, indent=indent), size, key="users") == items


@pytest.mark.parametrize("text", ["", "[", "[1", "[1,", "[1 2]", "[1,]", '{"users": []}', "<html>", "[1] x", "nul"])
async def test_it_refuses_what_is_no_list(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await read(text)


@pytest.mark.parametrize(
    "text", ['{"users":[1]', '{"users":[1],', '{"users":[1],"total":', '{"other":[1]}', "[]", '{"users":{}}', "{}"]
)
async def test_it_refuses_an_object_that_breaks_off_or_has_another_key(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        await read(text, key="users")
