"""A batch that is with the device, step by step; a step that fails is kept, not raised."""

import time
from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, TypeVar

from .core import Batch, Inspection
from .errors import EngineError
from .library import Entry, Library, Refused

Answer = TypeVar("Answer")


class Passes(Protocol):
    """A batch's further steps, in their order. Each raises EngineError."""

    def compute(self) -> None:
        """Tell the device to compute; needn't wait for it."""

    def fetch(self) -> None:
        """Wait for what it computed."""

    def inspections(self) -> list[Inspection]:
        """One for each frame, in the batch's order."""


class RunsBatches(Protocol):
    """What the engine needs of a runner.

    `sends_ahead`: whether the device takes the next batch while it computes one. `refused`: the cameras
    whose model can't run there.
    """

    library: Library
    refused: Sequence[Refused]
    sends_ahead: bool

    def overlaps(self, frames: int) -> bool:
        """Whether the device computes so many by itself, so that the host may tell of the batch before."""

    def begin(self, batch: Batch, entries: Mapping[str, Entry] | None = None) -> Passes:
        """The first step: send it to the device. Raises EngineError."""


class Begun:
    """One batch, sent to the device when made; for the device thread.

    When a step fails `failed` is set, the further ones do nothing, and nothing of the batch stays in the
    device's memory.
    """

    def __init__(self, runner: RunsBatches, batch: Batch, entries: Mapping[str, Entry]) -> None:
        self.runner, self.batch, self.entries = runner, batch, entries
        self.started = time.monotonic()
        self.failed: EngineError | None = None
        self._is_fetched = False
        self._passage: Passes | None = None
        self._passage = self._kept(lambda: runner.begin(batch, entries))

    def compute(self) -> None:
        if self._passage is not None:
            self._kept(self._passage.compute)

    def fetch(self) -> None:
        """Once, however often it is called."""
        if self._passage is not None and not self._is_fetched:
            self._is_fetched = True
            self._kept(self._passage.fetch)

    def inspections(self) -> list[Inspection] | None:
        """None if a step failed."""
        found = None if self._passage is None else self._kept(self._passage.inspections)
        self._passage = None
        return found

    def _kept(self, step: Callable[[], Answer]) -> Answer | None:
        try:
            return step()
        except EngineError as error:
            self._passage = None
            self.failed = _alone(error)
            return None


def _alone(error: EngineError) -> EngineError:
    """Without the frames that it came through: they hold the batch's tensors, and a device that has no memory
    left for twelve pictures would have none for one either as long as somebody keeps the error.
    """
    error.__traceback__ = error.__context__ = error.__cause__ = None
    return error
