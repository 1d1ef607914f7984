import json

import pytest
from kit import BERLIN, NOW, limit, standing
from litellm.proxy._types import ProxyException

from owui_budget.domain.decisions import Refused
from owui_budget.domain.limits import Scope
from owui_budget.domain.windows import Window
from owui_budget_hooks import answers


def body(answer: answers.BudgetAnswer) -> str:
    """What LiteLLM's exception handler sends."""
    return json.dumps({"error": answer.to_dict()}, separators=(",", ":"))


def exceeded(used: int = 100_412, held: int = 0) -> answers.BudgetExceeded:
    blocking = standing(limit(), used=used, held=held)
    return answers.BudgetExceeded(Refused((blocking,), blocking), NOW, BERLIN, None)


def test_the_429_of_the_design() -> None:
    assert body(exceeded()) == (
        '{"error":{"message":"Daily limit of 100,000 tokens for group Students reached (100,412 used).'
        ' It resets at 00:00 CET, in 8 h 27 min.",'
        '"type":"insufficient_quota","param":null,"code":"budget_exceeded",'
        '"budget":{"window":"daily","scope":"member","group":"Students","limit":100000,"used":100412,'
        '"remaining":0,"resets_at":"2026-11-22T00:00:00+01:00"}}}'
    )


def test_the_headers_of_a_429() -> None:
    answer = exceeded()

    assert int(answer.code) == 429
    assert answer.headers == {
        "RateLimit-Policy": '"daily";q=100000;qu="tokens";w=86400',
        "RateLimit": '"daily";r=0;t=30411',
        "X-Budget-Status": "hard",
        "X-Budget-Policy": "group=24695af1;scope=member;window=daily;limit=100000;used=100412",
        "X-Budget-Remaining-Tokens": "0",
        "X-Budget-Reset": "2026-11-22T00:00:00+01:00",
        "Retry-After": "30411",
        "X-Should-Retry": "false",
    }


def test_what_running_calls_hold_may_be_free_again_soon() -> None:
    assert exceeded(used=40_000, held=60_000).headers["Retry-After"] == "5"


def test_a_strict_refusal_with_tokens_left_is_not_about_running_calls() -> None:
    answer = exceeded(used=99_000)

    assert answer.headers["Retry-After"] == "30411"
    assert answer.to_dict()["budget"]["remaining"] == 1_000


def test_a_default_limit_names_no_group() -> None:
    blocking = standing(limit(Window.MONTHLY, 10, group=None, scope=Scope.MEMBER), used=10)

    answer = answers.BudgetExceeded(Refused((blocking,), blocking), NOW, BERLIN, None)

    assert answer.to_dict()["budget"]["group"] is None
    assert "group=defaults" in answer.headers["X-Budget-Policy"]


OTHERS = [
    (
        answers.identity_refused("the header X-OpenWebUI-User-Jwt is missing"),
        401,
        {},
        '{"error":{"message":"This key belongs to an Open WebUI connection, and the call does not prove its user:'
        ' the header X-OpenWebUI-User-Jwt is missing.","type":"invalid_request_error","param":null,'
        '"code":"budget_identity_refused"}}',
    ),
    (
        answers.request_refused("One model, please.", "model"),
        400,
        {},
        '{"error":{"message":"One model, please.","type":"invalid_request_error","param":"model",'
        '"code":"budget_unsupported_request"}}',
    ),
    (
        answers.unbounded("No bound."),
        400,
        {},
        '{"error":{"message":"No bound.","type":"invalid_request_error","param":null,"code":"budget_unbounded"}}',
    ),
    (
        answers.unavailable(10, "Try again shortly."),
        503,
        {"Retry-After": "10"},
        '{"error":{"message":"Try again shortly.","type":"server_error","param":null,"code":"budget_unavailable"}}',
    ),
]


@pytest.mark.parametrize(("answer", "status", "headers", "expected"), OTHERS)
def test_the_other_answers(answer: answers.BudgetAnswer, status: int, headers: dict[str, str], expected: str) -> None:
    assert (int(answer.code), answer.headers, body(answer)) == (status, headers, expected)


def test_every_answer_is_an_exception_litellm_leaves_alone() -> None:
    for answer in (exceeded(), *(each[0] for each in OTHERS)):
        assert isinstance(answer, ProxyException)
        assert answer.message == str(answer)
        assert isinstance(answer.code, str)  # LiteLLM turns it into the status
        assert all(isinstance(each, str) for pair in answer.headers.items() for each in pair)


def test_retry_after_is_never_below_a_second() -> None:
    assert answers.unavailable(0, "Now.").headers["Retry-After"] == "1"
    blocking = standing(limit(), used=100_412)
    late = answers.BudgetExceeded(Refused((blocking,), blocking), blocking.span.end + 5, BERLIN, None)
    assert late.headers["Retry-After"] == "1"
