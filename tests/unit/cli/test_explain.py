from typing import Any

import pytest
from support.ledgers import DAY

from owui_budget.domain.identity import Role

from .conftest import EVIL, Run, World


def explained(cli: Run, *arguments: str) -> dict[str, Any]:
    done = cli("explain", "--json", *arguments)
    assert done.code == 0, done.err
    answer: dict[str, Any] = done.json
    return answer


def test_the_whole_answer(cli: Run, world: World) -> None:
    world.spend("u-bob", 90, "g-staff", "g-interns")
    answer = explained(cli, "bob@example.com")
    assert answer["user"] == {"id": "u-bob", "email": "bob@example.com", "name": "Bob", "role": "user"}
    assert [(each["name"], each["membership"], each["via"]) for each in answer["groups"]] == [
        ("Interns", "direct", []),
        ("Staff", "inherited", ["g-interns"]),
    ]
    assert answer["deciding"] == {"id": "g-interns", "name": "Interns"}
    assert answer["reason"] == (
        "Group Interns decides: its priority number 10 is the lowest of the groups with member limits."
    )
    assert answer["limits"] == [
        {"scope": "member", "window": "daily", "group": {"id": "g-interns", "name": "Interns"}, "soft": None,
         "hard": 100, "used": 90, "held": 0, "left": 10, "resets_at": "2026-07-21T00:00:00+00:00"},
        {"scope": "pool", "window": "daily", "group": {"id": "g-staff", "name": "Staff"}, "soft": None,
         "hard": 5000, "used": 90, "held": 0, "left": 4910, "resets_at": "2026-07-21T00:00:00+00:00"},
    ]  # fmt: skip
    assert answer["next_call"] == {
        "verdict": "allowed", "message": "It passes: 10 tokens are left.", "model": None, "weight": "1", "tokens": None,
    }  # fmt: skip
    assert {each["window"]: each["used"] for each in answer["windows"]} == dict.fromkeys(
        ["hourly", "daily", "weekly", "monthly"], 90
    )


def test_a_refusal_is_the_sentence_that_the_user_reads(cli: Run, world: World) -> None:
    world.policy({"contact": "Ask Eve."})
    world.spend("u-bob", 120)
    call = explained(cli, "u-bob")["next_call"]
    assert call["verdict"] == "refused"
    assert call["message"] == (
        "Daily limit of 100 tokens for group Interns reached (120 used). It resets at 00:00 UTC, in 12 h. Ask Eve."
    )


def test_a_warning(cli: Run, world: World) -> None:
    world.spend("u-alice", 850)
    call = explained(cli, "Alice")["next_call"]
    assert call["verdict"] == "warned"
    assert call["message"] == "It passes, with a warning: 85% of your daily token limit for group Staff is used."


def test_the_next_window_admits_again(cli: Run, world: World) -> None:
    world.spend("u-bob", 120)
    world.move_clock(DAY)
    answer = explained(cli, "u-bob")
    assert answer["next_call"]["verdict"] == "allowed"
    assert answer["now"] == "2026-07-21T12:00:00+00:00"
    assert answer["limits"][0]["used"] == 0


def test_a_free_model_passes_a_blocked_user(cli: Run, world: World) -> None:
    world.policy({"weights": {"llama*": 0, "gpt*": 2.5}})
    world.spend("u-bob", 120)
    assert explained(cli, "u-bob", "--model", "llama-3")["next_call"]["message"] == (
        "It passes: llama-3 is free (weight 0)."
    )
    weighed = explained(cli, "u-bob", "--model", "gpt-5", "--tokens", "10")["next_call"]
    assert (weighed["verdict"], weighed["weight"], weighed["tokens"]) == ("refused", "2.5", 10)


def test_strict_admission_looks_at_the_size(cli: Run, world: World) -> None:
    world.policy({"admission": "strict", "weights": {"gpt*": 2}})
    world.spend("u-bob", 90)
    assert explained(cli, "u-bob", "--model", "gpt-5", "--tokens", "5")["next_call"]["verdict"] == "allowed"
    call = explained(cli, "u-bob", "--model", "gpt-5", "--tokens", "6")["next_call"]
    assert call["verdict"] == "refused"
    assert "10 tokens are left of the daily limit, and a call of 12 tokens needs more" in call["message"]


def test_ties_are_named_with_the_rule_that_broke_them(cli: Run, world: World) -> None:
    world.group("g-two", "Two", {"priority": 20, "member": {"daily": {"hard": 2000}}})
    world.user("u-dora", "Dora", "g-staff", "g-two")
    answer = explained(cli, "Dora")
    assert answer["deciding"]["id"] == "g-two"
    assert answer["tied"] == [{"id": "g-staff", "name": "Staff"}]
    assert "Tied with Staff; it comes first by the larger monthly hard limit" in answer["reason"]


@pytest.mark.parametrize(
    ("resolution", "hards", "reason"),
    [
        ("most_generous", [2000], "the highest bound of any of the groups holds (resolution: most_generous)"),
        ("most_restrictive", [1000], "the lowest bound of any of the groups holds (resolution: most_restrictive)"),
        ("all", [1000, 2000], "every group hold side by side (resolution: all)"),
    ],
)
def test_the_other_strategies(cli: Run, world: World, resolution: str, hards: list[int], reason: str) -> None:
    world.policy({"resolution": resolution})
    world.group("g-two", "Two", {"priority": 30, "member": {"daily": {"hard": 2000}}})
    world.user("u-dora", "Dora", "g-staff", "g-two")
    answer = explained(cli, "Dora")
    hard = [each["hard"] for each in answer["limits"] if each["scope"] == "member" and each["hard"]]
    assert hard == hards
    assert reason in answer["reason"]


def test_admins_are_exempt(cli: Run, world: World) -> None:
    answer = explained(cli, "Root")
    assert answer["exempt"]
    assert answer["limits"] == []
    assert answer["next_call"]["message"] == "It passes: the user is exempt."
    world.policy({"admins": "limited"})
    assert not explained(cli, "Root")["exempt"]


def test_without_any_limit_and_with_defaults(cli: Run, world: World) -> None:
    answer = explained(cli, "Carol")
    assert answer["reason"] == "None of the groups has member limits, and limits.yaml sets no defaults."
    assert answer["next_call"]["message"] == "It passes: no limit is in force."
    world.policy({"defaults": {"member": {"weekly": {"hard": 70}}}})
    answer = explained(cli, "Carol")
    assert answer["reason"] == "None of the groups has member limits, so the defaults of limits.yaml hold."
    assert [(each["window"], each["hard"], each["group"]) for each in answer["limits"]] == [("weekly", 70, None)]


def test_the_allowance_of_background_tasks(cli: Run, world: World) -> None:
    assert explained(cli, "Carol")["tasks"] == {
        "allowance": 20_000, "used": 0, "held": 0, "left": 20_000, "resets_at": "2026-07-21T00:00:00+00:00",
    }  # fmt: skip


def test_the_text_for_people(cli: Run, world: World) -> None:
    world.user("u-pending", "Penny", role=Role.PENDING)
    text = cli("explain", "Bob").out
    for part in (
        "# Bob <bob@example.com>",
        "Interns\tg-interns\tdirect\t10\tmember (decides)",
        "Staff\tg-staff\tthrough Interns\t20\tmember and pool",
        "member daily\tInterns\t-\t100\t0\t0\t100\tat 00:00 UTC, in 12 h",
        "background tasks today: 0 of 20,000 tokens that do not count; 20,000 left",
        "allowed: It passes: 100 tokens are left.",
    ):
        assert part in text.splitlines(), text
    assert "an admin has approved" in cli("explain", "Penny").err


def test_hostile_names_stay_text(cli: Run, world: World) -> None:
    world.group("g-evil", EVIL, {"member": {"daily": {"hard": 5}}})
    world.user("u-evil", EVIL, "g-evil")
    world.spend("u-evil", 9)
    done = cli("explain", "u-evil", "--model", "[blink]\u202em\n")
    assert "# [bold red]x[/] gnp.exe second line <evil@example.com>" in done.out
    assert "# the next call of [blink] m" in done.out
    assert "Daily limit of 5 tokens for group [bold red]x[/] gnp.exe second line reached (9 used)." in done.out
    assert "\u202e" not in done.out


@pytest.mark.parametrize("word", ["nobody", "Staff", "g-staff", "group:Staff"])
def test_only_users_are_explained(cli: Run, world: World, word: str) -> None:
    done = cli("explain", word)
    assert done.code == 1
    assert f"there is no user '{word}'" in done.err


def test_a_user_that_only_the_ledger_knows(cli: Run, world: World) -> None:
    world.spend("u-gone", 5)
    done = cli("explain", "u-gone")
    assert done.code == 1
    assert "user u-gone is known to the ledger alone" in done.err
