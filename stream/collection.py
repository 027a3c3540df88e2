"""Good pictures out of those that a camera shows, into a folder, for training.

What is worth keeping is decided by `Selection` (pure). Pictures are spread over time, and whatever is dark,
overexposed, blurred or nearly the same as one that is kept already is skipped and counted.
"""

import asyncio
import contextlib
import os
import time
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.core import Frame

from .health import brightness, sharpness, small_grey

_DARK, _BRIGHT, _SOFT = 0.04, 0.96, 0.4  # as the health settings' defaults
_SAME_MEAN_LEVELS, _SAME_BLOCK_LEVELS = 0.5, 4.0
_REMEMBERED = 1000


@dataclass(frozen=True, slots=True)
class Captured:
    """How many pictures were written, and how many were skipped for which reason."""

    written: int
    skipped: dict[str, int]


@dataclass
class Selection:
    """Which pictures are worth keeping (pure). All thresholds are ours."""

    every_s: float
    skipped: Counter[str] = field(default_factory=Counter)
    _next_at: float = 0.0
    _kept: deque[NDArray[np.float32]] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))
    _sharp: deque[float] = field(default_factory=lambda: deque(maxlen=50))

    def wants(self, pixels: NDArray[np.uint8], now: float) -> bool:
        """True if this picture, (H, W, 3) uint8 RGB, is to be kept; `now` in seconds of any steady clock."""
        if now < self._next_at:
            return False  # not its turn: spread over time, which is no reason to count
        grey = small_grey(pixels)
        blocks = np.asarray(cv2.resize(grey, (32, 24), interpolation=cv2.INTER_AREA), dtype=np.float32)
        why = self._why_not(grey, blocks)
        if why is not None:
            self.skipped[why] += 1
            return False
        self._kept.append(blocks)
        self._next_at = now + self.every_s
        return True

    def _why_not(self, grey: NDArray[np.uint8], blocks: NDArray[np.float32]) -> str | None:
        light, sharp = brightness(grey), sharpness(grey)
        if light < _DARK:
            return "dark"
        if light > _BRIGHT:
            return "overexposed"
        self._sharp.append(sharp)
        if sharp < _SOFT * median(self._sharp):
            return "blurred"
        return "duplicate" if any(_same(blocks, kept) for kept in self._kept) else None


def _same(one: NDArray[np.float32], other: NDArray[np.float32]) -> bool:
    """Nearly the same: neither the light as a whole nor any one place differs; noise averages out."""
    apart = np.abs(one - other)
    return bool(apart.mean() < _SAME_MEAN_LEVELS and apart.max() < _SAME_BLOCK_LEVELS)


def write_png(pixels: NDArray[np.uint8], path: Path) -> None:
    """Write RGB pixels, as `write_whole`."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 2]
    )
    if not done:
        raise OSError(f"{path}: the picture cannot be encoded")
    write_whole(path, data.tobytes())


def write_whole(path: Path, data: bytes) -> None:
    """Write under a temporary name, then rename: nobody sees half a file. Raises OSError."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data)
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def picture_path(folder: Path, frame: Frame) -> Path:
    """Sorted by name is sorted by time: 20261123T161905.123456Z.png."""
    taken = datetime.fromtimestamp(frame.taken_at, UTC)
    return folder / f"{taken:%Y%m%dT%H%M%S.%f}Z.png"


class Collection:
    """Keeps `frames` pictures of those that it is offered, in `folder` (CAMERA/good); `captured` so far."""

    def __init__(
        self,
        folder: Path,
        *,
        frames: int,
        every_s: float = 0.5,
        patience_s: float = 60.0,
        on_progress: Callable[[Captured], None] = lambda captured: None,
    ) -> None:
        """Gives up when nothing new was kept for `patience_s`; `on_progress` is called on the event loop."""
        self._folder = folder
        self._frames = frames
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._selection = Selection(every_s)
        self._written = 0
        # `_selection` counts in another thread: this is its count as it stood after the last picture.
        self._skipped: Counter[str] = Counter()
        self._unwanted: Counter[str] = Counter()
        self.captured = Captured(0, {})
        self._waiting: Frame | None = None  # the only place: a newer picture displaces one that waits
        self._news = asyncio.Event()
        self._stopping = False
        self._loop: asyncio.AbstractEventLoop | None = None

    def open(self) -> None:
        """Pictures may be offered from now on; call it on the event loop."""
        self._loop = asyncio.get_running_loop()

    def offer(self, frame: Frame) -> None:
        """A new picture. Any thread; never blocks."""
        self._waiting = frame
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._news.set)

    def skip(self, why: str) -> None:
        """A picture that is not even offered, to be counted. Event loop."""
        self._unwanted[why] += 1
        self._tell()

    def stop(self) -> None:
        """`run` returns after the picture at hand. Event loop."""
        self._stopping = True
        self._news.set()

    async def run(self) -> Captured:
        """Until all are written, it is stopped, or patience ends. Raises OSError."""
        self.open()
        kept_at = time.monotonic()
        last = False
        while not last and self._written < self._frames and time.monotonic() - kept_at < self._patience_s:
            await self._wait()
            last = self._stopping
            frame, self._waiting = self._waiting, None
            if frame is not None and await asyncio.to_thread(self._keep, frame):
                self._written += 1
                kept_at = time.monotonic()
            self._skipped = Counter(self._selection.skipped)
            self._tell()
        return self.captured

    def _tell(self) -> None:
        self.captured = Captured(self._written, dict(sorted((self._skipped + self._unwanted).items())))
        self._on_progress(self.captured)

    async def _wait(self) -> None:
        if not self._stopping:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._news.wait()
        self._news.clear()

    def _keep(self, frame: Frame) -> bool:
        if not self._selection.wants(frame.pixels, frame.tick):
            return False
        write_png(frame.pixels, picture_path(self._folder, frame))
        return True
