"""A browser for a module of tests, and a person's page in it."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from playwright.sync_api import Browser, BrowserContext, Page

from tests.browsers import open_browser


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with open_browser() as browser:
        yield browser


@pytest.fixture(scope="module")
def context(browser: Browser) -> Iterator[BrowserContext]:
    """A person's browser: it lets no page run a script."""
    with browser.new_context(java_script_enabled=False) as context:
        context.set_default_timeout(60_000)
        yield context


@pytest.fixture(scope="module")
def page(context: BrowserContext) -> Page:
    return context.new_page()
