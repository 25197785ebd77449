"""What the documentation points to is there: links, anchors, files, fragments, plans."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from markdown_it import MarkdownIt
from markdown_it.token import Token

from leeward.plan_file import load_plan
from tests.commands import ROOT

PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
README = (ROOT / "README.md").read_text()
FRAGMENTS = sorted((ROOT / "changelog").rglob("*.md"))
PLANS = [ROOT / "docs/sound-plan.yaml", *sorted((ROOT / "policies/plans").glob("*.yaml"))]


def tokens(page: Path) -> Iterator[Token]:
    for token in MarkdownIt("commonmark").enable("table").parse(page.read_text()):
        yield token
        yield from token.children or ()


def links(page: Path) -> list[str]:
    found = [token.attrGet("href") or token.attrGet("src") for token in tokens(page)]
    return [str(link) for link in found if link]


@cache
def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    all_tokens = list(tokens(page))
    titles = [
        all_tokens[at + 1].content
        for at, token in enumerate(all_tokens)
        if token.type == "heading_open"
    ]
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        parts = urlsplit(link)
        if parts.scheme:
            continue
        target = (page.parent / parts.path).resolve() if parts.path else page
        assert target.exists(), link
        if parts.fragment:
            assert parts.fragment in anchors(target), link


def test_the_index_names_every_page() -> None:
    index = ROOT / "docs/README.md"
    named = {(index.parent / link).resolve() for link in links(index)}
    pages = {page for page in (ROOT / "docs").rglob("*.md") if page != index}
    assert pages - named == set()


def test_every_page_that_the_code_names_exists() -> None:
    sources = [
        it for part in ("chalicelib", "leeward", "bench") for it in (ROOT / part).rglob("*.py")
    ]
    text = "".join(source.read_text() for source in sources)
    named = set(re.findall(r"docs/[\w./-]+\.(?:md|yaml)", text))
    assert named
    assert {name for name in named if not (ROOT / name).exists()} == set()


def tree_of_readme() -> list[str]:
    """Paths of the tree; what is indented lies in the folder above it."""
    block = README.partition("## The tree\n\n")[2].partition("\n\n")[0]
    paths, folder = [], ""
    for line in block.splitlines():
        name = line.split()[0]
        inner = line.startswith("      ")
        folder = folder if inner else name
        paths.append(folder + name if inner else name)
    return paths


def test_the_tree_of_the_readme_is_the_tree() -> None:
    tree = tree_of_readme()
    assert [path for path in tree if not (ROOT / path).exists()] == []
    made = {"build", "vendor", "node_modules", "leeward.egg-info"}
    folders = [
        it for parent in (ROOT, ROOT / "chalicelib") for it in parent.iterdir() if it.is_dir()
    ]
    kept = {f"{it.relative_to(ROOT)}/" for it in folders if it.name[0] not in "._"}
    assert kept - set(tree) - {f"{name}/" for name in made} == set()


@pytest.mark.parametrize("fragment", FRAGMENTS, ids=lambda it: it.stem)
def test_a_fragment_says_what_kind_of_change_it_is(fragment: Path) -> None:
    assert re.match(r"(Add|Change|Fix): \w", fragment.read_text())


@pytest.mark.parametrize("plan", PLANS, ids=lambda it: it.stem)
def test_a_plan_that_the_documentation_shows_is_one(plan: Path) -> None:
    assert load_plan(plan).plan.scenarios
