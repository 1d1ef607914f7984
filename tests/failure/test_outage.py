"""PostgreSQL goes away for some seconds under traffic, and comes back. One outage, looked at from every side."""

import json
import threading
import time
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import sqlalchemy as sa
from support.proxied import Person, eventually

from failure.fleet import CLOSED, OPEN, OPEN_FOR, OTHER, STRICT, Fleet
from owui_budget.database.tables import processes

pytestmark = pytest.mark.stack

CANARY = "canary-in-the-prompt-of-an-outage"


@dataclass
class Story:
    """What was seen during the outage."""

    fleet: Fleet
    fine: Person
    """Far from any limit."""
    over: Person
    """Past a limit, and refused once before the outage."""
    quiet: Person
    """Past a limit that no process has refused since."""
    lasting: Person
    """Had a stream running when the database went away."""
    killed: Person
    """Called the process that was killed with its spool full."""
    answers: dict[str, httpx.Response] = field(default_factory=dict)
    admitted: int = 0
    stream_text: str = ""
    spool_in_outage: str = ""
    killed_spool: str = ""
    ledger_up: list[float] = field(default_factory=list)
    admitted_open: float = 0
    spool_depth: float = 0
    heartbeats: list[dict[str, Any]] = field(default_factory=list)
    up_without_a_call: float = 0
    """Whether the metric says that the ledger answers, after the outage and before any call."""


@pytest.fixture(scope="module")
def story(fleet: Fleet) -> Story:
    fleet.up(OPEN, OTHER, CLOSED, STRICT)
    first = fleet[OPEN]
    roomy = first.group({"daily": {"hard": 10**9}}, pool={"daily": {"hard": 10**9}})
    small = first.group({"daily": {"hard": 20}})
    fine, lasting, killed = (first.person(roomy) for _ in range(3))
    over, quiet = first.person(small), first.person(small)
    story = Story(fleet, fine, over, quiet, lasting, killed)
    for name in (OPEN, OTHER, CLOSED, STRICT):
        for person in (fine, over):
            assert fleet.at(person, name).chat(model="sim-free").status_code == 200
    for person in (over, quiet):
        assert person.chat("[[sim tokens=30]] hi").status_code == 200
        person.events(1)
    assert over.chat().status_code == 429
    fine.events(4)

    streaming = threading.Thread(target=_stream, args=(story,))
    streaming.start()
    eventually(lasting.held, lambda held: held > 0)
    fleet.stack.stop("postgres")
    try:
        _outage(story)
        streaming.join(60)
        story.spool_depth = eventually(
            lambda: fleet.metric(OPEN, "owui_budget_spool_depth"), lambda depth: depth >= story.admitted + 1
        )
        story.spool_in_outage = "".join(path.read_text() for path in fleet.spool())
        _kill_with_a_spool(story)
    finally:
        fleet.stack.start_one("postgres")
    story.up_without_a_call = eventually(
        lambda: fleet.metric(OPEN, "owui_budget_ledger_up"), lambda up: up == 1, seconds=20
    )
    story.heartbeats = eventually(lambda: _heartbeats(fleet), lambda rows: len(rows) == 3, seconds=20)
    fleet.up(OTHER)
    return story


def _stream(story: Story) -> None:
    body = {
        "model": "sim-gpt",
        "stream": True,
        "messages": [{"role": "user", "content": f"[[sim tokens=40 delay=0.1]] {CANARY}"}],
    }
    with story.lasting.streaming("/v1/chat/completions", body) as answer:
        story.stream_text = "".join(answer.iter_text())


def _outage(story: Story) -> None:
    fleet, answers, started = story.fleet, story.answers, time.monotonic()
    while time.monotonic() - started < OPEN_FOR - 3 or story.admitted < 2:
        answers["open"] = story.fine.chat(f"[[sim tokens=10]] {CANARY}")
        story.admitted += answers["open"].status_code == 200
        if answers["open"].status_code != 200:
            break
    answers["over"] = story.over.chat()
    answers["quiet"] = story.quiet.chat("[[sim tokens=7]] hi")
    answers["closed"] = fleet.at(story.fine, CLOSED).chat()
    answers["closed stream"] = fleet.at(story.fine, CLOSED).chat(stream=True)
    answers["strict"] = fleet.at(story.fine, STRICT).chat()
    story.ledger_up = [fleet.metric(name, "owui_budget_ledger_up") for name in (OPEN, CLOSED)]
    answers["past open_for"] = _until_closed(story)
    story.admitted_open = fleet.metric(OPEN, "owui_budget_admitted_open_total")


def _until_closed(story: Story) -> httpx.Response:
    def call() -> httpx.Response:
        answer = story.fine.chat(f"[[sim tokens=10]] {CANARY}")
        story.admitted += answer.status_code == 200
        return answer

    return eventually(call, lambda answer: answer.status_code != 200, seconds=OPEN_FOR + 10)


def _kill_with_a_spool(story: Story) -> None:
    person = story.fleet.at(story.killed, OTHER)
    assert person.chat(f"[[sim tokens=21]] {CANARY}").status_code == 200
    mine = eventually(lambda: _spooled(story.fleet, person.id), lambda lines: len(lines) == 1)
    story.killed_spool = "".join(mine)
    story.fleet.stack.kill(OTHER)


def _spooled(fleet: Fleet, user_id: str) -> list[str]:
    return [line for path in fleet.spool() for line in path.read_text().splitlines() if user_id in line]


def _heartbeats(fleet: Fleet) -> list[dict[str, Any]]:
    """Those of processes that have been seen since the database is back."""
    with fleet[OPEN].engine.connect() as connection:
        rows = connection.execute(sa.select(processes).where(processes.c.seen_at > time.time() - 4)).mappings()
        return [dict(row) for row in rows]


def test_open_admits_and_spools(story: Story) -> None:
    assert story.admitted >= 2
    assert story.spool_in_outage.count(story.fine.id) >= story.admitted
    assert story.admitted_open >= story.admitted


def test_whoever_was_last_seen_over_a_limit_stays_refused(story: Story) -> None:
    answer = story.answers["over"]
    assert answer.status_code == 429, answer.text
    assert answer.json()["error"]["code"] == "budget_exceeded"
    assert int(answer.headers["retry-after"]) > 0
    assert story.over.id not in story.spool_in_outage


def test_a_limit_that_nobody_met_before_the_outage_is_not_known_in_it(story: Story) -> None:
    # By design: only refusals are remembered. The usage is charged all the same.
    assert story.answers["quiet"].status_code == 200
    events = story.quiet.events(2)
    assert sorted(event["completion"] for event in events) == [7, 30]


@pytest.mark.parametrize("which", ["closed", "closed stream", "strict", "past open_for"])
def test_closed_strict_and_the_end_of_open_for_answer_503_with_retry_after(story: Story, which: str) -> None:
    answer = story.answers[which]
    assert answer.status_code == 503, answer.text
    assert answer.headers["content-type"] == "application/json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    error = answer.json()["error"]
    assert (error["type"], error["code"]) == ("server_error", "budget_unavailable")
    assert "Token budgets cannot be checked" in error["message"]


def test_metrics_and_log_tell_of_the_outage_and_of_its_end_though_nobody_calls(story: Story) -> None:
    assert story.ledger_up == [0, 0]
    assert story.up_without_a_call == 1
    log = story.fleet[OPEN].log()
    assert "the ledger cannot be reached" in log
    assert "on_ledger_error is open" in log
    assert "the ledger answers again after" in log


def test_heartbeats_come_back_and_say_that_the_outage_is_over(story: Story) -> None:
    assert len(story.heartbeats) == 3
    rows = eventually(
        lambda: _heartbeats(story.fleet),
        lambda rows: len(rows) == 4 and all(row["open_since"] is None and not row["spool_depth"] for row in rows),
        seconds=20,
    )
    assert [(row["open_since"], row["spool_depth"]) for row in rows] == [(None, 0)] * 4


def test_after_the_outage_every_call_is_charged_once(story: Story) -> None:
    spooled = story.admitted
    events = story.fine.events(4 + spooled)
    charged = [event for event in events if event["charge"]]
    assert len(charged) == spooled
    assert {(event["type"], event["completion"], event["estimated"]) for event in charged} == {("usage", 10, False)}
    assert story.fine.used() == sum(event["charge"] for event in events)
    pool = story.fleet[OPEN].counter(f"pool:{story.fine.groups[0]}", "daily_used")
    members = (story.fine, story.lasting, story.killed)
    assert pool == sum(each.used() for each in members)


def test_a_stream_that_outlived_the_database_is_charged_its_truth(story: Story) -> None:
    assert story.stream_text.rstrip().endswith("[DONE]")
    assert eventually(story.lasting.held, lambda held: held == 0) == 0
    events = story.lasting.events(1)
    # Where another process met the lapsed lease first, its estimate has been corrected.
    assert sum(event["completion"] for event in events) == 40
    assert story.lasting.used() == sum(event["charge"] for event in events)


def test_a_spool_whose_process_was_killed_is_replayed_by_the_next_start(story: Story) -> None:
    assert story.killed.id in story.killed_spool
    assert [event["completion"] for event in story.killed.events(1)] == [21]
    assert "took over 1 spooled records of a process that ended" in story.fleet.stack.log(OTHER).read_text()


def test_the_books_are_exact_and_the_spool_is_empty(story: Story) -> None:
    assert eventually(lambda: [path.stat().st_size for path in story.fleet.spool()], lambda sizes: not sum(sizes))
    assert story.fleet[OPEN].discrepancies() == []
    for name in (OPEN, OTHER, CLOSED, STRICT):
        answer = story.fleet.at(story.fine, name).chat()
        assert answer.status_code == 200, answer.text


def test_no_prompt_and_no_secret_is_in_the_spool(story: Story) -> None:
    spooled = story.spool_in_outage + story.killed_spool
    litellm = story.fleet[OPEN].litellm
    assert json.loads(story.killed_spool)["settle"]["charge"] > 0
    for secret in (CANARY, litellm.openwebui_key, litellm.master_key, litellm.jwt_secret, "eyJ"):
        assert secret not in spooled
