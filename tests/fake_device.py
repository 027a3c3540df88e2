"""An engine on a device that does what a test says."""

import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from torch.utils._python_dispatch import TorchDispatchMode

from engine.core import Batch, Frame, Inspection, ModelInfo
from engine.engine import Engine
from engine.errors import DeviceError, EngineError
from engine.library import Library, Refused
from tests.models import tiny_artifact

PIXELS = np.zeros((2, 2, 3), dtype=np.uint8)
INFO = ModelInfo("m", 1, "0", 2.0, 1.0)


def frame(camera: str = "top", seq: int = 1) -> Frame:
    return Frame(camera, seq, 0.0, time.monotonic(), PIXELS)


def inspection(one: Frame) -> Inspection:
    return Inspection(
        one, 1.0, 0.0, (), np.zeros((1, 1), dtype=np.float32), INFO, {"queue": 0.0, "student": 0.01}
    )


class FakePassage:
    """A batch that is at the device: `compute` gives the work to it, `fetch` waits for `allow` and has the
    answer or its error."""

    def __init__(self, runner: "FakeRunner", batch: Batch) -> None:
        self.runner, self.batch = runner, batch
        self.runner.step("begin", batch)

    def compute(self) -> None:
        self.runner.step("compute", self.batch)

    def fetch(self) -> None:
        self.runner.sizes.append(len(self.batch.frames))
        self.runner.entered.set()
        assert self.runner.allow.wait(5.0)
        self.runner.step("fetch", self.batch)
        self.answer = self.runner.answer(self.batch)

    def inspections(self) -> list[Inspection]:
        self.runner.step("inspections", self.batch)
        return self.answer


class FakeRunner:
    """Answers after `allow` is set; `answer` may raise, and so may `step`, which is told of each step."""

    is_overlapping = False
    sends_ahead = False

    def __init__(self, cameras: tuple[str, ...] = ("top", "side")) -> None:
        self.library = Library()
        self.refused: Sequence[Refused] = []
        for camera in cameras:
            self.library.put(camera, tiny_artifact())
        self.sizes: list[int] = []
        self.entered, self.allow = threading.Event(), threading.Event()
        self.allow.set()
        self.answer: Callable[[Batch], list[Inspection]] = lambda b: [inspection(f) for f in b.frames]

        self.step: Callable[[str, Batch], object] = lambda name, batch: None

    def overlaps(self, frames: int) -> bool:
        return self.is_overlapping

    def begin(self, batch: Batch, entries: Any = None) -> FakePassage:
        return FakePassage(self, batch)


class Line:
    """An engine with everything that came out of it."""

    def __init__(self, runner: FakeRunner, **settings: Any) -> None:
        self.done: list[Inspection] = []
        self.dropped: list[tuple[int, str]] = []
        self.errors: list[EngineError] = []
        self.changed = threading.Condition()
        settings = {"max_wait_ms": 0.0, "deadline_ms": 60_000.0} | settings
        self.engine = Engine(
            runner,
            on_inspections=lambda found: self._note(lambda: self.done.extend(found)),
            on_dropped=lambda f, reason: self._note(lambda: self.dropped.append((f.seq, reason))),
            on_error=lambda error: self._note(lambda: self.errors.append(error)),
            **settings,
        )

    def _note(self, act: Callable[[], None]) -> None:
        with self.changed:
            act()
            self.changed.notify_all()

    def wait_for(self, true: Callable[[], bool]) -> None:
        with self.changed:
            assert self.changed.wait_for(true, 5.0)


def offer_together(line: Line, runner: FakeRunner, *frames: Frame) -> None:
    """A frame of `top` keeps the device busy while these wait for it."""
    runner.entered.clear()
    runner.allow.clear()
    line.engine.offer(frame("top", 1))
    assert runner.entered.wait(5.0)
    for one in frames:
        line.engine.offer(one)
    runner.allow.set()


def fails(batch: Batch) -> list[Inspection]:
    raise DeviceError("The device failed.")


def feed(line: Line, count: int) -> None:
    """Frames one after the other, each only when the one before has failed."""
    for seq in range(1, count + 1):
        feed_one(line, seq)


def feed_one(line: Line, seq: int) -> None:
    before = len(line.dropped)
    line.engine.offer(frame(seq=seq))
    line.wait_for(lambda: len(line.dropped) > before)


class Waits(TorchDispatchMode):
    """Notes what is asked of torch inside that makes the host wait for a CUDA device: its answer decides, or
    its index comes from the host."""

    _ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "index", "index_put_")

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        if name in self._ASKING:
            self.seen.append(name)
        return func(*args, **(kwargs or {}))
