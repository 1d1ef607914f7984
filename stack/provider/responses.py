"""OpenAI's /responses."""

from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from stack.provider import tokens
from stack.provider.answer import Answer, StreamError, event, finish, pieces, prepare
from stack.provider.calls import now

router = APIRouter()


@router.post("/responses")
async def responses(request: Request) -> Response:
    """Answer an input."""
    body = await request.json()
    given = body.get("input")
    messages = given if isinstance(given, list) else [{"role": "user", "content": given}]
    beside = sum(tokens.count_any(body.get(name)) for name in ("tools", "instructions"))
    prompt = tokens.count_messages(messages) + beside
    answer = await prepare(request, body, messages, prompt, cap=body.get("max_output_tokens"))
    if body.get("stream"):
        return StreamingResponse(_stream(body, answer), media_type="text/event-stream")
    finish(answer, usage=answer.reports_usage)
    return JSONResponse(_response(body, answer, "completed"))


def _usage(answer: Answer) -> dict[str, Any]:
    call = answer.call
    return {
        "input_tokens": call.prompt_tokens,
        "output_tokens": call.completion_tokens,
        "total_tokens": call.total_tokens,
        "input_tokens_details": {"cached_tokens": answer.wishes.cached},
        "output_tokens_details": {"reasoning_tokens": answer.wishes.reasoning},
    }


def _item(answer: Answer, status: str) -> dict[str, Any]:
    if answer.tool:
        return {
            "type": "function_call",
            "id": f"fc_{answer.id}",
            "call_id": f"call_{answer.call.number}",
            "name": answer.tool,
            "arguments": "{}",
            "status": status,
        }
    content = [{"type": "output_text", "text": answer.text, "annotations": []}] if status == "completed" else []
    return {"type": "message", "id": f"msg_{answer.id}", "role": "assistant", "status": status, "content": content}


def _response(body: dict[str, Any], answer: Answer, status: str) -> dict[str, Any]:
    complete = status == "completed"
    cut = complete and answer.truncated
    return {
        "id": f"resp_{answer.id}",
        "object": "response",
        "created_at": int(now()),
        "status": "incomplete" if cut else status,
        "incomplete_details": {"reason": "max_output_tokens"} if cut else None,
        "error": None,
        "model": body.get("model"),
        "instructions": body.get("instructions"),
        "output": [_item(answer, "completed")] if complete else [],
        "parallel_tool_calls": True,
        "tool_choice": "auto",
        "tools": body.get("tools") or [],
        "metadata": {},
        "temperature": 1.0,
        "top_p": 1.0,
        "max_output_tokens": body.get("max_output_tokens"),
        "previous_response_id": body.get("previous_response_id"),
        "usage": _usage(answer) if complete and answer.reports_usage else None,
    }


async def _stream(body: dict[str, Any], answer: Answer) -> AsyncIterator[str]:
    number = 0

    def send(kind: str, **content: Any) -> str:
        nonlocal number
        number += 1
        return event({"type": kind, "sequence_number": number, **content}, kind)

    place = {"item_id": f"msg_{answer.id}", "output_index": 0, "content_index": 0}
    yield send("response.created", response=_response(body, answer, "in_progress"))
    yield send("response.output_item.added", output_index=0, item=_item(answer, "in_progress"))
    if not answer.tool:
        part = {"type": "output_text", "text": "", "annotations": []}
        yield send("response.content_part.added", **place, part=part)
    try:
        async for text in pieces(
            answer, lambda message: send("error", code="server_error", message=message, param=None)
        ):
            yield send("response.output_text.delta", **place, delta=text)
    except StreamError as error:
        yield error.event
        return
    if not answer.tool:
        yield send("response.output_text.done", **place, text=answer.text)
    yield send("response.output_item.done", output_index=0, item=_item(answer, "completed"))
    answer.call.usage_reported = answer.reports_usage
    kind = "response.incomplete" if answer.truncated else "response.completed"
    yield send(kind, response=_response(body, answer, "completed"))
