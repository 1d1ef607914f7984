"""Load for one proxy, in a process of its own: so many clients, each asking again as soon as it was answered.

Raw sockets: a comfortable HTTP client would take more of the machine than the proxy it measures.
"""

import asyncio
import json
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

_LONGEST = 120.0
"""Seconds after which one answer counts as never coming."""


@dataclass(frozen=True, slots=True)
class Request:
    """The bytes one client sends, again and again."""

    content: bytes

    @classmethod
    def of(cls, headers: Mapping[str, str], body: Mapping[str, Any]) -> "Request":
        """Print one POST to /v1/chat/completions."""
        data = json.dumps(body).encode()
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = (
            "POST /v1/chat/completions HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
            f"content-length: {len(data)}\r\n{lines}\r\n"
        )
        return cls(head.encode() + data)


async def _answer(reader: asyncio.StreamReader) -> None:
    head = (await reader.readuntil(b"\r\n\r\n")).lower()
    if not head.startswith(b"http/1.1 200"):
        raise RuntimeError(f"the proxy answered {head[:300].decode(errors='replace')}")
    if b"transfer-encoding: chunked" not in head:
        await reader.readexactly(int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0]))
        return
    while size := int(await reader.readuntil(b"\r\n"), 16):
        await reader.readexactly(size + 2)
    await reader.readexactly(2)


async def run(port: int, requests: Sequence[bytes], seconds: float) -> list[float]:
    """Return the seconds each call took, of one client per request."""
    took: list[float] = []
    until = time.perf_counter() + seconds

    async def client(request: bytes) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**20)
        while (started := time.perf_counter()) < until:
            writer.write(request)
            async with asyncio.timeout(_LONGEST):
                await _answer(reader)
            took.append(time.perf_counter() - started)
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(client(request) for request in requests))
    return took


def main() -> None:
    """Read what to do from standard input, write what was measured to standard output."""
    wish = json.load(sys.stdin)
    requests = [Request.of(headers, wish["body"]).content for headers in wish["clients"]]
    started = time.perf_counter()
    took = asyncio.run(run(wish["port"], requests, wish["seconds"]))
    json.dump({"took": took, "elapsed": time.perf_counter() - started}, sys.stdout)


if __name__ == "__main__":
    main()
