"""`.env` is completed, never changed."""

import stat
import subprocess
import sys
from pathlib import Path

import pytest

from stack import env_file
from stack.state import ROOT

EXAMPLE = """\
# How to reach it.
ADDRESS=http://localhost
# Signs things.
# generate: hex 16
SECRET=
# generate: key 8
KEY=
# generate: word 12
WORD=
CHOICE=
"""


def test_blanks_are_generated_and_comments_kept() -> None:
    text, filled = env_file.complete(EXAMPLE, "")
    values = env_file.parse(text)
    assert values["ADDRESS"] == "http://localhost"
    assert len(values["SECRET"]) == 32
    assert values["KEY"].startswith("sk-")
    assert values["WORD"].isalnum()
    assert values["CHOICE"] == ""
    assert "# Signs things." in text
    assert set(filled) == {"ADDRESS", "SECRET", "KEY", "WORD"}


def test_a_second_time_changes_nothing() -> None:
    text, _ = env_file.complete(EXAMPLE, "")
    again, filled = env_file.complete(EXAMPLE, text)
    assert again == text
    assert filled == ()


def test_existing_values_and_own_lines_stay() -> None:
    existing = "# mine\nOWN=1\nSECRET='kept'\nKEY=\n"
    text, filled = env_file.complete(EXAMPLE, existing)
    values = env_file.parse(text)
    assert text.startswith("# mine\nOWN=1\nSECRET='kept'\nKEY=sk-")
    assert values["SECRET"] == "kept"
    assert "SECRET" not in filled
    assert text.count("SECRET=") == 1


def test_two_files_share_no_secret() -> None:
    first, second = (env_file.parse(env_file.complete(EXAMPLE, "")[0]) for _ in range(2))
    assert all(first[name] != second[name] for name in ("SECRET", "KEY", "WORD"))


def test_the_file_is_readable_by_its_owner_alone(tmp_path: Path) -> None:
    example, target = tmp_path / "example", tmp_path / "env"
    example.write_text(EXAMPLE)
    env_file.write(example, target)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600


def test_an_unknown_recipe_is_refused() -> None:
    with pytest.raises(ValueError, match="hex, key or word"):
        env_file.generate("dice", 6)


def test_the_command_needs_nothing_but_python(tmp_path: Path) -> None:
    """`-I -S`: no site-packages, so an import from outside the standard library would fail."""
    target = tmp_path / "env"
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from stack.env_file import main; sys.exit(main())"
    done = subprocess.run(  # noqa: S603 - our own command line
        [sys.executable, "-I", "-S", "-c", code, str(target)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "UPSTREAM_BASE_URL has no value yet" in done.stdout
    assert env_file.parse(target.read_text())["LITELLM_MASTER_KEY"].startswith("sk-")
