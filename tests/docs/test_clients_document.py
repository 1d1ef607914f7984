"""docs/clients.md: its example runs, and its messages are those that clients receive."""

import json
from collections.abc import Callable
from datetime import datetime
from functools import partial
from typing import Any
from zoneinfo import ZoneInfo

import httpx
import openai
import pytest
from docs.pages import blocks, codes, rows, text_of

from owui_budget.domain.decisions import Refused, Standing
from owui_budget.domain.identity import Counter, CounterKind
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window, span_of
from owui_budget_hooks import answers, headers

TEXT = text_of("docs/clients.md")
BERLIN = ZoneInfo("Europe/Berlin")
NOW = datetime(2026, 11, 21, 15, 33, tzinfo=BERLIN).timestamp()


def refusal() -> answers.BudgetExceeded:
    counter = Counter(CounterKind.USER, "u")
    limit = LimitInForce(Scope.MEMBER, Window.DAILY, Bounds(80_000, 100_000), counter, "24695af1", "Students")
    standing = Standing(limit, span_of(Window.DAILY, NOW, BERLIN), 100_412, 0)
    return answers.BudgetExceeded(Refused((standing,), standing), NOW, BERLIN, None)


@pytest.mark.parametrize("page", ["docs/clients.md", "README.md"])
def test_the_refusal_is_what_clients_receive(page: str) -> None:
    [shown] = blocks(text_of(page), "json")
    assert json.loads(shown) == {"error": refusal().to_dict()}


def test_every_header_is_documented() -> None:
    documented = {codes(row[0])[0] for row in rows(TEXT, "| header |")}
    sent = refusal().headers
    assert set(sent) | {"X-Budget-Warning"} == documented
    example = blocks(TEXT, "")[0]
    names = {line.partition(":")[0] for line in example.splitlines()}
    assert names == documented - {"Retry-After", "X-Should-Retry"}


def test_every_code_is_documented() -> None:
    made = [
        answers.request_refused("", None),
        answers.unbounded(""),
        answers.identity_refused(""),
        answers.unavailable(1, ""),
    ]
    documented = {(row[0], codes(row[1])[0]) for row in rows(TEXT, "| status |")}
    assert documented == {(each.code, each.to_dict()["code"]) for each in made}


@pytest.fixture
def ask(monkeypatch: pytest.MonkeyPatch) -> Callable[[httpx.Response], Callable[[str], str]]:
    """The example's own `ask`, against one answer; a second request would fail."""

    def prepare(answer: httpx.Response) -> Callable[[str], str]:
        waiting = [answer]
        http = httpx.Client(transport=httpx.MockTransport(lambda _: waiting.pop()))
        monkeypatch.setenv("LITELLM_URL", "http://litellm.example")
        monkeypatch.setenv("LITELLM_KEY", "sk-example")
        monkeypatch.setattr(openai, "OpenAI", partial(openai.OpenAI, http_client=http))
        names: dict[str, Any] = {}
        [example] = blocks(TEXT, "python")
        exec(compile(example, "docs/clients.md", "exec"), names)  # noqa: S102 - our own document
        function: Callable[[str], str] = names["ask"]
        return function

    return prepare


def test_the_example_reads_a_refusal_and_the_sdk_does_not_retry_it(
    ask: Callable[[httpx.Response], Callable[[str], str]],
) -> None:
    refused = refusal()
    answer = httpx.Response(429, json={"error": refused.to_dict()}, headers=refused.headers)
    said = ask(answer)("hi")
    assert said.startswith("Daily limit of 100,000 tokens for group Students reached (100,412 used).")
    assert said.endswith(f"(daily member; again in {refused.headers['Retry-After']} s)")


def test_the_example_prints_a_warning_and_returns_the_answer(
    ask: Callable[[httpx.Response], Callable[[str], str]], capsys: pytest.CaptureFixture[str]
) -> None:
    message = {"role": "assistant", "content": "hello"}
    body = {
        "id": "1",
        "object": "chat.completion",
        "created": 1,
        "model": "gpt-5",
        "choices": [{"index": 0, "finish_reason": "stop", "message": message}],
    }
    warning = "81% of your daily token limit is used; it resets at 00:00 (CET)."
    answer = httpx.Response(200, json=body, headers={"X-Budget-Warning": warning})
    assert ask(answer)("hi") == "hello"
    assert capsys.readouterr().out == f"{warning}\n"


def test_the_examples_headers_are_rendered_so() -> None:
    example = dict(line.split(": ", 1) for line in blocks(TEXT, "")[0].splitlines())
    rendered = headers.render(refusal_free(), NOW, BERLIN)
    assert rendered["X-Budget-Policy"] == example["X-Budget-Policy"]
    assert rendered["X-Budget-Remaining-Tokens"] == example["X-Budget-Remaining-Tokens"]
    assert rendered["X-Budget-Warning"] == example["X-Budget-Warning"]
    assert rendered["X-Budget-Reset"] == example["X-Budget-Reset"]
    assert rendered["RateLimit-Policy"].split(", ")[0] == example["RateLimit-Policy"].split(", ")[0]


def refusal_free() -> Any:
    from owui_budget.domain.decisions import Warned

    counter = Counter(CounterKind.USER, "u")
    limit = LimitInForce(Scope.MEMBER, Window.DAILY, Bounds(80_000, 100_000), counter, "24695af1", "Students")
    standing = Standing(limit, span_of(Window.DAILY, NOW, BERLIN), 81_750, 0)
    return Warned((standing,), (standing,))
