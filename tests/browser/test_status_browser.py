"""The status page in a real browser: with and without scripts, light and dark, wide and narrow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from leeward.plan_file import load_plan
from leeward.status import example_page
from tests.browsers import judge_page, overflow
from tests.scenarios.drills import PLAN

if TYPE_CHECKING:
    from playwright.sync_api import Browser

FILES = ("index.html", "history.html", "incidents/inc-example-now.html")
# Half an hour after it was confirmed, and at once.
AGES = {"old": timedelta(minutes=30), "fresh": timedelta(0)}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example page, below the name of its age."""
    made, plan = tmp_path_factory.mktemp("status"), load_plan(PLAN).plan
    for name, age in AGES.items():
        for key, data in example_page(plan, now=datetime.now(UTC) - age).items():
            (made / name / key).parent.mkdir(parents=True, exist_ok=True)
            (made / name / key).write_bytes(data)
    return made


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [360, 1200])
def test_axe_finds_nothing_serious_and_nothing_is_cut_off(
    browser: Browser, folder: Path, scheme: str, width: int
) -> None:
    size = {"width": width, "height": 800}
    with browser.new_context(color_scheme=scheme, viewport=size) as context:  # type: ignore[arg-type]
        page = context.new_page()
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        for name in FILES:
            page.goto((folder / "old" / name).as_uri())
            assert overflow(page) <= 0, name
            assert judge_page(page) == [], name
        assert said == [], "something was refused by the page's own policy, or failed"


def test_everything_can_be_read_without_scripts(browser: Browser, folder: Path) -> None:
    with browser.new_context(java_script_enabled=False) as context:
        page = context.new_page()
        page.goto((folder / "fresh" / "index.html").as_uri())
        text = page.inner_text("body")
        assert "A disruption was going on" in text
        assert "Last confirmed 20" in text
        assert "A database is damaged. It is being restored" in text
        label = page.get_by_role("img", name="API, the last 90 days").get_attribute("aria-label")
        assert label is not None
        assert "1 not known" in label
        page.get_by_text("Days with failures of API").click()
        assert "min without a good answer" in page.inner_text("details[open]")
        page.get_by_role("link", name="Nexus Studio: service disruption").first.click()
        assert "Requests fail. We are looking into it." in page.inner_text("main")
        page.get_by_role("link", name="Status").first.click()
        assert page.url.endswith("/fresh/index.html")


def test_a_page_that_nobody_confirms_says_so_by_itself(browser: Browser, folder: Path) -> None:
    with browser.new_context() as context:
        page = context.new_page()
        page.goto((folder / "fresh" / "index.html").as_uri())
        assert not page.locator("#stale").is_visible()
        page.goto((folder / "old" / "index.html").as_uri())
        assert "has not been confirmed lately" in page.locator("#stale").inner_text()
        after = "it => getComputedStyle(it, '::after').content"
        for words in (page.locator(".headline strong"), page.locator(".mark").first):
            assert words.evaluate(after) == '" (not confirmed)"'
