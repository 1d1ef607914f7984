import importlib.util
import json
from pathlib import Path
from typing import Any, Self

import httpx
import pytest

from owui_budget.clock import ManualClock
from owui_budget_sync.health import Health
from owui_budget_sync.openwebui import install
from owui_budget_sync.policy_sync import Depth
from owui_budget_sync.service import BODY_LIMIT, FAILURES, make_app
from owui_budget_sync.signature import SIGNATURE, TIMESTAMP, TOLERANCE, SignatureCheck, sign

SECRET = "a-secret-of-some-length"


class House:
    def __init__(self, secret: str | None = SECRET) -> None:
        self.clock = ManualClock(1_800_000_000)
        self.health = Health(self.clock)
        self.asked: list[Depth] = []
        transport = httpx.ASGITransport(make_app(self.health, secret, self.asked.append), client=("10.0.0.1", 1))
        self.http = httpx.AsyncClient(transport=transport, base_url="http://sync")

    async def post(self, body: bytes, *, secret: str = SECRET, at: float | None = None, path: str = "/trigger") -> Any:
        return await self.http.post(path, content=body, headers=self.headers(body, secret, at))

    def headers(self, body: bytes, secret: str = SECRET, at: float | None = None) -> dict[str, str]:
        moment = f"{self.clock.now() if at is None else at:.3f}"
        return {TIMESTAMP: moment, SIGNATURE: sign(secret, moment, body)}


@pytest.fixture
def house() -> House:
    return House()


@pytest.mark.parametrize(
    ("event", "depth"),
    [
        ("group.updated", Depth.GROUPS),
        ("group.member_added", Depth.GROUPS),
        ("user.deleted", Depth.USERS),
        ("auth.signup", Depth.USERS),
        ("all", Depth.ALL),
    ],
)
async def test_a_signed_trigger_starts_a_look(house: House, event: str, depth: Depth) -> None:
    answer = await house.post(json.dumps({"event": event}).encode())
    assert answer.status_code == 202
    assert house.asked == [depth]


@pytest.mark.parametrize("body", [b"", b"[]", b"\xff", b'{"event": 5}'])
async def test_a_strange_but_signed_body_is_a_look_at_groups(house: House, body: bytes) -> None:
    assert (await house.post(body)).status_code == 202
    assert house.asked == [Depth.GROUPS]


async def test_without_the_right_signature_nothing_starts(house: House) -> None:
    body = b'{"event": "all"}'
    good = house.headers(body)
    wrong = [
        {},
        {TIMESTAMP: good[TIMESTAMP]},
        {SIGNATURE: good[SIGNATURE]},
        house.headers(body, "another secret"),
        house.headers(b"another body"),
        good | {TIMESTAMP: f"{house.clock.now() + 1:.3f}"},
        good | {SIGNATURE: good[SIGNATURE].removeprefix("sha256=")},
        good | {TIMESTAMP: "inf"},
        good | {TIMESTAMP: "9" * 400},
        house.headers(body, at=house.clock.now() - TOLERANCE - 1),
        house.headers(body, at=house.clock.now() + TOLERANCE + 1),
    ]
    for headers in wrong:
        answer = await house.http.post("/trigger", content=body, headers=headers)
        assert answer.status_code == 401, headers
    assert house.asked == []


async def test_a_signature_is_taken_once(house: House) -> None:
    headers = house.headers(b"{}")
    assert (await house.http.post("/trigger", content=b"{}", headers=headers)).status_code == 202
    assert (await house.http.post("/trigger", content=b"{}", headers=headers)).status_code == 401


async def test_failures_are_limited_and_whoever_signs_is_heard_all_the_same(house: House) -> None:
    codes = [(await house.http.post("/trigger", content=b"x")).status_code for _ in range(FAILURES + 2)]
    assert codes == [401] * FAILURES + [429] * 2
    assert (await house.post(b"{}")).status_code == 202
    house.clock.advance(61)
    assert (await house.http.post("/trigger", content=b"x")).status_code == 401


async def test_a_long_body_is_refused(house: House) -> None:
    assert (await house.post(b"x" * (BODY_LIMIT + 1))).status_code == 413


async def test_status_needs_a_signature_and_health_does_not(house: House) -> None:
    house.health.notes = ("group Students has limits that cannot be used",)
    assert (await house.http.get("/status")).status_code == 401
    answer = await house.http.get("/status", headers=house.headers(b""))
    assert answer.json()["notes"] == list(house.health.notes)
    health = await house.http.get("/health")
    assert health.status_code == 200
    assert "Students" not in health.text


async def test_without_a_secret_there_is_no_trigger() -> None:
    house = House(secret=None)
    assert (await house.post(b"{}")).status_code == 404
    assert (await house.http.get("/status")).status_code == 404
    assert (await house.http.get("/health")).status_code == 200


async def test_health_says_what_is_wrong(house: House) -> None:
    health = house.health
    assert (await house.http.get("/health")).json()["status"] == "starting"
    health.leading, health.last_attempt, health.last_success = True, health.clock.now(), health.clock.now()
    assert (await house.http.get("/health")).json()["status"] == "ok"
    health.openwebui.failed("Open WebUI did not answer", health.clock.now())
    house.clock.advance(30)
    answer = (await house.http.get("/health")).json()
    assert answer["status"] == "degraded"
    assert answer["openwebui"] == {"ok": False, "error": "Open WebUI did not answer", "failing_for_seconds": 30}
    health.openwebui.fine()
    health.leading = False
    assert (await house.http.get("/health")).json()["status"] == "standby"
    house.clock.advance(3_600)
    stuck = await house.http.get("/health")
    assert (stuck.status_code, stuck.json()["status"]) == (503, "failing")


async def test_metrics_name_nobody(house: House) -> None:
    await house.post(b"{}")
    text = (await house.http.get("/metrics")).text
    assert 'owui_budget_sync_triggers_total{result="accepted"} 1.0' in text
    assert "owui_budget_sync_leader 0.0" in text


async def test_there_are_no_other_pages(house: House) -> None:
    for path in ("/", "/docs", "/openapi.json"):
        assert (await house.http.get(path)).status_code == 404


def test_old_signatures_are_forgotten() -> None:
    clock = ManualClock(1_800_000_000)
    check = SignatureCheck(SECRET, clock)
    for _ in range(50):
        clock.advance(TOLERANCE)
        moment = f"{clock.now()}"
        assert check.accepts(moment, sign(SECRET, moment, b""), b"")
    assert len(check._seen) < 5


def load_function() -> Any:
    """The event function as Open WebUI loads it: from its text."""
    spec = importlib.util.spec_from_loader("budget_trigger_function", loader=None)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    exec(compile(install.source(), "function.py", "exec"), module.__dict__)  # noqa: S102 - ours
    return module


def test_the_functions_signature_is_the_one_the_service_takes(monkeypatch: pytest.MonkeyPatch) -> None:
    function = load_function()
    clock = ManualClock(1_800_000_000)
    monkeypatch.setattr("time.time", clock.now)
    headers = function._signed(SECRET, b"{}")
    assert SignatureCheck(SECRET, clock).accepts(headers[TIMESTAMP], headers[SIGNATURE], b"{}")
    clock.advance(0.001)
    assert function._signed(SECRET, b"{}") != headers


def test_the_function_ships_as_a_file_of_the_package() -> None:
    text = install.source()
    assert text.startswith('"""\ntitle: Budget sync trigger\n')
    assert Path(install.__file__).with_name("function.py").read_text() == text


@pytest.mark.parametrize(
    ("event", "told"),
    [
        ("group.updated", True),
        ("group.member_added", True),
        ("user.role_updated", True),
        ("auth.signup", True),
        ("user.settings_updated", False),
        ("chat.created", False),
    ],
)
async def test_the_function_tells_of_groups_and_users_only(
    monkeypatch: pytest.MonkeyPatch, event: str, *, told: bool
) -> None:
    function = load_function()
    sent: list[bytes] = []

    class Answer:
        status = 202

        async def __aenter__(self) -> Self:
            return self

        async def __aexit__(self, *_: object) -> None:
            pass

    class Session(Answer):
        async def __aenter__(self) -> Self:
            return self

        def __init__(self, **_: object) -> None:
            pass

        def post(self, _url: str, *, data: bytes, headers: dict[str, str]) -> Answer:
            assert headers[SIGNATURE].startswith("sha256=")
            sent.append(data)
            return Answer()

    monkeypatch.setattr("aiohttp.ClientSession", Session)
    trigger = function.Event()
    trigger.valves = trigger.Valves(url="http://sync/trigger", secret=SECRET)
    payload = {"id": "e1", "event": event, "actor": {"email": "admin@example.com"}, "data": {"name": "Students"}}
    await trigger.event(payload, event)
    assert [json.loads(each) for each in sent] == ([{"id": "e1", "event": event}] if told else [])
