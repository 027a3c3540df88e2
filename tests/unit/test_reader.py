"""A reader that is over holds nothing: a camera that reconnects for months makes thousands."""

import gc
import threading
import weakref
from collections.abc import Iterator
from typing import Any

import pytest

from stream.reader import Reader
from stream.sources.base import Deadlines, SourceError, Unreachable


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
