"""The pattern production line as a source, without a network: for trying things out and for load."""

import threading
import time

from config.sources import PatternSource as PatternSettings

from ..sim.line import ProductionLine
from ..sim.looks import LOOKS
from .base import Deadlines, Sink

_FPS = 25.0
_LOOK_S = 0.2


class PatternSource:
    """See `base.Source`. Odd seeds film machined plates, even ones labels; a run begins at the same part."""

    steady = True

    def __init__(self, line: ProductionLine) -> None:
        self.deadlines = Deadlines(connect_s=10.0, read_s=5.0)
        self._line = line

    def run(self, sink: Sink, stop: threading.Event) -> None:
        """Parts go by at the speed of the clock until `stop` is set; never fails."""
        width, height = self._line.size
        sink.connected(f"a pattern line ({self._line.look}) {width}×{height}")
        start, tick = time.monotonic(), 0
        while not stop.is_set():
            tick = max(tick + 1, int((time.monotonic() - start) * _FPS))
            wait_s = start + tick / _FPS - time.monotonic()
            if stop.wait(max(0.0, min(wait_s, _LOOK_S))):
                return
            taken_at = time.time()
            if sink.due(taken_at):
                sink.put(self._line.picture(tick / _FPS), taken_at)


def build(camera: str, settings: PatternSettings) -> PatternSource:
    """What the entry point holds. Drawing the belt takes about 0.1 s."""
    looks = sorted(LOOKS, reverse=True)
    look = looks[(settings.seed + 1) % len(looks)]
    size = (settings.width_px, settings.height_px)
    return PatternSource(ProductionLine(look, settings.seed, size, settings.defect_share))
