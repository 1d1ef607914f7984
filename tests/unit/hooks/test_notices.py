import json
from collections.abc import Callable

import pytest
from kit import Flaky, Walk, in_flight, limit, request, standing, webui

from owui_budget.domain.decisions import Allowed, Notice, Warned
from owui_budget.errors import BudgetError
from owui_budget.ledger.protocol import OperationRejectedError
from owui_budget_hooks import browser
from owui_budget_hooks.inflight import InFlight
from owui_budget_hooks.notices import Notices
from owui_budget_hooks.request import Connection


def warned(user: str = "ann", used: int = 81_750, hard: int = 100_000) -> InFlight:
    passed = standing(limit(hard=hard, soft=80_000), used=used)
    return in_flight(decision=Warned((passed,), (passed,)), user=user)


async def test_a_warning_is_claimed_once(walk: Callable[..., Walk]) -> None:
    notices = walk().notices

    assert [each.threshold for each in await notices.claim(warned())] == ["soft"]
    assert await notices.claim(warned()) == ()


async def test_another_process_does_not_show_it_again(walk: Callable[..., Walk], ledger: Flaky) -> None:
    await walk().notices.claim(warned())

    assert await walk().notices.claim(warned()) == ()
    assert ledger.claims == 2


async def test_what_was_claimed_is_not_asked_for_again(walk: Callable[..., Walk], ledger: Flaky) -> None:
    notices = walk().notices
    for _ in range(5):
        await notices.claim(warned())

    assert ledger.claims == 1


@pytest.mark.parametrize("other", [warned("eve"), warned(used=91_000), warned(hard=100_001)])
async def test_another_user_threshold_or_limit_warns_anew(walk: Callable[..., Walk], other: InFlight) -> None:
    notices = walk().notices
    await notices.claim(warned())

    assert len(await notices.claim(other)) == 1


async def test_nothing_due_asks_nobody(walk: Callable[..., Walk], ledger: Flaky) -> None:
    calm = in_flight(decision=Allowed((standing(limit(), used=1_000),)))

    assert await walk().notices.claim(calm) == ()
    assert ledger.claims == 0


@pytest.mark.parametrize("error", [None, OperationRejectedError("no"), BudgetError("odd")])
async def test_a_ledger_that_fails_costs_the_warning_and_nothing_else(
    walk: Callable[..., Walk], ledger: Flaky, error: Exception | None
) -> None:
    notices = walk().notices
    ledger.down, ledger.error = error is None, error

    assert await notices.claim(warned()) == ()

    ledger.down, ledger.error = False, None
    assert len(await notices.claim(warned())) == 1


async def test_a_ledger_that_hangs_costs_half_a_second_at_most(
    walk: Callable[..., Walk], ledger: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("owui_budget_hooks.notices._CLAIM_SECONDS", 0.01)
    ledger.delay = 30.0

    assert await walk().notices.claim(warned()) == ()


def frame(notices: Notices, *due: Notice) -> dict[str, object]:
    raw = notices.frame(due)
    assert raw.startswith(b"data: ")
    assert raw.endswith(b"\n\n")
    assert raw.count(b"\n") == 2
    read: dict[str, object] = json.loads(raw.removeprefix(b"data: "))
    return read


def test_the_frame_is_one_server_sent_event_of_data_only(walk: Callable[..., Walk]) -> None:
    passed = Notice(standing(limit(), used=81_750), "75")

    assert frame(walk().notices, passed) == {
        "event": {
            "type": "notification",
            "data": {
                "type": "warning",
                "content": "81% of your daily token limit for group Students is used; it resets at 00:00 CET.",
            },
        }
    }


@pytest.mark.parametrize(
    "name", ['a\n\ndata: {"event":{"type":"execute"}}\n\n', '"}}, "type": "execute"', "\u2028\u0085", "<script>"]
)
def test_no_group_name_breaks_out_of_the_frame(walk: Callable[..., Walk], name: str) -> None:
    passed = Notice(standing(limit(group=("g", name)), used=81_750), "75")

    event = frame(walk().notices, passed)["event"]

    assert isinstance(event, dict)
    assert event["type"] == "notification"
    assert event.keys() == {"type", "data"}
    assert event["data"].keys() == {"type", "content"}


async def test_a_browser_chat_gets_usage_and_a_stream_for_its_warning(walk: Callable[..., Walk]) -> None:
    data, call = request(_litellm_strip_stream_usage=True), warned()

    await browser.prepare(data, call, walk().notices)

    assert "_litellm_strip_stream_usage" not in data
    assert (data["stream"], data["stream_options"]) == (True, {"include_usage": True})
    assert call.streaming
    assert len(call.notices) == 1


async def test_a_chat_without_a_warning_stays_as_it_was_asked_for(walk: Callable[..., Walk]) -> None:
    data, call = request(), in_flight()

    await browser.prepare(data, call, walk().notices)

    assert "stream" not in data
    assert not call.streaming


def test_an_api_client_is_no_browser_chat() -> None:
    call = in_flight()

    assert not browser.is_browser_chat(request(), call.route, None)
    assert not browser.is_browser_chat(request(), call.route, Connection.read(webui()))
    assert browser.is_browser_chat(request(), call.route, Connection.read(webui(message_id="m")))
