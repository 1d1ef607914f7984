"""Anthropic's /messages."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from stack.provider import tokens
from stack.provider.answer import Answer, StreamError, event, finish, pieces, prepare

router = APIRouter()


@router.post("/messages")
async def messages(request: Request) -> Response:
    """Answer a conversation."""
    body = await request.json()
    answer = await prepare(request, body, body.get("messages"), _prompt(body), cap=body.get("max_tokens"))
    if body.get("stream"):
        return StreamingResponse(_stream(body, answer), media_type="text/event-stream")
    finish(answer, usage=answer.reports_usage)
    content = _tool(answer) if answer.tool else {"type": "text", "text": answer.text}
    message = {**_message(body, answer), "content": [content], "stop_reason": _stop_reason(answer)}
    message["usage"] = _usage(answer, answer.call.completion_tokens)
    return JSONResponse(message)


@router.post("/messages/count_tokens")
async def count_tokens(request: Request) -> dict[str, int]:
    """Count without answering."""
    return {"input_tokens": _prompt(await request.json())}


def _prompt(body: dict[str, Any]) -> int:
    parts = (body.get("tools"), body.get("system"))
    return tokens.count_messages(body.get("messages", [])) + sum(map(tokens.count_any, parts))


def _usage(answer: Answer, output: int) -> dict[str, int]:
    # Anthropic counts what it read from its cache beside the input, not as a part of it.
    cached = min(answer.wishes.cached, answer.call.prompt_tokens)
    return {
        "input_tokens": answer.call.prompt_tokens - cached,
        "cache_read_input_tokens": cached,
        "cache_creation_input_tokens": 0,
        "output_tokens": output,
    }


def _message(body: dict[str, Any], answer: Answer) -> dict[str, Any]:
    return {
        "id": f"msg_{answer.id}",
        "type": "message",
        "role": "assistant",
        "model": body.get("model"),
        "content": [],
        "stop_reason": None,
        "stop_sequence": None,
        "usage": _usage(answer, 1),
    }


def _tool(answer: Answer) -> dict[str, Any]:
    return {"type": "tool_use", "id": f"toolu_{answer.call.number}", "name": answer.tool, "input": {}}


def _stop_reason(answer: Answer) -> str:
    if answer.tool:
        return "tool_use"
    return "max_tokens" if answer.truncated else "end_turn"


async def _stream(body: dict[str, Any], answer: Answer) -> AsyncIterator[str]:
    def send(kind: str, **content: Any) -> str:
        return event({"type": kind, **content}, kind)

    yield send("message_start", message=_message(body, answer))
    block = _tool(answer) if answer.tool else {"type": "text", "text": ""}
    yield send("content_block_start", index=0, content_block=block)
    if answer.tool:
        yield send("content_block_delta", index=0, delta={"type": "input_json_delta", "partial_json": "{}"})
    try:
        async for text in pieces(
            answer, lambda message: send("error", error={"type": "api_error", "message": message})
        ):
            yield send("content_block_delta", index=0, delta={"type": "text_delta", "text": text})
    except StreamError as error:
        yield error.event
        return
    yield send("content_block_stop", index=0)
    answer.call.usage_reported = True
    delta = {"stop_reason": _stop_reason(answer), "stop_sequence": None}
    yield send("message_delta", delta=delta, usage={"output_tokens": answer.call.completion_tokens})
    yield send("message_stop")
