"""OpenAI's /chat/completions and /completions."""

from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import JSONResponse, Response, StreamingResponse

from stack.provider import tokens
from stack.provider.answer import Answer, StreamError, event, finish, pieces, prepare
from stack.provider.calls import now

router = APIRouter()


@router.post("/chat/completions")
async def chat_completions(request: Request) -> Response:
    """Answer a conversation."""
    body = await request.json()
    prompt = tokens.count_messages(body.get("messages", [])) + tokens.count_any(body.get("tools"))
    cap = body.get("max_completion_tokens") or body.get("max_tokens")
    answer = await prepare(request, body, body.get("messages"), prompt, cap=cap, choices=body.get("n") or 1)
    return _respond(body, answer, _Chat(body, answer))


@router.post("/completions")
async def completions(request: Request) -> Response:
    """Continue a prompt, or several."""
    body = await request.json()
    prompts = body.get("prompt")
    several = len(prompts) if isinstance(prompts, list) and prompts and isinstance(prompts[0], str | list) else 1
    choices = several * (body.get("n") or 1)
    answer = await prepare(
        request, body, prompts, tokens.count_any(prompts), cap=body.get("max_tokens"), choices=choices
    )
    return _respond(body, answer, _Text(body, answer))


def usage_of(answer: Answer) -> dict[str, Any]:
    """Return usage in OpenAI's words."""
    call = answer.call
    return {
        "prompt_tokens": call.prompt_tokens,
        "completion_tokens": call.completion_tokens,
        "total_tokens": call.total_tokens,
        "prompt_tokens_details": {"cached_tokens": answer.wishes.cached, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": answer.wishes.reasoning, "audio_tokens": 0},
    }


class _Format(ABC):
    """The frame that both formats share; they differ in names and in what a choice holds."""

    kind: str
    piece_kind: str

    def __init__(self, body: dict[str, Any], answer: Answer) -> None:
        self.answer = answer
        self.head = {"id": answer.id, "created": int(now()), "model": body.get("model")}

    @property
    def finish_reason(self) -> str:
        if self.answer.tool:
            return "tool_calls"
        return "length" if self.answer.truncated else "stop"

    def whole(self) -> dict[str, Any]:
        return {**self.head, "object": self.kind, "choices": [self.choice(i) for i in range(self.answer.choices)]}

    def piece(self, choices: list[dict[str, Any]], **more: Any) -> str:
        return event({**self.head, "object": self.piece_kind, "choices": choices, **more})

    @abstractmethod
    def choice(self, index: int) -> dict[str, Any]: ...

    @abstractmethod
    def opening(self, index: int) -> dict[str, Any] | None: ...

    @abstractmethod
    def part(self, index: int, text: str) -> dict[str, Any]: ...

    @abstractmethod
    def closing(self, index: int) -> dict[str, Any]: ...


class _Chat(_Format):
    kind = "chat.completion"
    piece_kind = "chat.completion.chunk"

    def _tool_call(self) -> dict[str, Any]:
        return {
            "id": f"call_{self.answer.call.number}",
            "type": "function",
            "function": {"name": self.answer.tool, "arguments": "{}"},
        }

    def choice(self, index: int) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.answer.text, "refusal": None}
        if self.answer.tool:
            message |= {"content": None, "tool_calls": [self._tool_call()]}
        return {"index": index, "message": message, "logprobs": None, "finish_reason": self.finish_reason}

    def opening(self, index: int) -> dict[str, Any]:
        delta: dict[str, Any] = {"role": "assistant", "content": None if self.answer.tool else ""}
        if self.answer.tool:
            delta["tool_calls"] = [{"index": 0, **self._tool_call()}]
        return {"index": index, "delta": delta, "finish_reason": None}

    def part(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "delta": {"content": text}, "finish_reason": None}

    def closing(self, index: int) -> dict[str, Any]:
        return {"index": index, "delta": {}, "finish_reason": self.finish_reason}


class _Text(_Format):
    kind = "text_completion"
    piece_kind = "text_completion"

    def choice(self, index: int) -> dict[str, Any]:
        return {**self.part(index, self.answer.text), "finish_reason": self.finish_reason}

    def opening(self, index: int) -> None:  # noqa: ARG002 - nothing comes before the text
        return None

    def part(self, index: int, text: str) -> dict[str, Any]:
        return {"index": index, "text": text, "logprobs": None, "finish_reason": None}

    def closing(self, index: int) -> dict[str, Any]:
        return {**self.part(index, ""), "finish_reason": self.finish_reason}


def _respond(body: dict[str, Any], answer: Answer, layout: _Format) -> Response:
    if not body.get("stream"):
        reported = answer.reports_usage
        finish(answer, usage=reported)
        return JSONResponse({**layout.whole(), **({"usage": usage_of(answer)} if reported else {})})
    wanted = bool((body.get("stream_options") or {}).get("include_usage")) and answer.reports_usage
    return StreamingResponse(
        _stream(answer, layout, usage=wanted or answer.wishes.usage == "always"), media_type="text/event-stream"
    )


async def _stream(answer: Answer, layout: _Format, *, usage: bool) -> AsyncIterator[str]:
    indexes = range(answer.choices)
    opening = [choice for choice in map(layout.opening, indexes) if choice]
    for choice in opening:
        yield layout.piece([choice])
    try:
        async for text in pieces(
            answer, lambda message: event({"error": {"message": message, "type": "server_error"}})
        ):
            for index in indexes:
                yield layout.piece([layout.part(index, text)])
    except StreamError as error:
        yield error.event
        return
    for index in indexes:
        yield layout.piece([layout.closing(index)])
    if usage:
        answer.call.usage_reported = True
        yield layout.piece([], usage=usage_of(answer))
    yield "data: [DONE]\n\n"
