"""What a reader lets through; and one that is over holds nothing: a camera that reconnects for months makes
thousands.
"""

import contextlib
import gc
import re
import sys
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from stream.reader import Making, Reader
from stream.sources.base import Deadlines, Refused, SourceError, Unreachable


class Decoder:
    """Stands for what is large."""


class Failing:
    deadlines = Deadlines(1.0, 1.0)

    def __init__(self, error: type[Exception]) -> None:
        self.error = error
        self.decoder = Decoder()

    def run(self, _sink: Any, _stop: threading.Event) -> None:
        decoder = self.decoder
        try:
            raise OSError("no route")
        except OSError:
            assert decoder
            raise self.error("gone") from None


@pytest.fixture
def without_collector() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


@pytest.mark.usefixtures("without_collector")
@pytest.mark.parametrize("error", [Unreachable, KeyError])
def test_a_reader_that_failed_frees_its_decoder_at_once(error: type[Exception]) -> None:
    source = Failing(error)
    decoder, ended = weakref.ref(source.decoder), threading.Event()
    reader = Reader(source, None, threading.Lock(), ended.set, "camera")  # type: ignore[arg-type]
    reader.start()
    assert ended.wait(5.0)
    reader._thread.join(5.0)
    assert isinstance(reader.error, SourceError)
    del source, reader
    assert decoder() is None


class Pictures:
    """An intake that keeps what comes."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def on_picture(self, pixels: Any, _taken_at: float, _clock: str) -> None:
        self.shapes.append(pixels.shape)


class Showing:
    """Hands over one picture, from a thread of its library if it is said to; that one swallows errors."""

    deadlines = Deadlines(1.0, 1.0)

    def __init__(self, pixels: Any, *, elsewhere: bool = False, at: Any = 0.0) -> None:
        self.pixels, self.at = pixels, at
        self.elsewhere = elsewhere

    def run(self, sink: Any, stop: threading.Event) -> None:
        if not self.elsewhere:
            sink.put(self.pixels, self.at)
            return

        def call_back() -> None:
            with contextlib.suppress(Exception):
                sink.put(self.pixels, self.at)

        threading.Thread(target=call_back).start()
        stop.wait(5.0)


def shown(source: Showing) -> tuple[SourceError | None, list[tuple[int, ...]]]:
    """How the reader ended, and the pictures that it let through."""
    pictures, ended = Pictures(), threading.Event()
    reader = Reader(source, pictures, threading.Lock(), ended.set, "camera")  # type: ignore[arg-type]
    reader.start()
    assert ended.wait(5.0)
    return reader.error, pictures.shapes


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize(
    ("pixels", "named"),
    [
        (np.zeros((4, 6, 4), np.uint8), r"an array \(4, 6, 4\) of uint8"),
        (np.zeros((4, 6), np.uint8), r"an array \(4, 6\) of uint8"),
        (np.zeros((4, 6, 3), np.uint16), r"an array \(4, 6, 3\) of uint16"),
        (np.zeros((0, 6, 3), np.uint8), r"an array \(0, 6, 3\) of uint8"),
        ([[0, 0, 0]], "a list"),
    ],
)
def test_what_is_no_picture_ends_its_own_source_and_no_other(
    pixels: Any, named: str, elsewhere: bool
) -> None:
    error, through = shown(Showing(pixels, elsewhere=elsewhere))
    assert isinstance(error, Refused) and not through
    assert re.search(f"hands over {named}: wanted is an array .height, width, 3. of uint8", str(error))


@pytest.mark.parametrize("elsewhere", [False, True])
@pytest.mark.parametrize("at", [1.8e12, float("nan"), float("inf"), -1e12, None, "now"])
def test_a_time_that_is_none_ends_its_own_source_and_not_the_line(at: Any, elsewhere: bool) -> None:
    error, through = shown(Showing(np.zeros((4, 6, 3), np.uint8), elsewhere=elsewhere, at=at))
    assert isinstance(error, Refused) and not through
    assert str(error).startswith(f"the source dates a picture {at!r}: wanted are UTC seconds")


@pytest.mark.parametrize("at", [0, -1.0, 1.8e9, np.float64(1.8e9), np.float32(1.8e9)])
def test_any_number_may_be_a_time(at: Any) -> None:
    _, through = shown(Showing(np.zeros((4, 6, 3), np.uint8), at=at))
    assert through == [(4, 6, 3)]


def test_any_other_picture_is_let_through_however_it_lies_in_memory() -> None:
    _, through = shown(Showing(np.zeros((4, 12, 3), np.uint8)[:, ::2]))
    assert through == [(4, 6, 3)]


class WithoutSteady:
    deadlines = Deadlines()

    def run(self, sink: Any, stop: threading.Event) -> None: ...


class WithPairOfDeadlines(WithoutSteady):
    steady, deadlines = True, (5.0, 3.0)  # type: ignore[assignment]


@pytest.mark.parametrize("source", [None, WithoutSteady(), WithPairOfDeadlines()])
def test_a_factory_that_makes_half_a_source_is_told_and_does_not_end_the_line(source: Any) -> None:
    made = threading.Event()
    making = Making(lambda: source, None, made.set)
    assert made.wait(5.0)
    assert isinstance(making.source, Refused)
    assert str(making.source).startswith(f"the source is a {type(source).__name__} that lacks something")


def test_a_factory_that_wants_to_end_the_program_ends_its_own_attempt() -> None:
    made = threading.Event()
    making = Making(lambda: sys.exit("no SDK here"), None, made.set)
    assert made.wait(5.0)
    assert str(making.source) == "the source cannot be made: SystemExit"
