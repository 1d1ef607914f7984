"""Reads a long JSON list piece by piece: 100,000 users are 25 MB of text and several times that as dictionaries."""

import json
from collections.abc import AsyncIterator
from typing import Any

_DECODER = json.JSONDecoder()


async def objects(chunks: AsyncIterator[str], *, key: str | None = None) -> AsyncIterator[Any]:
    """Yield the items of a JSON array: the whole document, or the value of its first member, which must be `key`.

    Only the item at hand is held in memory. Items are yielded before the document's end has been seen, so a caller
    acts on them only once the iteration has ended without an error.

    Raises:
        ValueError: the document is no such JSON, or breaks off.

    """
    text = _Text(chunks)
    if key is not None:
        await text.take("{")
        if await text.value() != key:
            msg = f"expected an object that starts with {key!r}"
            raise ValueError(msg)
        await text.take(":")
    await text.take("[")
    if await text.peek() != "]":
        yield await text.value()
        while await text.peek() != "]":
            await text.take(",")
            yield await text.value()
    await text.take("]")
    rest = await text.rest()
    if key is not None:
        json.loads('{"":0' + rest)
    elif rest.strip():
        msg = f"unexpected text after the list: {rest[:40]!r}"
        raise ValueError(msg)


class _Text:
    """A text that arrives in chunks, read from a position."""

    def __init__(self, chunks: AsyncIterator[str]) -> None:
        self._chunks = chunks
        self._text = ""
        self._position = 0

    async def peek(self) -> str:
        """The next character that is no space; empty at the end."""
        while True:
            while self._position < len(self._text) and self._text[self._position] in " \t\r\n":
                self._position += 1
            if self._position < len(self._text):
                return self._text[self._position]
            if not await self._more():
                return ""

    async def take(self, character: str) -> None:
        found = await self.peek()
        if found != character:
            msg = f"expected {character} and got {self._text[self._position :][:40] or 'the end'!r}"
            raise ValueError(msg)
        self._position += 1

    async def value(self) -> Any:
        await self.peek()
        while True:
            try:
                value, end = _DECODER.raw_decode(self._text, self._position)
            except ValueError:
                if not await self._more():
                    raise
                continue
            # A number that ends with the chunk may go on in the next one.
            if end < len(self._text) or not await self._more():
                self._position = end
                return value

    async def rest(self) -> str:
        while await self._more():
            pass
        return self._text[self._position :]

    async def _more(self) -> bool:
        more = await anext(self._chunks, None)
        if more is None:
            return False
        self._text = self._text[self._position :] + more
        self._position = 0
        return True
