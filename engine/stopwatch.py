"""How long each stage of a batch takes, on a host or on a CUDA device."""

import time
from itertools import pairwise

import torch


class Stopwatch:
    """Seconds of each stage, over all its laps; on CUDA by events of the current stream, read after the wait
    that happens anyway. For one thread."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._stages: list[str | None] = []
        self._ticks: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self.lap(None)

    def lap(self, stage: str | None) -> None:
        """What was done since the last lap belongs to `stage`; None: to none, the batch only waited."""
        self._stages.append(stage)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            # Of the device that works, which need not be torch's current one.
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._ticks.append(time.monotonic())

    def wait(self) -> None:
        """For the device, until it came to the last lap."""
        if self._cuda:
            self._events[-1].synchronize()

    def seconds(self) -> dict[str, float]:
        """Waits as `wait` does."""
        self.wait()
        if self._cuda:
            first = self._events[0]
            self._ticks = [first.elapsed_time(event) / 1000.0 for event in self._events]
        spent: dict[str, float] = {}
        for stage, (before, after) in zip(self._stages[1:], pairwise(self._ticks), strict=True):
            if stage is not None:
                spent[stage] = spent.get(stage, 0.0) + after - before
        return spent
