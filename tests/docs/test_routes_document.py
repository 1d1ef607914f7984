"""docs/routes.md is the code's own table, and docs/no-way-round.md names tests that exist."""

import importlib.util
import re
from pathlib import Path

import pytest
from docs.pages import ROOT, codes, documents, links, names, rows, text_of

from owui_budget_hooks.routes import (
    BATCH_CALL_TYPES,
    FREE_CALL_TYPES,
    RAW_CALL_TYPES,
    ROUTES,
    Route,
)
from owui_budget_sync.litellm.objects import ROUTES as KEY_ROUTES

TEXT = text_of("docs/routes.md")
GOVERNED = {codes(row[0])[0]: row for row in rows(TEXT, "| name | endpoints |")}
BY_NAME = {route.name: route for route in ROUTES.values()}


def test_the_table_lists_exactly_the_governed_routes() -> None:
    documented = {call_type: name for name, row in GOVERNED.items() for call_type in codes(row[2])}
    assert documented == {call_type: route.name for call_type, route in ROUTES.items()}


@pytest.mark.parametrize("route", BY_NAME.values(), ids=BY_NAME)
def test_the_caps_that_strict_admission_writes(route: Route) -> None:
    cell = GOVERNED[route.name][3]
    if route.caps:
        assert tuple(codes(cell)) == route.caps
    else:
        assert cell == ("none: refused" if route.generates or not route.bounded else "none needed")


def test_what_is_marked_as_tried_has_a_case() -> None:
    path = ROOT / "tests" / "proxy" / "test_routes.py"
    spec = importlib.util.spec_from_file_location("routes_tried", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    tried = {case.route for case in module.CASES}
    assert {name for name, row in GOVERNED.items() if row[5] == "yes"} == tried


def test_routes_whose_streams_end_without_a_word() -> None:
    [sentence] = re.findall(r"aborted streams end without any word from LiteLLM \((.*?)\)", TEXT, re.DOTALL)
    assert set(codes(sentence)) == {name for name, route in BY_NAME.items() if route.watched}


def test_routes_whose_missing_tokens_are_estimated() -> None:
    [sentence] = re.findall(r"reports no tokens on a route of text \((.*?)\)", TEXT, re.DOTALL)
    estimated = {name for name, route in BY_NAME.items() if route.estimates_missing}
    assert set(codes(sentence)) == estimated


def test_call_types_that_are_not_governed() -> None:
    cells = [row[0] for row in rows(TEXT, "| call types |")]
    documented = {word for cell in cells for word in codes(cell) if "/" not in word}
    assert documented == BATCH_CALL_TYPES | RAW_CALL_TYPES | FREE_CALL_TYPES


def test_the_routes_of_the_connection_key() -> None:
    listed = codes(TEXT[TEXT.index("includes `/messages/count_tokens`:") :])[1:]
    assert {f"{prefix}{path}" for path in listed for prefix in ("", "/v1")} == set(KEY_ROUTES)


REFERENCES = [
    (str(page.relative_to(ROOT)), target, name)
    for page in documents()
    for target, name in re.findall(r"\]\((?:\.\./)?(tests/[\w/]+\.py)\) `(test_\w+)`", page.read_text(encoding="utf-8"))
]


def test_there_are_references() -> None:
    assert len(REFERENCES) > 30


@pytest.mark.parametrize(("page", "file", "name"), REFERENCES, ids=[each[2] for each in REFERENCES])
def test_a_named_test_exists(page: str, file: str, name: str) -> None:
    path = ROOT / file
    assert path.exists(), f"{page} names {file}"
    assert re.search(rf"^(?:async )?def {name}\(", path.read_text(encoding="utf-8"), re.MULTILINE), f"{page}: {name}"


@pytest.mark.parametrize("row", rows(text_of("docs/no-way-round.md"), "| tried |"), ids=lambda row: row[0][:40])
def test_each_claim_names_its_test(row: list[str]) -> None:
    assert len(row) == 3
    assert links(row[2])
    assert codes(row[2])[-1].startswith("test_")


def test_named_documents_exist_in_the_code() -> None:
    """Comments and messages name documents too."""
    missing = []
    for folder in ("owui_budget", "owui_budget_sync", "hooks", "stack", "proxy_config", "docker"):
        for path in sorted((ROOT / folder).rglob("*")):
            if path.suffix not in (".py", ".yaml", ".sql", ".Dockerfile", ".md"):
                continue
            named = re.findall(r"docs/[\w-]+\.md", path.read_text(encoding="utf-8"))
            missing += [f"{path.relative_to(ROOT)}: {name}" for name in named if not (ROOT / name).exists()]
    assert missing == []


def test_files_that_the_architecture_names_exist() -> None:
    folders = ("owui_budget", "owui_budget_sync", "hooks")
    present = {path.name for folder in folders for path in (ROOT / folder).rglob("*.py")}
    named = set(re.findall(r"\b([a-z_]+\.py)\b", text_of("ARCHITECTURE.md")))
    assert len(named) > 30
    assert named - present == set()


def test_the_documents_are_found() -> None:
    assert {"README.md", "docs/routes.md", "docs/no-way-round.md"} <= set(names(documents()))
    assert isinstance(ROOT, Path)
