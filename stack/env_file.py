"""Write `.env` from `.env.example`: what is missing is added, blanks that can be generated are filled, nothing changes.

Standard library only, so that it runs before anything is installed: `python3 -m stack.env_file`.

A comment `# generate: KIND LENGTH` above a name says how its value is made: `hex N` (N random bytes as hex digits),
`key N` (the same after `sk-`), `word N` (N letters and digits).
"""

import argparse
import os
import re
import secrets
import string
import sys
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

_ASSIGNMENT = re.compile(r"^([A-Za-z_][A-Za-z0-9_]*)=(.*)$")
_RECIPE = re.compile(r"^# generate: (hex|key|word) (\d+)$")
_ALPHABET = string.ascii_letters + string.digits


@dataclass(frozen=True, slots=True)
class Result:
    """What `write` did: the values now in the file, and the names it added or filled."""

    values: dict[str, str]
    filled: tuple[str, ...]


def generate(kind: str, length: int) -> str:
    """Make one secret (see the module's docstring for the kinds)."""
    match kind:
        case "hex":
            return secrets.token_hex(length)
        case "key":
            return "sk-" + secrets.token_hex(length)
        case "word":
            return "".join(secrets.choice(_ALPHABET) for _ in range(length))
        case _:
            msg = f"unknown recipe {kind!r}; use hex, key or word"
            raise ValueError(msg)


def parse(text: str) -> dict[str, str]:
    """Read `NAME=value` lines. One pair of quotes around a value is dropped; a comment has a line of its own."""
    values = {}
    for line in text.splitlines():
        match = _ASSIGNMENT.match(line.strip())
        if match:
            name, value = match.groups()
            quoted = len(value) > 1 and value[0] == value[-1] and value[0] in "'\""
            values[name] = value[1:-1] if quoted else value
    return values


def complete(example: str, existing: str, given: Mapping[str, str] | None = None) -> tuple[str, tuple[str, ...]]:
    """Return the text of `.env` and the names that were added or filled.

    Lines of `existing` keep their place and value; a name that stands there with an empty value counts as blank. Names
    that only `example` has are appended with their comments. `given` replaces the example's values, not existing ones.
    """
    given = given or {}
    present = parse(existing)
    recipes, values, comments = _read_example(example)
    filled = []

    def fill(name: str) -> str:
        recipe = recipes.get(name)
        value = given.get(name) or values.get(name) or (generate(*recipe) if recipe else "")
        if value:
            filled.append(name)
        return f"{name}={value}"

    lines = []
    for line in existing.splitlines():
        match = _ASSIGNMENT.match(line.strip())
        blank = match is not None and not present[match[1]] and match[1] in values
        lines.append(fill(match[1]) if match and blank else line)
    for name in values:
        if name not in present:
            lines += [*comments[name], fill(name)]
    return "\n".join(lines) + "\n", tuple(filled)


def write(example: Path, target: Path, given: Mapping[str, str] | None = None) -> Result:
    """Complete `target` in place. It is readable by its owner alone, and replaced whole or not at all."""
    existing = target.read_text(encoding="utf-8") if target.exists() else ""
    text, filled = complete(example.read_text(encoding="utf-8"), existing, given)
    if text != existing:
        target.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=target.parent, prefix=target.name)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
        Path(temporary).replace(target)
    return Result(parse(text), filled)


def _read_example(text: str) -> tuple[dict[str, tuple[str, int]], dict[str, str], dict[str, list[str]]]:
    """Return recipes, values and the comment lines above each name."""
    recipes: dict[str, tuple[str, int]] = {}
    values: dict[str, str] = {}
    comments: dict[str, list[str]] = {}
    above: list[str] = []
    for line in text.splitlines():
        match = _ASSIGNMENT.match(line)
        if not match:
            above.append(line)
            continue
        name, values[match[1]] = match[1], match[2]
        for comment in above:
            recipe = _RECIPE.match(comment)
            if recipe:
                recipes[name] = (recipe[1], int(recipe[2]))
        comments[name], above = above, []
    return recipes, values, comments


def main() -> int:
    """Write the repository's `.env` and say which names still need a value."""
    root = Path(__file__).resolve().parent.parent
    parser = argparse.ArgumentParser(prog="python3 -m stack.env_file", description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("target", nargs="?", type=Path, default=root / ".env", help="the file to write (default: .env)")
    parser.add_argument("--example", type=Path, default=root / ".env.example")
    arguments = parser.parse_args()
    result = write(arguments.example, arguments.target)
    out = sys.stdout.write
    kept = len(result.values) - len(result.filled)
    out(f"{arguments.target}: {len(result.filled)} values added, {kept} left as they were\n")
    for name in ("UPSTREAM_BASE_URL", "UPSTREAM_API_KEY"):
        if not result.values.get(name):
            out(f"{name} has no value yet: docker compose needs one; make up simulates a provider without it\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
