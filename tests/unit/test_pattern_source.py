"""The pattern line as a source without a network."""

import threading

import numpy as np
from numpy.typing import NDArray

from config.sources import PatternSource as Settings
from stream.sources.base import build


class Sink:
    """Takes some frames, then stops the source."""

    def __init__(self, frames: int, every: int = 1) -> None:
        self.stop = threading.Event()
        self.pictures: list[NDArray[np.uint8]] = []
        self.what: list[str] = []
        self.asked, self._frames, self._every = 0, frames, every

    def connected(self, what: str) -> None:
        self.what.append(what)

    def due_in_s(self, taken_at: float) -> float:
        return 0.0

    def due(self, taken_at: float) -> bool:
        self.asked += 1
        return self.asked % self._every == 0

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None:
        self.pictures.append(pixels)
        if len(self.pictures) == self._frames:
            self.stop.set()

    def alive(self) -> None:
        pass

    def skipped(self, why: str) -> None:
        raise AssertionError(why)


def settings(seed: int = 1) -> Settings:
    return Settings(type="pattern", width_px=320, height_px=240, seed=seed)


def test_frames_come_until_it_is_stopped() -> None:
    sink = Sink(frames=4)
    build("top", settings()).run(sink, sink.stop)
    assert [p.shape for p in sink.pictures] == [(240, 320, 3)] * 4
    assert len(sink.what) == 1 and "machined" in sink.what[0]


def test_only_frames_that_are_due_are_made() -> None:
    sink = Sink(frames=3, every=4)
    build("top", settings()).run(sink, sink.stop)
    assert sink.asked == 12


def test_even_seeds_look_at_another_line() -> None:
    sink = Sink(frames=1)
    build("side", settings(seed=2)).run(sink, sink.stop)
    assert "label" in sink.what[0]


def test_two_frames_of_a_standing_part_differ_by_noise_and_belong_to_nobody_else() -> None:
    sink = Sink(frames=2)
    build("top", settings()).run(sink, sink.stop)
    a, b = sink.pictures
    assert not np.array_equal(a, b) and not np.shares_memory(a, b)
