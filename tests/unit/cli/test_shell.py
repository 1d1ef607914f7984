"""What all commands share: exit codes, errors, documents, completion, and that each is documented."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import typer
from support.ledgers import DAY

from owui_budget import __version__
from owui_budget_sync.cli import app, shell

from .conftest import Run, World

DOCUMENT = Path(__file__).parents[3] / "docs" / "cli.md"


def commands(group: Any = None, path: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every command that the help lists."""
    group = group or typer.main.get_command(app)
    found = []
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            found += commands(command, (*path, name))
        elif not command.hidden:
            found.append((*path, name))
    return found


def parameters(path: tuple[str, ...]) -> dict[str, Any]:
    command: Any = typer.main.get_command(app)
    for name in path:
        command = command.commands[name]
    return {option: each for each in command.params for option in each.opts if option.startswith("--")}


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_is_documented_with_its_options(path: tuple[str, ...]) -> None:
    text = DOCUMENT.read_text(encoding="utf-8")
    title = rf"^##+ `owui-budget {' '.join(path)}\b[^\n]*\n"
    section = re.search(rf"{title}(.*?)(?=^## |^### |\Z)", text, re.MULTILINE | re.DOTALL)
    assert section is not None, f"docs/cli.md has no section for `owui-budget {' '.join(path)}`"
    body = section[1]
    assert "```" in body, "an example"
    assert re.search(r"[Ee]xit codes?", body), "its exit codes"
    for option in parameters(path):
        if option not in ("--json", "--help") and not re.fullmatch(r"--(member|pool)-\w+-(soft|hard)", option):
            assert f"`{option}" in body, option


def test_only_commands_that_exist_are_documented() -> None:
    titles = re.findall(r"^##+ `owui-budget ([a-z -]+)\b", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
    assert {tuple(title.split()) for title in titles} <= set(commands())


@pytest.mark.parametrize("path", commands(), ids=" ".join)
def test_every_command_explains_itself_and_takes_json(run: Run, path: tuple[str, ...]) -> None:
    done = run(*path, "--help")
    assert done.code == 0
    assert "--json" in parameters(path) or path == ("run",)  # a daemon, which logs JSON lines


def test_json_is_one_document_and_nothing_else(cli: Run, world: World) -> None:
    world.spend("u-bob", 5, "g-staff")
    for arguments in (
        ["status"], ["usage"], ["usage", "Staff"], ["explain", "Bob"], ["check"], ["ledger", "verify"],
        ["ledger", "repair"], ["ledger", "retention"], ["reset", "Bob", "--yes"], ["erase", "Bob", "--yes"],
    ):  # fmt: skip
        document = cli(*arguments, "--json").json
        assert isinstance(document, dict)


def test_the_version(run: Run) -> None:
    assert run("--version").out == f"{__version__}\n"


def test_wrong_arguments_end_with_2(run: Run) -> None:
    for arguments in (["explode"], ["usage", "--window", "yearly"], ["usage", "--limit", "0"], ["explain"]):
        done = run(*arguments)
        assert done.code == 2
        assert done.out == ""


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        (
            "OWUI_BUDGET_DATABSE_URL",
            "x",
            "OWUI_BUDGET_DATABSE_URL: unknown name; did you mean OWUI_BUDGET_DATABASE_URL?",
        ),
        ("OWUI_BUDGET_DATABASE_URL", "mysql://user:pw-secret@db", "must start with sqlite:/// or postgresql://"),
        ("OWUI_BUDGET_LIMITS_FILE", "none.yaml", "cannot read none.yaml: No such file or directory"),
        ("OWUI_BUDGET_DATABASE_URL", "postgresql://user:pw-secret@127.0.0.1:1/db", "the database cannot be reached"),
    ],
)
def test_expected_failures_are_sentences_without_secrets(
    cli: Run, world: World, monkeypatch: pytest.MonkeyPatch, name: str, value: str, said: str
) -> None:
    monkeypatch.setenv(name, value)
    done = cli("status")
    assert done.code == 1
    assert done.out == ""
    assert done.err.startswith("error: ")
    assert said in done.err
    assert "Traceback" not in done.err
    assert "pw-secret" not in done.err


def test_a_database_without_our_tables(cli: Run, world: World, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "empty.db").touch()
    monkeypatch.setenv("OWUI_BUDGET_DATABASE_URL", f"sqlite:///{tmp_path}/empty.db")
    done = cli("usage")
    assert done.code == 1
    assert "the database has no owui-budget tables yet; run `owui-budget db upgrade`" in done.err


def test_a_terminal_gets_aligned_tables(world: World, cli: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    world.spend("u-alice", 12_345)
    world.clock.advance(DAY)
    monkeypatch.setattr(shell._out, "_force_terminal", True)
    monkeypatch.setattr(shell._out, "_width", 100)
    lines = cli("usage").out.splitlines()
    [alice] = [line for line in lines if "u-alice" in line]
    assert "\t" not in alice
    assert alice.index("12,345") > alice.index("Alice")
    assert "────" in "".join(lines)


def test_text_from_outside_is_cleaned_but_not_cut() -> None:
    assert shell.cell("a\n\x1b[31mb\u202ec\u200fd" + "x" * 200) == "a [31mb c d" + "x" * 200
    assert [shell.cell(each) for each in (None, "", 0, 12_345, True, False)] == ["-", "-", "0", "12,345", "yes", "no"]


def test_completion(tmp_path: Path) -> None:
    """As the shell calls it, with the program's own entry point."""
    program = "from owui_budget_sync.cli import app; app(prog_name='owui-budget')"
    environment = {
        **{name: value for name, value in os.environ.items() if not name.startswith("OWUI_BUDGET_")},
        "_OWUI_BUDGET_COMPLETE": "complete_bash",
        "COMP_WORDS": "owui-budget limits s",
        "COMP_CWORD": "2",
    }
    done = subprocess.run(  # noqa: S603 - our own program
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.split() == ["show", "set"], done.stderr


def test_json_keeps_every_letter(capsys: pytest.CaptureFixture[str]) -> None:
    shell.print_json({"name": "Zoë"})
    assert json.loads(capsys.readouterr().out) == {"name": "Zoë"}
