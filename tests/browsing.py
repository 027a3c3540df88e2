"""The page in a real browser, for tests: a served line that keeps showing pictures, and Debian's Chromium."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from playwright.async_api import Browser, Locator, Page, async_playwright, expect

from config.load import load
from config.settings import Settings
from engine.core import ModelInfo
from stream.collection import write_png
from stream.drawing import Drawing
from stream.evidence import Evidence
from stream.teaching import Teaching
from stream.web.page import LivePage
from stream.web.view import ConfigView, LineActions
from tests.webline import MODEL, FakeLine, inspection

expect.set_options(timeout=15_000)

# A file's tests share one browser, whose start takes a second or two, and therefore one event loop. Each page
# that is opened in it has cookies and a storage of its own.
MARKS = [
    pytest.mark.debian,
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.usefixtures("no_task_left_in_module"),
]

FLAGS = """--headless --no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking
--disable-component-update --disable-sync""".split()  # noqa: SIM905
BOX = (400, 200, 560, 320)
CONFIG = """
version: 1
defaults: {model: {input_px: 64}}
cameras: {top: {source: {type: pattern}}, side: {source: {type: pattern}}}
models: {dir: models}
pictures: {dir: pictures}
web: {zones_file: zones.yaml}
"""

# The mean colour of a rectangle of a canvas, in the picture's own pixels.
MEAN_COLOUR = """(canvas, [x0, y0, x1, y1]) => {
  const data = canvas.getContext("2d").getImageData(x0, y0, x1 - x0, y1 - y0).data;
  const sum = [0, 0, 0];
  for (let i = 0; i < data.length; i++) if (i % 4 < 3) sum[i % 4] += data[i];
  return sum.map((s) => s / (data.length / 4));
}"""


@dataclass
class Shop:
    """A served line, and a task that keeps showing pictures as cameras would."""

    line: FakeLine
    evidence: Evidence
    folder: Path
    bad: bool = True
    noisy: bool = False  # no picture is like the one before, as when parts go by
    levels: list[float | None] = field(default_factory=list)
    users_file: Path | None = None
    showing: asyncio.Task[None] = field(init=False)
    page: LivePage = field(init=False)
    settings: Settings = field(init=False)
    teaching: Teaching = field(init=False)

    def __post_init__(self) -> None:
        (self.folder / "cameras.yaml").write_text(CONFIG)
        self.settings = load(self.folder / "cameras.yaml")
        quick = ("--steps", "4", "--foreground", "off")
        self.teaching = Teaching(lambda: self.settings, in_use=dict, extra=quick)
        self.page = self.new_page("127.0.0.1:0")

    def new_page(self, listen: str) -> LivePage:
        """A server for this line."""
        return LivePage(
            self.line.view(),
            listen=listen,
            evidence=self.evidence,
            pictures=self.folder / "pictures",
            teaching=self.teaching,
            drawing=Drawing(lambda: self.settings, self._reload),
            users_file=self.users_file,
            actions=LineActions(self._set),
        )

    async def _set(self, camera: str, raw: float | None, of: ModelInfo | None) -> ModelInfo:
        self.levels.append(raw)
        return MODEL

    async def _reload(self) -> ConfigView:
        self.settings = load(self.folder / "cameras.yaml")
        return ConfigView("cameras.yaml", "")

    def good_pictures(self, count: int) -> None:
        for i in range(count):
            pixels = np.random.default_rng(i).integers(90, 160, (64, 64, 3), np.uint8)
            write_png(pixels, self.folder / "pictures" / "top" / "good" / f"{i:03}.png")

    async def keep_showing(self) -> None:
        """Ten pictures a second of every live camera."""
        seq = 0
        while True:
            seq += 1
            for camera in self.line.cameras:
                made = inspection(camera.name, seq, box=BOX if self.bad else None, size=(640, 480))
                if self.noisy:
                    blocks = np.random.default_rng(seq).integers(60, 190, (30, 40, 1), np.uint8)
                    made.frame.pixels[:] = blocks.repeat(16, 0).repeat(16, 1)
                self.page.show(made)
            await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def open_shop(folder: Path) -> AsyncIterator[Shop]:
    """Two cameras, served."""
    shop = Shop(FakeLine.of("top", "side"), Evidence(folder / "evidence"), folder)
    shop.evidence.start()
    await shop.page.start()
    shop.showing = asyncio.create_task(shop.keep_showing())
    yield shop
    shop.showing.cancel()
    await shop.teaching.stop()
    await shop.page.stop()
    shop.evidence.stop()


@contextlib.asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    path = shutil.which("chromium")
    assert path, "Debian's chromium is missing: apt-get install chromium"
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=FLAGS)
        yield browser
        await browser.close()


@contextlib.asynccontextmanager
async def open_tab(browser: Browser, url: str) -> AsyncIterator[Page]:
    """The page; a script error or a request to another host fails the test."""
    tab = await browser.new_page(viewport={"width": 1024, "height": 768})
    tab.set_default_timeout(10_000)
    errors: list[str] = []
    hosts: set[str] = set()
    tab.on("pageerror", lambda error: errors.append(str(error)))
    tab.on("console", lambda said: errors.append(said.text) if "Content Security" in said.text else None)
    tab.on("request", lambda request: hosts.add(request.url.split("/")[2].split(":")[0]))
    await tab.goto(url)
    yield tab
    await tab.close()
    assert errors == []
    assert hosts <= {"127.0.0.1", ""}


def tile(tab: Page, name: str) -> Locator:
    return tab.get_by_role("article", name=f"Camera {name}")


async def pictures(tab: Page, name: str, at_least: int) -> Locator:
    """The camera's canvas once it has shown so many pictures."""
    await tab.wait_for_function(
        "([name, n]) => [...document.querySelectorAll('canvas')].some((c) =>"
        " c.getAttribute('aria-label').startsWith(`Camera ${name}`) && Number(c.dataset.pictures) >= n)",
        arg=[name, at_least],
    )
    return tab.locator(f"canvas[aria-label^='Camera {name}']")
