"""What cameras cost, and whether one in trouble delays another.

    python -m tests.bench.cameras cost      # 4 × 720p at 10 fps: our CPU beside libavcodec's own
    python -m tests.bench.cameras trouble   # camera A fails in every way while B's age is measured

The simulator runs in a process of its own.
"""

import argparse
import asyncio
import contextlib
import multiprocessing
import time
from collections.abc import Iterator
from multiprocessing.connection import Connection as Pipe

import av
import numpy as np

from config.sources import RtspSource as RtspSettings
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.sim.shows import PatternShow
from stream.sources.base import build
from tests.servers import rtsp_sim

SECONDS = 20.0
FAULTS = ("kill=1", "stall=4", "garbage=3", "refuse=2", "size=480x360", "size=320x240")


def _serve(names: list[str], size: tuple[int, int], fps: float, pipe: Pipe) -> None:
    shows = {name: PatternShow("machined", number, size) for number, name in enumerate(names)}
    with rtsp_sim(shows, fps=fps) as sim:
        pipe.send([sim.url(name) for name in names])
        while (told := pipe.recv()) is not None:
            name, fault, value = told
            sim.set(fault, value, name)


@contextlib.contextmanager
def simulator(names: list[str], size: tuple[int, int], fps: float) -> Iterator[tuple[list[str], Pipe]]:
    here, there = multiprocessing.Pipe()
    process = multiprocessing.get_context("spawn").Process(target=_serve, args=(names, size, fps, there))
    process.start()
    try:
        yield here.recv(), here
    finally:
        here.send(None)
        process.join()


async def watch(url: str, seconds: float, fps: float = 10) -> list[float]:
    """Ages of a camera's frames in ms, from the camera's clock to the offer."""
    ages: list[float] = []

    def offer(frame: Frame) -> None:
        if frame.clock == "camera":
            ages.append((time.time() - frame.taken_at) * 1e3)

    settings = RtspSettings(type="rtsp", url=url, read_timeout_s=1.0)
    camera = Camera("b", lambda: build("b", settings), offer=offer, policy=CameraPolicy(fps=fps))
    await camera.start()
    await asyncio.sleep(seconds)
    await camera.stop()
    return ages


def raw_decode_s(url: str, seconds: float) -> float:
    """CPU seconds that libav alone needs to receive and decode."""
    options = {"rtsp_transport": "tcp", "fflags": "nobuffer", "probesize": "32768"}
    with av.open(url, options=options, timeout=(5.0, 5.0)) as container:
        container.streams.video[0].codec_context.thread_count = 1
        begin, until = time.thread_time(), time.monotonic() + seconds
        for _ in container.decode(video=0):
            if time.monotonic() > until:
                break
        return time.thread_time() - begin


async def cost() -> None:
    names = [f"c{number}" for number in range(4)]
    with simulator(names, (1280, 720), 10) as (urls, _):
        begin = time.process_time()
        ages = await asyncio.gather(*(watch(url, SECONDS) for url in urls))
        ours = (time.process_time() - begin) / SECONDS
        raw = sum(await asyncio.gather(*(asyncio.to_thread(raw_decode_s, url, SECONDS) for url in urls)))
    fps = sum(map(len, ages)) / SECONDS / 4
    print(f"4 × 720p at {fps:.1f} fps: {ours:.3f} of a core; libav alone {raw / SECONDS:.3f}")


async def trouble() -> None:
    with simulator(["a", "b"], (640, 480), 20) as (urls, pipe):
        calm, _ = await asyncio.gather(watch(urls[1], SECONDS), watch(urls[0], SECONDS))
        task = asyncio.create_task(watch(urls[0], SECONDS))
        watched = asyncio.create_task(watch(urls[1], SECONDS))
        for number in range(int(SECONDS)):
            fault, _, value = FAULTS[number % len(FAULTS)].partition("=")
            pipe.send(("a", fault, value))
            await asyncio.sleep(1.0)
        await task
        troubled = await watched
    for what, ages in (("A is well", calm), ("A in trouble", troubled)):
        p50, p99 = np.percentile(ages, (50, 99))
        print(f"{what:<13} B: {len(ages)} frames, age p50 {p50:.1f} ms, p99 {p99:.1f} ms")


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["cost", "trouble"])
    asyncio.run({"cost": cost, "trouble": trouble}[parser.parse_args().what]())


if __name__ == "__main__":
    main()
