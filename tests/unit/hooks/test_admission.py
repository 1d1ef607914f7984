import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from kit import CONNECTION, NOW, STUDENTS, FakeSpool, Flaky, PolicyStub, Walk, event, group, key, limit, request, webui
from litellm.proxy._types import UserAPIKeyAuth

from owui_budget.clock import ManualClock
from owui_budget.domain.decisions import Warned
from owui_budget.domain.identity import Caller, Counter, CounterKind, Kind, Role
from owui_budget.domain.limits import Bounds, Scope
from owui_budget.domain.policy import LimitInForce
from owui_budget.domain.windows import Window
from owui_budget.ledger.memory import MemoryLedger
from owui_budget.policy_store.values import PolicyUser
from owui_budget_hooks.answers import BudgetAnswer, BudgetExceeded
from owui_budget_hooks.routes import FREE_CALL_TYPES, ROUTES

ANN = Counter(CounterKind.USER, "ann")
TASKS = Counter(CounterKind.TASK, "ann")
DAILY = limit()
ALLOWANCE = LimitInForce(Scope.MEMBER, Window.DAILY, Bounds(hard=20_000), TASKS)
POOL = limit(scope=Scope.POOL, hard=1_000_000)
TITLE = {"task": "title_generation", "chat_id": "c1"}

Make = Callable[..., Walk]


@pytest.fixture(autouse=True)
def students(policy: PolicyStub) -> None:
    """Everyone's daily limit is 100,000; the group's pool is a million."""
    policy.put(
        group(member={"daily": {"soft": 80_000, "hard": 100_000}}, pool={"daily": {"hard": 1_000_000}}),
        group("free", "Free"),
    )


async def refused(
    walk: Walk, data: dict[str, Any], by: UserAPIKeyAuth = CONNECTION, call_type: str = "acompletion"
) -> Any:
    with pytest.raises(BudgetAnswer) as refusal:
        await walk.admit(data, by, call_type)
    return refusal.value


async def test_a_call_holds_its_estimate_for_its_user_and_the_pool(walk: Make) -> None:
    rooms = walk()

    call = await rooms.admit(request(webui(), max_tokens=500))

    assert await rooms.used(DAILY, POOL) == [(0, call.estimate.total)] * 2
    assert call.estimate.completion == 500
    assert (call.call.caller, call.call.kind, call.call.route, call.call.model) == (
        Caller.OPENWEBUI, Kind.API, "chat", "gpt-5",
    )  # fmt: skip
    assert (call.call.user_id, call.call.deciding_group_id, call.call.pool_group_ids) == ("ann", STUDENTS, (STUDENTS,))
    assert [counter.key for counter in call.counters] == ["user:ann", f"pool:{STUDENTS}"]
    assert call.held


async def test_the_crossing_call_still_runs_and_the_next_does_not(walk: Make) -> None:
    rooms = walk()
    await rooms.use(ANN, 99_999)
    call = await rooms.admit(request(webui(), max_tokens=5_000))

    answer = await refused(rooms, request(webui()))
    assert isinstance(answer, BudgetExceeded)
    assert answer.headers["Retry-After"] == "5"  # the first one holds

    rooms.registry.open(call)
    rooms.ender.succeeded(call, event(10, 4_000))
    await rooms.ender.drain(5.0)
    answer = await refused(rooms, request(webui()))
    assert answer.headers["Retry-After"] == "30411"
    assert answer.message == (
        "Daily limit of 100,000 tokens for group Students reached (104,009 used)."
        " It resets at 00:00 CET, in 8 h 27 min."
    )


async def test_a_refused_call_changes_no_counter(walk: Make, memory: MemoryLedger) -> None:
    rooms = walk()
    await rooms.use(ANN, 100_000)
    before = await rooms.used(DAILY, POOL)

    for _ in range(3):
        await refused(rooms, request(webui()))

    assert await rooms.used(DAILY, POOL) == before
    assert len(memory.events) == 1


async def test_past_the_soft_limit_a_call_is_warned(walk: Make) -> None:
    rooms = walk()
    await rooms.use(ANN, 80_000)

    call = await rooms.admit(request(webui()))

    assert isinstance(call.decision, Warned)


async def test_a_pool_refuses_whoever_comes(walk: Make) -> None:
    rooms = walk()
    await rooms.use(Counter(CounterKind.POOL, STUDENTS), 1_000_000)

    assert "pool of 1,000,000" in (await refused(rooms, request(webui("eve")))).message
    await rooms.admit(request(webui("eve", "free")))


@pytest.mark.parametrize("order", ["together", "one by one"])
async def test_concurrent_calls_overrun_by_no_more_than_one(walk: Make, order: str) -> None:
    """Invariant 1, last_request: held estimates count, so of many calls only those that still find room run."""
    rooms = walk()
    await rooms.use(ANN, 90_000)
    calls = [rooms.admit(request(webui(), max_tokens=1_000)) for _ in range(50)]
    outcomes = (
        await asyncio.gather(*calls, return_exceptions=True)
        if order == "together"
        else [(await asyncio.gather(each, return_exceptions=True))[0] for each in calls]
    )

    admitted = [each for each in outcomes if not isinstance(each, BaseException)]
    [(used, held)] = await rooms.used(DAILY)
    assert used + held - 100_000 < max(each.estimate.total for each in admitted)
    assert all(isinstance(each, BudgetExceeded) for each in outcomes if isinstance(each, BaseException))


# strict


async def test_strict_lowers_the_cap_and_reserves_the_bound(walk: Make) -> None:
    rooms = walk(admission="strict")
    await rooms.use(ANN, 99_000)
    data = request(webui(), max_tokens=50_000)

    call = await rooms.admit(data)

    assert call.estimate.total == 1_000
    assert data["max_tokens"] == call.estimate.completion
    assert await rooms.used(DAILY) == [(99_000, 1_000)]
    answer = await refused(rooms, request(webui()))
    assert isinstance(answer, BudgetExceeded)


async def test_strict_refuses_what_does_not_fit_and_leaves_the_request_alone(walk: Make) -> None:
    rooms = walk(admission="strict")
    await rooms.use(ANN, 99_990)
    data = request(webui())

    answer = await refused(rooms, data)

    assert answer.message.startswith("This request could take more than the 10 tokens that are left")
    assert answer.headers["Retry-After"] == "30411"
    assert "max_tokens" not in data


async def test_strict_never_passes_a_limit_at_any_concurrency(walk: Make) -> None:
    """Invariant 1, strict."""
    rooms = walk(admission="strict")
    await rooms.use(ANN, 90_000)

    outcomes = await asyncio.gather(
        *(rooms.admit(request(webui(), max_tokens=900)) for _ in range(60)), return_exceptions=True
    )

    [(used, held)] = await rooms.used(DAILY)
    assert used + held <= 100_000
    assert sum(not isinstance(each, BaseException) for each in outcomes) >= 8


async def test_room_that_comes_free_meanwhile_admits_under_the_cap_that_was_reserved(
    walk: Make, ledger: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    rooms = walk(admission="strict")
    await rooms.use(ANN, 100_000)
    read = ledger.standings

    async def standings(limits: Any) -> Any:
        found = await read(limits)
        await ledger.inner.reset(ANN, "room comes free between the look and the reservation")
        return found

    monkeypatch.setattr(ledger, "standings", standings)
    data = request(webui())

    call = await rooms.admit(data)

    assert data["max_tokens"] == 1
    assert await rooms.used(DAILY) == [(0, call.estimate.total)]


async def test_strict_is_closed_while_the_ledger_is_away(walk: Make, ledger: Flaky) -> None:
    rooms = walk(admission="strict", reserve_timeout=0.02)
    ledger.down = True
    assert (await refused(rooms, request(webui()))).code == "503"
    ledger.down, ledger.delay = False, 30.0
    assert (await refused(rooms, request(webui()))).code == "503"


async def test_strict_bounds_nothing_for_whom_nothing_is_limited(walk: Make) -> None:
    rooms, data = walk(admission="strict"), request(webui("eve", "free"), previous_response_id="r")

    await rooms.admit(data)

    assert "max_tokens" not in data


# tasks


async def test_a_task_within_the_allowance_counts_in_it_alone(walk: Make) -> None:
    rooms = walk()

    call = await rooms.admit(request(webui(**TITLE)))

    assert call.call.kind is Kind.TASK
    assert await rooms.used(ALLOWANCE, DAILY, POOL) == [(0, call.estimate.total), (0, 0), (0, 0)]
    assert call.call.pool_group_ids == ()
    assert call.decision.standings == ()
    assert call.call.deciding_group_id == STUDENTS


async def test_a_task_within_the_allowance_passes_for_a_blocked_user(walk: Make) -> None:
    rooms = walk()
    await rooms.use(ANN, 100_000)

    await rooms.admit(request(webui(**TITLE)))
    await refused(rooms, request(webui()))


async def test_past_the_allowance_a_task_counts_as_chat(walk: Make) -> None:
    rooms = walk()
    await rooms.use(TASKS, 20_000)

    call = await rooms.admit(request(webui(**TITLE)))
    assert call.call.kind is Kind.TASK
    assert await rooms.used(ALLOWANCE, DAILY) == [(20_000, 0), (0, call.estimate.total)]

    await rooms.use(ANN, 100_000)
    assert isinstance(await refused(rooms, request(webui(**TITLE))), BudgetExceeded)


@pytest.mark.parametrize(
    ("task", "settings"),
    [("moa_response_generation", {}), ("my_own_task", {}), ("title_generation", {"task_allowance": 0}),
     ("title_generation", {"tasks": ["tags_generation"]})],
)  # fmt: skip
async def test_other_tasks_count_as_chat(walk: Make, task: str, settings: dict[str, Any]) -> None:
    rooms = walk(**settings)

    call = await rooms.admit(request(webui(task=task)))

    assert await rooms.used(ALLOWANCE, DAILY) == [(0, 0), (0, call.estimate.total)]


async def test_a_task_header_means_nothing_on_another_key(walk: Make, policy: PolicyStub) -> None:
    rooms = walk()
    policy.users["ann"] = PolicyUser("ann", "", "Ann", Role.USER, frozenset({STUDENTS}))
    await rooms.use(ANN, 100_000)

    assert isinstance(await refused(rooms, request(webui(**TITLE)), key(user_id="ann")), BudgetExceeded)


async def test_strict_tasks_past_the_allowance_keep_no_cap_of_it(walk: Make) -> None:
    rooms = walk(admission="strict")
    await rooms.use(TASKS, 19_950)
    data = request(webui("ann", "free", **TITLE))

    await rooms.admit(data)

    assert "max_tokens" not in data


# who is exempt, what is free


async def test_an_admin_is_recorded_and_not_limited(walk: Make) -> None:
    rooms = walk()
    await rooms.use(ANN, 10**9)

    call = await rooms.admit(request(webui(role="admin")))

    assert await rooms.used(DAILY, POOL) == [(10**9, call.estimate.total), (0, 0)]
    assert call.call.pool_group_ids == ()
    assert call.call.deciding_group_id == STUDENTS


async def test_admins_can_be_limited(walk: Make) -> None:
    rooms = walk(admins="limited")
    await rooms.use(ANN, 100_000)

    await refused(rooms, request(webui(role="admin")))


@pytest.mark.parametrize("admission", ["last_request", "strict"])
async def test_a_free_model_is_never_refused_and_still_recorded(
    walk: Make, memory: MemoryLedger, admission: str
) -> None:
    rooms = walk(admission=admission, weights={"gpt-*": 0})
    await rooms.use(ANN, 10**9)

    call = await rooms.admit(request(webui(), previous_response_id="unbounded"))
    rooms.registry.open(call)
    rooms.ender.succeeded(call, event(10, 5))
    await rooms.ender.drain(5.0)

    assert await rooms.used(DAILY) == [(10**9, 0)]
    assert (memory.events[-1].charge, memory.events[-1].prompt) == (0, 10)


async def test_a_free_model_with_a_paid_fallback_is_refused(walk: Make, router: Callable[[object], None]) -> None:
    from types import SimpleNamespace

    router(
        SimpleNamespace(
            model_names={"gpt-5", "paid"}, model_group_alias={}, fallbacks=[{"gpt-5": ["paid"]}],
            context_window_fallbacks=None, content_policy_fallbacks=None,
        )
    )  # fmt: skip
    rooms = walk(weights={"gpt-5": 0})
    await rooms.use(ANN, 100_000)

    await refused(rooms, request(webui()))


async def test_an_estimate_is_weighted(walk: Make) -> None:
    rooms = walk(weights={"gpt-5*": 3})

    call = await rooms.admit(request(webui(), max_tokens=100))

    assert await rooms.used(DAILY) == [(0, 3 * call.estimate.total)]


async def test_an_absurd_cap_does_not_hold_everything(walk: Make) -> None:
    rooms = walk()

    call = await rooms.admit(request(webui(), max_tokens=10**8, n=10**6))

    assert call.estimate.completion == 32_000 * 128


async def test_a_small_cap_beside_a_large_one_does_not_hold_little(walk: Make) -> None:
    call = await walk().admit(request(webui(), max_tokens=1, max_completion_tokens=9_000))

    assert call.estimate.completion == 9_000


# the policy moves


async def test_a_policy_that_moved_on_is_followed(walk: Make, policy: PolicyStub, memory: MemoryLedger) -> None:
    rooms = walk()
    await rooms.use(ANN, 50)
    policy.store(2, group(member={"daily": {"hard": 50}}))
    memory.set_state(revision=2)

    answer = await refused(rooms, request(webui()))

    assert "limit of 50 tokens" in answer.message
    assert policy.reloads == 1


async def test_a_task_follows_the_policy_as_well(walk: Make, policy: PolicyStub, memory: MemoryLedger) -> None:
    rooms = walk()
    policy.store(2, group(member={"daily": {"hard": 50}}))
    memory.set_state(revision=2)

    assert (await rooms.admit(request(webui(**TITLE)))).held
    assert policy.reloads == 1


async def test_limits_of_one_revision_are_never_reserved_as_those_of_the_next(
    walk: Make, policy: PolicyStub, memory: MemoryLedger, ledger: Flaky, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Another call may reload the policy while this one waits for the ledger."""
    rooms = walk(admission="strict")
    await rooms.use(ANN, 50)
    read = ledger.standings

    async def standings(limits: Any) -> Any:
        found = await read(limits)
        policy.store(2, group(member={"daily": {"hard": 50}}))
        memory.set_state(revision=2)
        await policy.reload()
        return found

    monkeypatch.setattr(ledger, "standings", standings)

    assert "limit of 50 tokens" in (await refused(rooms, request(webui()))).message


async def test_a_policy_that_moved_and_cannot_be_read_is_a_503(
    walk: Make, policy: PolicyStub, memory: MemoryLedger
) -> None:
    rooms = walk()
    policy.down = True
    memory.set_state(revision=2)

    assert (await refused(rooms, request(webui()))).code == "503"


async def test_a_policy_that_never_stands_still_is_given_up_on(
    walk: Make, policy: PolicyStub, memory: MemoryLedger
) -> None:
    rooms = walk()
    memory.set_state(revision=99)  # and no reload finds it

    assert (await refused(rooms, request(webui()))).code == "503"
    assert policy.reloads == 5


async def test_an_unknown_group_reloads_once(walk: Make, policy: PolicyStub) -> None:
    rooms = walk()
    for _ in range(3):
        await rooms.admit(request(webui("ann", "ghost")))
    assert policy.reloads == 1

    await rooms.admit(request(webui("ann", "ghost,other")))
    await rooms.admit(request(webui("ann", "ghost,other")))
    assert policy.reloads == 2


async def test_a_group_that_was_just_made_is_found(walk: Make, policy: PolicyStub, memory: MemoryLedger) -> None:
    rooms = walk()
    await rooms.use(ANN, 50)
    policy.store(2, group("new", "New", member={"daily": {"hard": 50}}))
    memory.set_state(revision=2)

    assert "for group New" in (await refused(rooms, request(webui("ann", "new")))).message


async def test_an_unknown_group_is_no_error_while_the_database_is_away(walk: Make, policy: PolicyStub) -> None:
    rooms = walk()
    policy.down = True

    assert (await rooms.admit(request(webui("ann", "ghost")))).held


async def test_limits_of_ancestors_count(walk: Make, policy: PolicyStub) -> None:
    policy.put(group("parent", "Parent", pool={"daily": {"hard": 10}}), group("child", "Child", "parent"))
    rooms = walk()
    await rooms.use(Counter(CounterKind.POOL, "parent"), 10)

    assert "for group Parent" in (await refused(rooms, request(webui("ann", "child")))).message


# call types


@pytest.mark.parametrize("call_type", sorted(FREE_CALL_TYPES))
async def test_calls_that_spend_nothing_pass_unrecorded_and_tamed(walk: Make, ledger: Flaky, call_type: str) -> None:
    data = request(webui(), **{"no-log": True})

    assert await walk().admitter.admit(CONNECTION, data, call_type) is None
    assert ledger.reserved == []
    assert "no-log" not in data
    assert "x-openwebui-user-jwt" not in data["proxy_server_request"]["headers"]


@pytest.mark.parametrize("call_type", ["_arealtime", "acreate_interaction", "avideo_generation", "brand_new", ""])
async def test_unknown_calls_are_refused_for_limited_users(walk: Make, ledger: Flaky, call_type: str) -> None:
    rooms = walk()

    answer = await refused(rooms, request(webui()), call_type=call_type)

    assert answer.code == "400"
    assert "ungoverned: allow" in answer.message
    assert ledger.reserved == []
    await rooms.admit(request(webui("eve", "free")), call_type=call_type)


async def test_unknown_calls_can_be_allowed(walk: Make) -> None:
    call = await walk(ungoverned="allow").admit(request(webui()), call_type="brand_new")

    assert call.call.route == "brand_new"


@pytest.mark.parametrize("call_type", ["acreate_batch", "create_batch"])
async def test_batches_are_refused_for_limited_users_and_can_be_allowed(walk: Make, call_type: str) -> None:
    answer = await refused(walk(ungoverned="allow"), request(webui()), call_type=call_type)
    assert "batches: allow" in answer.message

    await walk(batches="allow").admit(request(webui()), call_type=call_type)
    await walk().admit(request(webui("eve", "free")), call_type=call_type)


async def test_a_raw_body_names_nobody(walk: Make) -> None:
    """The hook's data of a pass-through call is the client's body: headers in it are the client's invention."""
    rooms = walk({"secret": None})
    forged = request({"x-openwebui-user-id": "victim", "x-openwebui-user-role": "admin", "x-openwebui-group-ids": ""})

    assert (await refused(rooms, forged, call_type="pass_through_endpoint")).code == "401"
    assert (await rooms.admit(forged)).call.user_id == "victim"  # where LiteLLM itself put the headers there


@pytest.mark.parametrize("body", [{"model": "a,b"}, {"background": True}, {"fastest_response": True}])
async def test_several_calls_in_one_are_refused_before_anything_is_held(
    walk: Make, ledger: Flaky, body: dict[str, Any]
) -> None:
    assert (await refused(walk(), request(webui(), **body))).code == "400"
    assert ledger.reserved == []


@pytest.mark.parametrize("call_type", sorted(ROUTES))
async def test_every_tested_route_is_admitted(walk: Make, call_type: str) -> None:
    call = await walk().admit(request(webui(), input="text", prompt="text", max_tokens=10), call_type=call_type)

    assert call.route is ROUTES[call_type]
    assert call.held


# other callers


async def test_defaults_hold_for_who_is_in_no_limited_group(walk: Make) -> None:
    rooms = walk(defaults={"member": {"daily": {"hard": 500}}})
    await rooms.use(ANN, 500)

    assert "Daily limit of 500 tokens reached" in (await refused(rooms, request(webui("ann", "free")))).message
    await rooms.admit(request(webui("ann", STUDENTS)))


async def test_a_service_is_recorded_and_limited_only_where_the_file_says_so(walk: Make) -> None:
    free = await walk().admit(request(), key("sk-service"))
    assert (free.call.kind, free.call.user_id) == (Kind.SERVICE, None)
    assert free.decision.standings == ()

    rooms = walk(service={"member": {"daily": {"hard": 500}}})
    await rooms.use(free.counters[0], 500)
    await refused(rooms, request(), key("sk-service"))
    await rooms.admit(request(), key("sk-another"))


async def test_a_team_key_counts_in_its_pool_alone(walk: Make) -> None:
    rooms = walk()

    call = await rooms.admit(request(), key(team_id=f"owui-{STUDENTS}"))
    assert [counter.key for counter in call.counters] == [f"pool:{STUDENTS}"]
    assert await rooms.used(POOL) == [(0, call.estimate.total)]

    await rooms.use(call.counters[0], 1_000_000)
    await refused(rooms, request(), key(team_id=f"owui-{STUDENTS}"))


async def test_a_team_key_without_a_pool_is_recorded(walk: Make, memory: MemoryLedger) -> None:
    rooms = walk()
    call = await rooms.admit(request(), key(team_id="owui-free"))
    rooms.registry.open(call)
    rooms.ender.succeeded(call, event(10, 5))
    await rooms.ender.drain(5.0)

    assert call.counters == ()
    assert (memory.events[-1].charge, memory.events[-1].counters) == (15, ("pool:free",))


async def test_a_users_own_key_counts_with_its_chats(walk: Make, policy: PolicyStub) -> None:
    policy.users["ann"] = PolicyUser("ann", "", "Ann", Role.USER, frozenset({STUDENTS}))
    rooms = walk()
    await rooms.admit(request(webui(), max_tokens=100))
    call = await rooms.admit(request(), key(user_id="ann"))

    assert call.call.kind is Kind.API
    [(_, held)] = await rooms.used(DAILY)
    assert held > call.estimate.total


@pytest.mark.parametrize(
    "forged",
    [{"user": "eve"}, {"metadata": {"user_api_key_user_id": "eve"}}, {"litellm_metadata": {"user": "eve"}},
     {"safety_identifier": "eve"}],
)  # fmt: skip
async def test_nothing_in_the_body_names_another_user(walk: Make, forged: dict[str, Any]) -> None:
    data = request(webui())
    for name, value in forged.items():
        data[name] = {**data.get(name, {}), **value} if isinstance(value, dict) else value

    assert (await walk().admit(data)).call.user_id == "ann"


# outages


async def test_an_outage_admits_and_the_usage_is_charged_later(walk: Make, ledger: Flaky, spool: FakeSpool) -> None:
    rooms = walk()
    ledger.down = True
    call = await rooms.admit(request(webui()))
    assert not call.held
    rooms.registry.open(call)
    rooms.ender.succeeded(call, event(10, 5))
    await rooms.ender.drain(5.0)
    ledger.down = False
    await rooms.gate.replay()

    assert await rooms.used(DAILY, POOL) == [(15, 0), (15, 0)]


async def test_memberships_that_cannot_be_read_are_a_503(walk: Make, policy: PolicyStub) -> None:
    policy.down = True

    assert (await refused(walk(), request(webui("ann", None)), call_type="aspeech")).code == "503"


async def test_a_window_that_begins_frees_the_way(walk: Make, clock: ManualClock) -> None:
    rooms = walk()
    await rooms.use(ANN, 100_000)
    await refused(rooms, request(webui()))

    clock.advance(30_411)

    assert (await rooms.admit(request(webui()))).admitted_at == NOW + 30_411


# what is recorded


@pytest.mark.parametrize(
    ("sent", "recorded"),
    [("gpt-5", "gpt-5"), ("x" * 10_000, "x" * 256), ("a\x00b\nc", "a?b?c"), ("\ud800", "?"), (None, ""), (7, "7")],
)
async def test_a_models_name_is_recorded_short_and_clean(walk: Make, sent: object, recorded: str) -> None:
    assert (await walk().admit(request(webui(), model=sent))).call.model == recorded


async def test_nothing_of_the_prompt_is_kept(walk: Make, ledger: Flaky) -> None:
    """Invariant 9."""
    data = request(
        webui(chat_id="c"), messages=[{"role": "user", "content": "my diary"}], user="u", tools=[{"x": "my diary"}]
    )

    call = await walk().admit(data)

    for kept in (call, ledger.reserved):
        assert "diary" not in repr(kept)
        assert "eyJ" not in repr(kept)
