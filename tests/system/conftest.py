"""A served line, a browser and a tab, for the tests that look at the page with Debian's Chromium
(tests/browsing.py: MARKS)."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest_asyncio

if TYPE_CHECKING:
    from playwright.async_api import Browser, Page

    from tests.browsing import Shop


@pytest_asyncio.fixture(loop_scope="module")
async def shop(tmp_path: Path) -> "AsyncIterator[Shop]":
    from tests.browsing import open_shop

    async with open_shop(tmp_path) as shop:
        yield shop


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def browser() -> "AsyncIterator[Browser]":
    from tests.browsing import open_browser

    async with open_browser() as browser:
        yield browser


@pytest_asyncio.fixture(loop_scope="module")
async def tab(browser: "Browser", shop: "Shop") -> "AsyncIterator[Page]":
    """The grid, open."""
    from tests.browsing import open_tab

    async with open_tab(browser, shop.page.url) as tab:
        yield tab
