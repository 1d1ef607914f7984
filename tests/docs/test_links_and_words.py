"""Documents hold together: links resolve, pictures are well formed, and nothing of this machine is in them."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from docs.pages import ROOT, anchors, documents, links, names

DOCUMENTS = documents()
LICENCE = ROOT / "LICENSE"


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_every_relative_link_resolves(document: Path) -> None:
    broken = []
    for link in links(document.read_text(encoding="utf-8")):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (document.parent / path).resolve() if path else document
        if not target.exists() or (anchor and anchor not in anchors(target.read_text(encoding="utf-8"))):
            broken.append(link)
    assert broken == []


@pytest.mark.parametrize("document", DOCUMENTS, ids=names(DOCUMENTS))
def test_nothing_of_a_machine_or_a_registry_is_named(document: Path) -> None:
    words = r"\.\./shared|/tmp/|/work/|/root/|/home/\w|pypi\.org|pythonhosted|npmjs|proxy\.golang|index-url"
    assert re.findall(words, document.read_text(encoding="utf-8")) == []


def test_every_document_is_linked_from_the_readme_or_a_document_it_links() -> None:
    seen, waiting = set[Path](), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in seen or page.suffix != ".md" or not page.exists():
            continue
        seen.add(page)
        waiting += [
            (page.parent / link.partition("#")[0]).resolve()
            for link in links(page.read_text(encoding="utf-8"))
            if not re.match(r"[a-z]+:|#", link)
        ]
    assert {page for page in DOCUMENTS if page.parent == ROOT / "docs"} <= seen


PICTURES = sorted((ROOT / "docs" / "images").glob("*.svg"))


@pytest.mark.parametrize("picture", PICTURES, ids=lambda path: path.name)
def test_pictures_are_xml_for_light_and_dark_pages(picture: Path) -> None:
    text = picture.read_text(encoding="utf-8")
    root = ET.fromstring(text)  # noqa: S314 - our own file
    space = "{http://www.w3.org/2000/svg}"
    assert root.find(f"{space}title") is not None
    assert root.find(f"{space}desc") is not None
    assert "prefers-color-scheme: dark" in text
    assert not re.search(r"<script|<image|https?://(?!www\.w3\.org/2000/svg)", text)


def test_the_licence() -> None:
    text = LICENCE.read_text(encoding="utf-8")
    assert text.startswith("MIT License\n\nCopyright (c) 2026 owui-budget contributors\n")
