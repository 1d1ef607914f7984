"""Commands that documents name exist, with the options they are given."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
from docs.pages import ROOT, blocks, codes, documents, names, without_code
from typer.core import TyperGroup
from typer.main import get_command

from owui_budget_sync.cli import app

DOCUMENTS = documents()
TARGETS = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
ROOMS = re.findall(r"`(tests/\w+)`", (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8"))


def shell_lines(document: Path) -> list[str]:
    """What a reader would type: lines of shell blocks, and commands in backticks."""
    text = document.read_text(encoding="utf-8")
    lines = [line for block in blocks(text, "sh") for line in block.replace("\\\n", " ").splitlines()]
    return [re.sub(r"\s+#.*", "", line) for line in lines] + codes(without_code(text))


def made(document: Path) -> list[str]:
    lines = shell_lines(document)
    return [word for line in lines for word in re.findall(r"(?:^|[;&] *)make ([a-z-]+)", line)]


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_make_targets_exist(document: Path) -> None:
    assert set(made(document)) <= TARGETS


def typed(document: Path) -> list[list[str]]:
    found = []
    for line in shell_lines(document):
        match = re.match(r"(?:\w+=\S+ )*owui-budget( .*)?$", line.strip())
        if match and match[1]:
            found.append(shlex.split(match[1].replace("…", "").replace("|", " ")))
    return found


def parse(words: list[str]) -> None:
    """Walk down the commands and check the options; arguments may be anything."""
    command: Any = get_command(app)
    while words and isinstance(command, TyperGroup) and not words[0].startswith("-"):
        name = words.pop(0)
        if name == "COMMAND":  # a placeholder for any
            return
        assert name in command.commands, f"{command.name} has no command {name}"
        command = command.commands[name]
    known = {option for each in command.params for option in (*each.opts, *each.secondary_opts)} | {"--help", "-h"}
    for word in words:
        if word.startswith("-"):
            assert word.partition("=")[0] in known, f"{command.name} has no option {word}"


COMMANDS = [(str(page.relative_to(ROOT)), words) for page in DOCUMENTS for words in typed(page)]


@pytest.mark.parametrize(("page", "words"), COMMANDS, ids=[f"{page}: {' '.join(words)}" for page, words in COMMANDS])
def test_commands_and_options_exist(page: str, words: list[str]) -> None:
    parse(list(words))


def test_the_check_notices_what_does_not_exist() -> None:
    for words in (["plans"], ["limits", "sett"], ["check", "--prob"]):
        with pytest.raises(AssertionError):
            parse(words)


@pytest.mark.parametrize("room", ROOMS)
def test_suites_exist(room: str) -> None:
    assert (ROOT / room).is_dir()
