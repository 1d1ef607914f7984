"""A model provider that costs next to nothing, so that the proxy is what gets measured: fixed answers, raw sockets."""

import asyncio
import json
import sys

_PIECES = 20
_USAGE = {"prompt_tokens": 30, "completion_tokens": _PIECES, "total_tokens": 30 + _PIECES}
_HEAD = {"id": "bench-1", "created": 1_700_000_000, "model": "bench"}


def _plain() -> bytes:
    message = {"role": "assistant", "content": "word " * _PIECES}
    choices = [{"index": 0, "message": message, "finish_reason": "stop"}]
    body = json.dumps({**_HEAD, "object": "chat.completion", "choices": choices, "usage": _USAGE}).encode()
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return head.encode() + body


def _stream() -> bytes:
    def piece(choices: list[object], **more: object) -> bytes:
        chunk = {**_HEAD, "object": "chat.completion.chunk", "choices": choices, **more}
        data = b"data: " + json.dumps(chunk).encode() + b"\n\n"
        return f"{len(data):x}\r\n".encode() + data + b"\r\n"

    parts = [piece([{"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}])]
    word = {"index": 0, "delta": {"content": "word "}, "finish_reason": None}
    parts += [piece([word]) for _ in range(_PIECES)]
    parts += [piece([{"index": 0, "delta": {}, "finish_reason": "stop"}]), piece([], usage=_USAGE)]
    done = b"data: [DONE]\n\n"
    parts += [f"{len(done):x}\r\n".encode() + done + b"\r\n", b"0\r\n\r\n"]
    head = b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(parts)


async def _serve(port: int) -> None:
    plain, stream = _plain(), _stream()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = (await reader.readuntil(b"\r\n\r\n")).lower()
                length = int(head.partition(b"content-length:")[2].split(b"\r\n", 1)[0] or 0)
                body = await reader.readexactly(length)
                writer.write(stream if b'"stream":true' in body.replace(b" ", b"") else plain)
                await writer.drain()
        except (asyncio.IncompleteReadError, ConnectionError):
            writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", port)
    await server.serve_forever()


if __name__ == "__main__":
    asyncio.run(_serve(int(sys.argv[1])))
