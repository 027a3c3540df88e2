"""What the page costs and how late it is: `python -m tests.bench.bench_page` prints a table.

A real line (`linewatch run`: one 720p pattern camera at 10 fps, the lite network with random weights) on
loopback, looked at by Debian's Chromium and by readers that decode nothing.

first picture   from opening the page to the first picture on it
glass to glass  from the camera's picture to its being drawn in the browser, by MJPEG through the whole line
page to glass   from what the page was shown on, over WebRTC, by a clock that is painted into the picture
viewers         CPU of the line while 1 and while 8 watch one camera
API             a mix of reads, 50 a second, while the line runs and one page is open
weight          everything the browser loads to show the grid
"""

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from statistics import median

import httpx
import numpy as np
import yaml
from playwright.async_api import Browser, Page

from engine.artifact import save
from engine.core import Frame
from stream.console import linewatch
from stream.launch import with_us
from stream.web.page import LivePage
from tests.bench.bench_delivery import percentile
from tests.browsing import open_browser
from tests.models import tiny_artifact
from tests.webline import FakeLine

READS = (
    "cameras",
    "stats",
    "events?limit=20",
    "cameras/top/scores?seconds=600",
    "cameras/top/cost?level=1.2",
)
_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
_CLOCK_BITS, _BIT_PX = 32, 40

# Ages in ms of the pictures of a camera as they are drawn from the MJPEG stream.
MJPEG_AGES = """async (seconds) => {
  const { watchPictures } = await import("/static/pictures.js");
  const ages = [], canvas = document.createElement("canvas");
  const stop = watchPictures(["top"], async (_, part) => {
    const bitmap = await createImageBitmap(new Blob([part.jpeg], { type: "image/jpeg" }));
    canvas.getContext("2d").drawImage(bitmap, 0, 0);
    requestAnimationFrame(() => ages.push(Date.now() - 1000 * Number(part.headers["x-taken-at"])));
  });
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  stop();
  return ages;
}"""
# The same for video, whose pictures carry the time as black and white squares.
VIDEO_AGES = """async ([seconds, bits, px]) => {
  const { watchVideo } = await import("/static/whep.js");
  const video = document.createElement("video"), canvas = document.createElement("canvas");
  video.muted = true;
  document.body.replaceChildren(video);
  const end = await watchVideo("top", false, video, () => {});
  [canvas.width, canvas.height] = [bits * px, px];
  const g = canvas.getContext("2d", { willReadFrequently: true }), ages = [];
  const look = () => {
    g.drawImage(video, 0, 0);
    let stamp = 0;
    const white = (i) => g.getImageData(i * px + px / 2, px / 2, 1, 1).data[0] > 127;
    for (let i = 0; i < bits; i++) stamp = stamp * 2 + white(i);
    ages.push((Date.now() % 2 ** bits) - stamp);
    video.requestVideoFrameCallback(look);
  };
  video.requestVideoFrameCallback(look);
  await new Promise((done) => setTimeout(done, 1000 * seconds));
  end();
  return ages.slice(10);
}"""
OPENED = "() => [...document.querySelectorAll('canvas')].some((c) => Number(c.dataset.pictures) >= 1)"


@contextlib.asynccontextmanager
async def running_line(folder: Path) -> AsyncIterator[tuple[str, int]]:
    """The page's address and the line's process id."""
    save(tiny_artifact(real="lite", name="top"), folder / "models")
    config = {
        "version": 1,
        "cameras": {"top": {"source": {"type": "pattern", "width_px": 1280, "height_px": 720}, "fps": 10}},
        "engine": {"cache_dir": "engine", "deadline_ms": 2000},
        "events": {"outbox": {"path": "outbox.db"}, "embedded": {"dir": "broker"}},
        "models": {"dir": "models"},
        "evidence": {"dir": "evidence"},
        "web": {"listen": "127.0.0.1:0"},
    }
    (folder / "cameras.yaml").write_text(yaml.safe_dump(config))
    process = await asyncio.create_subprocess_exec(
        *with_us([*linewatch(), "run", str(folder / "cameras.yaml"), "--json"]),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    assert process.stdout is not None
    try:
        told = json.loads(await asyncio.wait_for(process.stdout.readline(), 300))
        yield told["page"], process.pid
    finally:
        process.terminate()
        await process.wait()


async def first_picture_ms(browser: Browser, url: str, times: int) -> list[float]:
    took = []
    for _ in range(times):
        tab = await browser.new_page()
        began = time.perf_counter()
        await tab.goto(url, wait_until="commit")
        await tab.wait_for_function(OPENED, polling=10)
        took.append((time.perf_counter() - began) * 1e3)
        await tab.close()
    return took


async def weight_kb(browser: Browser, url: str) -> float:
    tab = await browser.new_page()
    sizes: list[Awaitable[bytes]] = []
    tab.on("response", lambda r: sizes.append(r.body()) if "/static/" in r.url or r.url == url else None)
    await tab.goto(url)
    await tab.wait_for_function(OPENED)
    total = sum(len(body) for body in await asyncio.gather(*sizes))
    await tab.close()
    return total / 1e3


async def video_ages_ms(browser: Browser, seconds: float) -> list[float]:
    """By WebRTC, from `show` to the screen, at 10 pictures of 720p a second."""
    page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0")
    await page.start()

    async def keep_showing() -> None:
        seq = 0
        while True:
            seq += 1
            stamp = int(time.time() * 1e3) % 2**_CLOCK_BITS
            bits = [stamp >> (_CLOCK_BITS - 1 - i) & 1 for i in range(_CLOCK_BITS)]
            pixels = np.full((720, 1280, 3), 120, np.uint8)
            pixels[:_BIT_PX] = np.repeat(np.array(bits, np.uint8) * 255, _BIT_PX)[None, :, None]
            page.show(Frame("top", seq, time.time(), time.monotonic(), pixels))
            await asyncio.sleep(0.1)

    showing = asyncio.create_task(keep_showing())
    try:
        tab = await browser.new_page()
        await tab.goto(f"{page.url}")
        ages: list[float] = await tab.evaluate(VIDEO_AGES, [seconds, _CLOCK_BITS, _BIT_PX])
        await tab.close()
    finally:
        showing.cancel()
        await page.stop()
    return ages


def cpu_s(pid: int) -> float:
    """CPU that a process has used so far."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_S


async def cpu_share(pid: int, seconds: float) -> float:
    before, began = cpu_s(pid), time.perf_counter()
    await asyncio.sleep(seconds)
    return (cpu_s(pid) - before) / (time.perf_counter() - began)


@contextlib.asynccontextmanager
async def mjpeg_viewers(url: str, count: int) -> AsyncIterator[None]:
    async with httpx.AsyncClient(base_url=url, timeout=30) as http:

        async def watch() -> None:
            async with http.stream("GET", "/api/v1/cameras/top/mjpeg") as answer:
                async for _ in answer.aiter_raw():
                    pass

        tasks = [asyncio.create_task(watch()) for _ in range(count)]
        yield
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@contextlib.asynccontextmanager
async def video_viewers(browser: Browser, url: str, count: int) -> AsyncIterator[None]:
    tab = await browser.new_page()
    await tab.goto(f"{url}live")
    await tab.evaluate(
        """async (count) => {
          const { watchVideo } = await import("/static/whep.js");
          const video = () => document.createElement("video");
          for (let i = 0; i < count; i++) await watchVideo("top", true, video(), () => {});
        }""",
        count,
    )
    yield
    await tab.close()


async def api_ms(url: str, seconds: float) -> list[float]:
    """Of 50 requests a second, each sent at its time, whether or not those before it were answered."""
    took: list[float] = []
    async with httpx.AsyncClient(base_url=f"{url}api/v1/", timeout=10) as http:

        async def ask(path: str) -> None:
            began = time.perf_counter()
            (await http.get(path)).raise_for_status()
            took.append((time.perf_counter() - began) * 1e3)

        tasks, start = [], time.perf_counter()
        for i in range(int(seconds * 50)):
            await asyncio.sleep(max(0.0, start + i / 50 - time.perf_counter()))
            tasks.append(asyncio.create_task(ask(READS[i % len(READS)])))
        await asyncio.gather(*tasks)
    return took


def row(what: str, told: str) -> None:
    print(f"{what:<34} {told}", flush=True)


def spread(values: list[float]) -> str:
    return (
        f"p50 {percentile(values, 0.5):.0f}  p95 {percentile(values, 0.95):.0f}  "
        f"p99 {percentile(values, 0.99):.0f}  max {max(values):.0f} ms  ({len(values)})"
    )


async def measure(seconds: float) -> None:
    load = os.getloadavg()[0]
    row("load of the machine before", f"{load:.1f} on {os.cpu_count()} cores")
    with tempfile.TemporaryDirectory() as folder:
        async with running_line(Path(folder)) as (url, pid), open_browser() as browser:
            row("weight of the page", f"{await weight_kb(browser, url):.0f} kB")
            row("first picture", spread(await first_picture_ms(browser, url, 10)))
            tab: Page = await browser.new_page()
            await tab.goto(url)
            row("API, 50 a second, one page open", spread(await api_ms(url, seconds)))
            row("glass to glass, MJPEG", spread(await tab.evaluate(MJPEG_AGES, seconds)))
            await tab.close()
            viewers: dict[str, Callable[[int], contextlib.AbstractAsyncContextManager[None]]] = {
                "MJPEG": lambda count: mjpeg_viewers(url, count),
                "WebRTC": lambda count: video_viewers(browser, url, count),
            }
            for kind, watching in viewers.items():
                shares = []
                for count in (0, 1, 8):
                    async with watching(count):
                        await asyncio.sleep(2.0)  # they have all begun
                        shares.append(await cpu_share(pid, seconds))
                none, one, eight = shares
                told = f"CPU {none:.2f}, {one:.2f}, {eight:.2f} cores; 8 cost {eight / one:.2f} × one"
                row(f"0, 1, 8 viewers by {kind}", told)
    async with open_browser() as browser:
        ages = await video_ages_ms(browser, seconds)
        row("page to glass, WebRTC", f"{spread(ages)}, median {median(ages):.0f}")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--seconds", type=float, default=20.0, help="for each measurement (20)")
    asyncio.run(measure(parser.parse_args().seconds))
    return 0


if __name__ == "__main__":
    sys.exit(main())
