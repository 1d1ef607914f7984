import json
from pathlib import Path
from typing import Any

import httpx
import pytest
import respx

from .conftest import EVIL, OWUI, Outcome, Run, World

STAFF = {
    "version": 1,
    "priority": 20,
    "member": {"daily": {"soft": 800, "hard": 1000}},
    "pool": {"daily": {"hard": 5000}},
}


class FakeGroups:
    """Open WebUI's groups as its API merges and lists them; every request is remembered."""

    def __init__(self, router: respx.Router) -> None:
        self.groups: dict[str, dict[str, Any]] = {}
        self.posts: list[dict[str, Any]] = []
        self.before_read: list[Any] = []
        router.get("/api/v1/groups/").mock(side_effect=self._list)
        router.get(path__regex=r"/api/v1/groups/id/(?P<group_id>[^/]+)$").mock(side_effect=self._get)
        router.post(path__regex=r"/api/v1/groups/id/(?P<group_id>[^/]+)/update$").mock(side_effect=self._update)

    def add(self, group_id: str, name: str, limits: Any = None, **known: Any) -> dict[str, Any]:
        data = {"config": {"share": "members"}, "other": 1} | ({"usage_limits": limits} if limits is not None else {})
        self.groups[group_id] = {
            "id": group_id, "name": name, "description": f"about {group_id}", "parent_group_id": None, "data": data,
            "permissions": None, "updated_at": 1_000, "member_count": 1, **known,
        }  # fmt: skip
        return self.groups[group_id]

    def _list(self, request: httpx.Request) -> httpx.Response:
        assert request.headers["authorization"] == "Bearer sk-admin-secret"
        return httpx.Response(200, json=list(self.groups.values()))

    def _get(self, _request: httpx.Request, group_id: str) -> httpx.Response:
        if self.before_read:
            self.before_read.pop(0)()
        group = self.groups.get(group_id)
        return httpx.Response(200, json=group) if group else httpx.Response(404, json={"detail": "Not found"})

    def _update(self, request: httpx.Request, group_id: str) -> httpx.Response:
        body = json.loads(request.content)
        self.posts.append(body)
        group = self.groups[group_id]
        group["data"] = {**group["data"], **body["data"]}
        group.update(name=body["name"], description=body["description"], updated_at=group["updated_at"] + 1)
        return httpx.Response(200, json=group)


@pytest.fixture
def groups(with_openwebui: None) -> Any:
    with respx.mock(base_url=OWUI, assert_all_called=False) as router:
        fake = FakeGroups(router)
        fake.add("g-staff", "Staff", STAFF)
        fake.add("g-plain", "Plain")
        yield fake


def written(groups: FakeGroups, group_id: str = "g-staff") -> Any:
    return groups.groups[group_id]["data"].get("usage_limits")


# --- set


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        (["--member-daily-hard", "1.5M"], {"member": {"daily": {"soft": 800, "hard": 1_500_000}}}),
        (["--member-daily-soft", "none"], {"member": {"daily": {"hard": 1000}}}),
        (["--member-monthly-hard", "250k", "--priority", "5"],
         {"priority": 5, "member": {"daily": {"soft": 800, "hard": 1000}, "monthly": {"hard": 250_000}}}),
        (["--pool-daily-hard", "null", "--pool-hourly-soft", "1_000"], {"pool": {"hourly": {"soft": 1000}}}),
        (["--pool-weekly-hard", "2g"], {"pool": {"daily": {"hard": 5000}, "weekly": {"hard": 2_000_000_000}}}),
        (["--member-daily-hard", "0", "--member-daily-soft", "0"], {"member": {"daily": {"soft": 0, "hard": 0}}}),
    ],
)  # fmt: skip
def test_what_is_named_changes_and_the_rest_stays(
    cli: Run, groups: FakeGroups, options: list[str], expected: dict[str, Any]
) -> None:
    done = cli("limits", "set", "Staff", "--json", *options)
    assert done.code == 0, done.err
    assert written(groups) == {**STAFF, **expected}
    assert done.json == {"group": {"id": "g-staff", "name": "Staff"}, "before": STAFF, "after": {**STAFF, **expected}}


def test_nothing_but_the_limits_is_sent(cli: Run, groups: FakeGroups) -> None:
    """What Open WebUI replaces whole when it is named (permissions), or moves (the parent), must not be named."""
    cli("limits", "set", "g-plain", "--member-daily-hard", "7")
    [body] = groups.posts
    assert body.keys() == {"name", "description", "data"}
    assert body["data"].keys() == {"usage_limits"}
    assert groups.groups["g-plain"]["data"]["other"] == 1
    assert groups.groups["g-plain"]["description"] == "about g-plain"


def test_every_figure_has_its_option(cli: Run, groups: FakeGroups) -> None:
    options, expected, number = [], {"version": 1, "priority": 100}, 0
    for scope in ("member", "pool"):
        for window in ("hourly", "daily", "weekly", "monthly"):
            for which in ("soft", "hard"):
                number += 1
                options += [f"--{scope}-{window}-{which}", str(number)]
                expected.setdefault(scope, {}).setdefault(window, {})[which] = number  # type: ignore[call-overload]
    assert cli("limits", "set", "Plain", *options).code == 0
    assert written(groups, "g-plain") == expected


def test_the_table_for_people(cli: Run, groups: FakeGroups) -> None:
    done = cli("limits", "set", "staff", "--member-daily-hard", "2k")
    assert done.out.splitlines()[0] == (
        "group Staff (priority 20) has these limits now; sync puts them in force within seconds"
    )
    assert ["member", "daily", "800", "2,000"] in done.rows


def test_a_document_from_a_file_or_stdin(cli: Run, groups: FakeGroups, tmp_path: Path) -> None:
    document = {"version": 1, "priority": 3, "pool": {"weekly": {"hard": 9}}}
    (tmp_path / "new.json").write_text(json.dumps(document), encoding="utf-8")
    assert cli("limits", "set", "Staff", "--json-file", "new.json").code == 0
    assert written(groups) == document
    shown = {"name": "Staff", "written": STAFF}
    assert cli("limits", "set", "Staff", "--json-file", "-", stdin=json.dumps(shown)).code == 0
    assert written(groups) == STAFF


def test_replace_starts_from_nothing(cli: Run, groups: FakeGroups) -> None:
    groups.groups["g-staff"]["data"]["usage_limits"] = {"version": 7, "daily": True}
    done = cli("limits", "set", "Staff", "--member-daily-hard", "5")
    assert done.code == 1
    assert "the group's present limits are not valid, so they cannot be changed in part" in done.err
    assert "Use --replace to start from nothing" in done.err
    assert cli("limits", "set", "Staff", "--replace", "--member-daily-hard", "5").code == 0
    assert written(groups) == {"version": 1, "priority": 100, "member": {"daily": {"hard": 5}}}


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--member-daily-hard", "700"], "member.daily.soft (800) is above member.daily.hard (700)"),
        (["--member-daily-hard", "1e6"], "'1e6' is no number of tokens; write 80000, 1_000, 250k, 1.5M, or none"),
        (["--member-daily-hard", ""], "'' is no number of tokens"),
        (["--member-daily-hard", "1.2345k"], "'1.2345k' is 1234.5 tokens; write a whole number"),
        (["--member-daily-hard", "-5"], "member.daily.hard must not be negative, it is -5"),
        (["--member-daily-hard", "1000t"], "member.daily.hard must be at most 999,999,999,999,999 tokens"),
        (["--priority", "-1"], "priority must be from 0 to 1,000,000, not -1"),
        (["--json-file", "gone.json"], "cannot read gone.json: No such file or directory"),
        (["--json-file", "-"], "- is not JSON"),
        (["--member-daily-hard", "9" * 41], "is no number of tokens"),
    ],
)
def test_what_is_not_valid_is_not_written(cli: Run, groups: FakeGroups, options: list[str], said: str) -> None:
    done = cli("limits", "set", "Staff", *options, stdin="{nonsense")
    assert done.code == 1
    assert said in done.err
    assert groups.posts == []


@pytest.mark.parametrize("options", [[], ["--json-file", "x", "--priority", "1"], ["--member-dayly-hard", "5"]])
def test_usage_errors(cli: Run, groups: FakeGroups, options: list[str]) -> None:
    done = cli("limits", "set", "Staff", *options)
    assert done.code == 2
    assert "Usage: owui-budget limits set" in done.err
    assert groups.posts == []


# --- clear


def test_clear(cli: Run, groups: FakeGroups) -> None:
    done = cli("limits", "clear", "Staff")
    assert done.code == 0
    assert written(groups) is None
    assert "group Staff has no limits now" in done.out
    assert cli("limits", "clear", "Plain", "--json").json["after"] is None


# --- two at once


def test_a_change_before_the_write_is_seen_and_kept(cli: Run, groups: FakeGroups) -> None:
    def somebody_else() -> None:
        group = groups.groups["g-staff"]
        group["data"] = {**group["data"], "usage_limits": None}
        group["updated_at"] += 5

    groups.before_read.append(somebody_else)
    done = cli("limits", "set", "Staff", "--priority", "3")
    assert done.code == 1
    assert "was changed in Open WebUI while this command ran, so nothing was written" in done.err
    assert groups.posts == []
    assert written(groups) is None


def test_a_change_within_the_same_second_is_seen_too(cli: Run, groups: FakeGroups) -> None:
    groups.before_read.append(lambda: groups.groups["g-staff"].update(description="rewritten"))
    assert cli("limits", "set", "Staff", "--priority", "3").code == 1
    assert groups.posts == []


def test_a_change_right_after_the_write_is_reported(cli: Run, groups: FakeGroups) -> None:
    def somebody_else() -> None:
        groups.groups["g-staff"]["data"] = {**groups.groups["g-staff"]["data"], "usage_limits": STAFF}

    groups.before_read += [lambda: None, somebody_else]
    done = cli("limits", "set", "Staff", "--priority", "3")
    assert done.code == 1
    assert "it now carries other limits than those just written" in done.err


def test_a_group_deleted_meanwhile(cli: Run, groups: FakeGroups) -> None:
    groups.before_read.append(lambda: groups.groups.pop("g-staff"))
    done = cli("limits", "clear", "Staff")
    assert done.code == 1
    assert "group Staff (g-staff) was deleted in Open WebUI meanwhile; nothing was written" in done.err


# --- which group


def test_names_of_two_groups(cli: Run, groups: FakeGroups) -> None:
    groups.add("g-other", "Staff")
    done = cli("limits", "clear", "Staff")
    assert done.code == 1
    assert "2 groups are called 'Staff': g-other, g-staff; give one of these ids" in done.err
    assert cli("limits", "clear", "g-other").code == 0


def test_the_exact_spelling_goes_before_upper_and_lower_case(cli: Run, groups: FakeGroups) -> None:
    groups.add("g-low", "staff")
    assert cli("limits", "clear", "staff", "--json").json["group"]["id"] == "g-low"


def test_an_unknown_group(cli: Run, groups: FakeGroups) -> None:
    done = cli("limits", "show", "Stuff")
    assert done.code == 1
    assert "Open WebUI has no group 'Stuff'; there are: Plain, Staff" in done.err


# --- show


def state(cli: Run, group_id: str) -> tuple[str, int]:
    done = cli("limits", "show", group_id, "--json")
    [group] = done.json["groups"]
    return group["state"], done.code


def test_show_says_what_is_written_and_whether_it_holds(cli: Run, groups: FakeGroups) -> None:
    """The policy store of the fixture has the same limits on Staff, and none on Plain."""
    assert state(cli, "g-staff") == ("in force", 0)
    assert state(cli, "g-plain") == ("no limits", 0)
    cli("limits", "set", "Staff", "--priority", "21")
    assert state(cli, "g-staff") == ("not synced yet", 2)
    groups.groups["g-staff"]["data"]["usage_limits"] = {"version": 1, "priority": "high"}
    assert state(cli, "g-staff") == ("not valid; earlier limits hold", 2)
    groups.groups["g-plain"]["data"]["usage_limits"] = []
    assert state(cli, "g-plain") == ("not valid; no limits hold", 2)


def test_show_without_a_ledger_says_so(cli: Run, groups: FakeGroups, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", "sqlite:///gone.db")
    done = cli("limits", "show")
    assert done.code == 0
    assert "whether these limits are in force cannot be said: there is no ledger at gone.db" in done.err
    assert not Path("gone.db").exists()
    assert ["Staff", "g-staff", "20", "daily soft 800, hard 1,000", "daily hard 5,000", "unknown"] in done.rows


def test_hostile_names_stay_text(cli: Run, groups: FakeGroups) -> None:
    groups.add("g-evil", EVIL, {"version": 1, "member": {"daily": {"hard": 5}}, "[bold]": "\u202e"})
    done = cli("limits", "show", "g-evil")
    [row] = done.rows[1:]
    assert row[0] == "[bold red]x[/] gnp.exe second line"
    assert "unknown key '[bold]'" in row[5]
    assert "\u202e" not in done.out


# --- the way to Open WebUI


def test_without_the_address(cli: Run, world: World) -> None:
    done = cli("limits", "show")
    assert done.code == 1
    assert "OWUI_BUDGET_OPENWEBUI_URL is not set" in done.err


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (httpx.Response(401, json={"detail": "Not authenticated"}), "OWUI_BUDGET_OPENWEBUI_API_KEY is no admin's"),
        (httpx.Response(503), "with 503"),
        (httpx.Response(200, text="<html>"), "is this address really Open WebUI?"),
        (httpx.Response(200, json=[{"id": 7}]), "with JSON this release does not know"),
        (httpx.ConnectError("no route"), "did not answer GET /api/v1/groups/"),
    ],
)
def test_trouble_is_one_sentence_without_secrets(
    cli: Run, with_openwebui: None, monkeypatch: pytest.MonkeyPatch, answer: Any, said: str
) -> None:
    monkeypatch.setattr("owui_budget_sync.openwebui.client.ATTEMPTS", 1)
    with respx.mock(base_url=OWUI) as router:
        route = router.get("/api/v1/groups/")
        route.mock(side_effect=answer) if isinstance(answer, Exception) else route.mock(return_value=answer)
        done: Outcome = cli("limits", "show")
    assert done.code == 1
    assert said in done.err
    assert done.err.startswith("error: ")
    assert done.err.count("\n") == 1
    assert "sk-admin-secret" not in done.err + done.out


def test_too_many_sign_ins_are_named(cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("owui_budget_sync.openwebui.client.ATTEMPTS", 1)
    monkeypatch.setenv("OWUI_BUDGET_OPENWEBUI_URL", OWUI)
    monkeypatch.setenv("OWUI_BUDGET_OPENWEBUI_ADMIN_EMAIL", "admin@example.com")
    monkeypatch.setenv("OWUI_BUDGET_OPENWEBUI_ADMIN_PASSWORD", "pass-secret")
    with respx.mock(base_url=OWUI) as router:
        router.post("/api/v1/auths/signin").respond(429)
        done = cli("limits", "show")
    assert done.code == 1
    assert "takes no more sign-ins of admin@example.com for now" in done.err
    assert "pass-secret" not in done.err
