"""Good pictures from a live camera into a folder, for training.

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

from .camera import Camera, CameraPolicy
from .condition import CameraState
from .health import brightness, sharpness, small_grey
from .sources.base import Source

_DARK, _BRIGHT, _SOFT = 0.04, 0.96, 0.4  # as the health settings' defaults
_SAME_MEAN_LEVELS, _SAME_BLOCK_LEVELS = 0.5, 4.0
_REMEMBERED = 1000


class CaptureError(Exception):
    """No pictures can be had from this camera; the text is one sentence for a person."""

    user_message = True


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
    """Write RGB pixels under a temporary name, then rename: nobody sees half a picture. Raises OSError."""
    done, data = cv2.imencode(
        ".png", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_PNG_COMPRESSION, 2]
    )
    if not done:
        raise OSError(f"{path}: the picture cannot be encoded")
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        unfinished.write_bytes(data.tobytes())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def picture_path(folder: Path, frame: Frame) -> Path:
    """Sorted by name is sorted by time: 20261123T161905.123456Z.png."""
    taken = datetime.fromtimestamp(frame.taken_at, UTC)
    return folder / f"{taken:%Y%m%dT%H%M%S.%f}Z.png"


class Capture:
    """Collects `frames` good pictures of one camera into `folder` (CAMERA/good). Use from one event loop."""

    def __init__(
        self,
        name: str,
        make_source: Callable[[], Source],
        folder: Path,
        *,
        frames: int,
        every_s: float = 0.5,
        patience_s: float = 60.0,
        on_progress: Callable[[Captured], None] = lambda captured: None,
    ) -> None:
        """Gives up when nothing new was kept for `patience_s`, and at once when the camera refuses."""
        self._folder = folder
        self._frames = frames
        self._patience_s = patience_s
        self._on_progress = on_progress
        self._selection = Selection(every_s)
        self._written = 0
        self._waiting: Frame | None = None  # the only place: a newer picture displaces one that waits
        self._news = asyncio.Event()
        self._refused: CameraState | None = None
        # Twice the pace: enough to choose from, and no more is converted than is looked at.
        policy = CameraPolicy(fps=max(2.0, 2 / every_s) if every_s else None, frozen_after_s=None)
        self._camera = Camera(name, make_source, offer=self._offer, policy=policy, on_state=self._on_state)

    async def run(self) -> Captured:
        """Until all are written, the recording is over, or patience ends. Raises CaptureError, OSError."""
        self._loop = asyncio.get_running_loop()
        await self._camera.start()
        over = asyncio.create_task(self._camera.finished())
        try:
            await self._collect(over)
        finally:
            over.cancel()
            await self._camera.stop()
        if not self._written:
            raise CaptureError(self._why_nothing())
        return self._captured()

    async def _collect(self, over: "asyncio.Task[None]") -> None:
        kept_at = time.monotonic()
        while self._written < self._frames and time.monotonic() - kept_at < self._patience_s:
            await self._wait(over)
            frame, self._waiting = self._waiting, None
            if self._refused is not None or (frame is None and over.done()):
                return
            if frame is not None and await asyncio.to_thread(self._keep, frame):
                self._written += 1
                kept_at = time.monotonic()
            self._on_progress(self._captured())

    async def _wait(self, over: "asyncio.Task[None]") -> None:
        if not over.done():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.5):
                    await self._news.wait()
        self._news.clear()

    def _keep(self, frame: Frame) -> bool:
        if not self._selection.wants(frame.pixels, frame.tick):
            return False
        write_png(frame.pixels, picture_path(self._folder, frame))
        return True

    def _captured(self) -> Captured:
        skipped = Counter(self._selection.skipped)
        skipped.update(self._camera.stats().skipped)
        return Captured(self._written, dict(sorted(skipped.items())))

    def _why_nothing(self) -> str:
        state = self._camera.state if self._refused is None else self._refused
        skipped = self._captured().skipped
        if skipped:
            counts = ", ".join(f"{count} {why}" for why, count in skipped.items())
            return f"{state.camera}: no picture was good enough to keep ({counts})"
        return f"{state.camera}: no picture came; it is {state.state}: {state.reason}"

    def _offer(self, frame: Frame) -> None:
        self._waiting = frame
        self._loop.call_soon_threadsafe(self._news.set)

    def _on_state(self, state: CameraState) -> None:
        if state.state == "refused":
            self._refused = state
            self._news.set()
