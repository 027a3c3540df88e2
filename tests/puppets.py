"""A source that does what the test says, when it says so, and a wait for what shall become true."""

import asyncio
import queue
import threading
import time
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from stream.sources.base import Deadlines, Sink

Act = Callable[[Sink], None]


class Puppet:
    """A `Source`. `hangs`: it ignores `stop`, like a library that doesn't come back, until `released`."""

    def __init__(
        self, *, steady: bool = True, hangs: bool = False, deadlines: Deadlines | None = None
    ) -> None:
        self.steady = steady
        self.deadlines = deadlines or Deadlines(connect_s=5.0, read_s=5.0)
        self.released = threading.Event()
        self._hangs = hangs
        self._acts: queue.Queue[Act] = queue.Queue(maxsize=100)

    def do(self, act: Act) -> None:
        self._acts.put_nowait(act)

    def show(self, pixels: NDArray[np.uint8], taken_at: float | None = None) -> None:
        at = time.time() if taken_at is None else taken_at

        def act(sink: Sink) -> None:
            if sink.due(at):
                sink.put(pixels, at)

        self.do(act)

    def fail(self, error: Exception) -> None:
        def act(sink: Sink) -> None:
            raise error

        self.do(act)

    def run(self, sink: Sink, stop: threading.Event) -> None:
        while not (self.released.is_set() if self._hangs else stop.is_set()):
            try:
                act = self._acts.get(timeout=0.01)
            except queue.Empty:
                continue
            act(sink)


class Puppets:
    """Makes one puppet for each attempt; `now` is the newest."""

    def __init__(self, make: Callable[[], Puppet] = Puppet) -> None:
        self.made: list[Puppet] = []
        self._make = make

    def __call__(self) -> Puppet:
        self.made.append(self._make())
        return self.made[-1]

    @property
    def now(self) -> Puppet:
        return self.made[-1]


def picture(seed: int = 0, size: tuple[int, int] = (64, 48)) -> NDArray[np.uint8]:
    """(H, W, 3) of noise; another seed is another picture."""
    return np.random.default_rng(seed).integers(40, 200, (size[1], size[0], 3), dtype=np.uint8)


async def until(is_true: Callable[[], object], within_s: float = 5.0) -> None:
    """Waits for what shall become true; fails with the last answer after `within_s`."""
    deadline = time.monotonic() + within_s
    while not (answer := is_true()):
        assert time.monotonic() < deadline, f"still {answer!r} after {within_s} s"
        await asyncio.sleep(0.005)
