"""What is answered, whatever the format: text, tool call, token counts, and the things that shall go wrong."""

import asyncio
import hashlib
import json
import re
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from fastapi import Request

from stack.provider import tokens
from stack.provider.calls import Account, Call
from stack.provider.wishes import Wishes, last_user_text

_TASKS = (
    (re.compile(r"generate a concise.*title|\"title\"", re.IGNORECASE | re.DOTALL), {"title": "Simulated chat"}),
    (
        re.compile(r"follow[-_]up", re.IGNORECASE),
        {"follow_ups": ["What is simulated here?", "How are tokens counted?"]},
    ),
    (re.compile(r"broad tags|\"tags\"", re.IGNORECASE), {"tags": ["Simulated"]}),
)


class SimulatedError(Exception):
    """An error answer, in OpenAI's shape."""

    def __init__(self, status: int, message: str) -> None:
        """Keep the HTTP status and the text."""
        super().__init__(message)
        self.status = status


class ConnectionBrokenError(Exception):
    """Raised inside a response so that the server drops the connection, as a provider that crashes does."""


MOST_CHOICES = 128
"""What real providers allow."""
_RUN = uuid4().hex[:8]
"""In every answer's id: LiteLLM keeps one record per id for ever, so none may come back after a restart."""


@dataclass(frozen=True, slots=True)
class Answer:
    """One complete answer."""

    call: Call
    wishes: Wishes
    text: str
    choices: int
    truncated: bool
    tool: str | None
    """Name of the tool to call instead of a text."""

    @property
    def id(self) -> str:
        """A name for the answer that no other answer has or had."""
        return f"sim-{_RUN}-{self.call.number}"

    @property
    def reports_usage(self) -> bool:
        """Whether an answer in one piece carries its usage."""
        return self.wishes.usage != "none"


async def prepare(
    request: Request, body: dict[str, Any], prompt: Any, prompt_tokens: int, *, cap: int | None, choices: object = 1
) -> Answer:
    """Open the call's record, wait and fail as wished, and make the answer.

    Raises:
        SimulatedError: an error was asked for, or a wish is misspelt.
        ConnectionBrokenError: the connection shall break instead of an answer.

    """
    account: Account = request.app.state.account
    model = str(body.get("model", ""))
    text = last_user_text(prompt)
    call = account.open(request.url.path, model, dict(request.headers), body, stream=bool(body.get("stream")))
    try:
        wishes = Wishes.parse(model, text)
    except ValueError as error:
        raise failed(call, 400, f"unknown wish for the simulated provider: {error}") from error
    if not isinstance(choices, int) or not 1 <= choices <= MOST_CHOICES:
        raise failed(call, 400, f"n must be from 1 to {MOST_CHOICES}")
    await asyncio.sleep(wishes.first + (0 if call.stream else wishes.delay))
    _fail_if_wished(account, call, wishes)
    if wishes.die is not None and not call.stream:
        call.outcome = "died"
        raise ConnectionBrokenError
    tool = _tool(body, prompt) if wishes.tool else None
    whole = _text(model, text, wishes)
    answer, truncated = tokens.truncate(whole, None if wishes.cap == "ignore" else cap)
    call.prompt_tokens = prompt_tokens
    call.completion_tokens = (
        choices * (tokens.count(f"{tool} {{}}") if tool else tokens.count(answer)) + wishes.reasoning
    )
    return Answer(call, wishes, answer, choices, truncated and not tool, tool)


def failed(call: Call, status: int, message: str) -> SimulatedError:
    """Note in the record that the call failed, and return the error to raise."""
    call.status, call.outcome = status, "failed"
    return SimulatedError(status, message)


def finish(answer: Answer, *, usage: bool) -> None:
    """Note that an answer in one piece was made."""
    answer.call.usage_reported = usage
    answer.call.sent_tokens = answer.call.completion_tokens
    answer.call.outcome = "ok"


async def pieces(answer: Answer, broken: Callable[[str], str]) -> AsyncIterator[str]:
    """Yield the answer's text piece by piece, each one token, and note how far it got.

    `broken` renders an error in the format's own words, for `error=N`.

    Raises:
        ConnectionBrokenError: `die` was wished.
        StreamError: `error` was wished; the stream ends with its event.

    """
    call, wishes = answer.call, answer.wishes
    parts = [] if answer.tool else tokens.split(answer.text)
    try:
        for number, part in enumerate(parts):
            _break_if_wished(answer, number, broken)
            if wishes.delay:
                await asyncio.sleep(wishes.delay)
            yield part
            call.sent_tokens = (number + 1) * answer.choices
        if wishes.die is not None:
            _break_if_wished(answer, wishes.die, broken)
        call.sent_tokens, call.outcome = call.completion_tokens, "ok"
    finally:
        if call.outcome == "running":
            call.outcome = "gone"


def _break_if_wished(answer: Answer, number: int, broken: Callable[[str], str]) -> None:
    if answer.wishes.die == number:
        answer.call.outcome = "died"
        raise ConnectionBrokenError
    if answer.wishes.error == number:
        answer.call.outcome = "died"
        raise StreamError(broken("simulated failure in the middle of the stream"))


class StreamError(Exception):
    """Carries the event with which a stream ends early."""

    def __init__(self, event: str) -> None:
        """Keep the event's text."""
        super().__init__("simulated error in a stream")
        self.event = event


def event(data: Mapping[str, Any], name: str | None = None) -> str:
    """Render one server-sent event."""
    return (f"event: {name}\n" if name else "") + f"data: {json.dumps(data)}\n\n"


def _fail_if_wished(account: Account, call: Call, wishes: Wishes) -> None:
    status = wishes.status or 500
    if wishes.fail is not None:
        digest = hashlib.sha256(repr((call.model, wishes)).encode()).hexdigest()
        if account.still_failing(wishes.key or digest, wishes.fail):
            raise failed(call, status, "simulated failure, passing")
    elif wishes.status is not None:
        raise failed(call, status, "simulated failure")


def _text(model: str, prompt: str, wishes: Wishes) -> str:
    if wishes.tokens is not None:
        return tokens.words(wishes.tokens)
    if prompt.lstrip().startswith("### Task"):
        for pattern, answer in _TASKS:
            if pattern.search(prompt):
                return json.dumps(answer)
    quoted = " ".join(prompt.split())[:200]
    return (
        f"This is a simulated answer from {model}; no model was asked. You wrote: \u201c{quoted}\u201d. "
        "Begin a message with [[sim tokens=500]] for an answer of 500 tokens."
    )


def _tool(body: dict[str, Any], prompt: Any) -> str | None:
    if isinstance(prompt, list) and prompt and isinstance(prompt[-1], dict):
        last = prompt[-1]
        parts = last.get("content")
        results = isinstance(parts, list) and any(isinstance(p, dict) and p.get("type") == "tool_result" for p in parts)
        if last.get("role") == "tool" or last.get("type") == "function_call_output" or results:
            return None
    match body.get("tools"):
        case [{"function": {"name": str(name)}}, *_] | [{"name": str(name)}, *_]:
            return name
        case _:
            return None
