"""The engine with cameras that feed it, and the recorder behind it: what `linewatch bench` measures."""

import queue
import tempfile
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.begun import Passes
from engine.core import Batch, Frame, Inspection
from engine.engine import Engine
from engine.errors import EngineError
from engine.grouping import Entries
from engine.runner import Runner

from . import bench_parts as parts
from .incidents import IncidentPolicy
from .outbox import Outbox
from .recorder import Recorder

Shown = Mapping[str, parts.Pictures]


@dataclass(slots=True)
class Run:
    """What a line did: (age in s, regions) of each frame when its events were stored, and the time."""

    done: list[tuple[float, int]] = field(default_factory=list)
    seconds: float = 0.0
    record_s: float = 0.0
    events: int = 0
    publish_ms: float | None = None

    def age_ms(self, quantile: float) -> float:
        return 1000.0 * float(np.quantile([age for age, _ in self.done], quantile))


class _Asking:
    """A runner that tells the line when the device has room for the next frames."""

    def __init__(self, runner: Runner, line: "Line") -> None:
        self._runner, self._line = runner, line
        self.library, self.refused = runner.library, runner.refused
        self.overlaps, self.sends_ahead = runner.overlaps, runner.sends_ahead

    def begin(self, batch: Batch, entries: Entries | None = None) -> Passes:
        if self.sends_ahead:
            self._line.offer_next(batch)
        passage = self._runner.begin(batch, entries)
        if not self.sends_ahead:
            fetch = passage.fetch

            def fetch_and_ask() -> None:
                fetch()
                self._line.offer_next(batch)

            passage.fetch = fetch_and_ask  # type: ignore[method-assign]
        return passage


class Line:
    """One run of the engine, under as much load as it takes or under a given one.

    As much as it takes: each camera offers its next frame when its last one was computed, or, on a device
    that is sent the next batch meanwhile, when its last one was sent there. So the device always finds one
    of each, and nothing is displaced.
    """

    def __init__(self, runner: Runner, shown: Shown, max_batch: int) -> None:
        self._shown = shown
        self._seq = dict.fromkeys(shown, 0)
        self._out: queue.Queue[list[Inspection]] = queue.Queue(maxsize=1024)
        self.engine = Engine(
            _Asking(runner, self),
            max_batch=max_batch,
            max_wait_ms=5.0,
            deadline_ms=60_000.0,
            on_inspections=self._out.put,
        )
        self._takes_all = False
        self._over = threading.Event()

    def run(self, seconds: float, frames_per_s: float | None = None) -> Run:
        """With `frames_per_s` cameras offer at that rate, all together, each in its own rhythm. Raises
        EngineError if the device is lost or nothing comes out."""
        run = Run()
        with tempfile.TemporaryDirectory() as folder:
            outbox = Outbox(Path(folder) / "outbox.db")
            try:
                self._go(Recorder(outbox, site="bench", line="bench"), seconds, frames_per_s, run)
                run.publish_ms = parts.publish_ms(outbox)
            finally:
                outbox.close()
        if self.engine.failed is not None:
            raise self.engine.failed
        if not run.done:
            raise EngineError(f"No frame was inspected within {seconds:g} s; give more with --seconds.")
        return run

    def _go(self, recorder: Recorder, seconds: float, frames_per_s: float | None, run: Run) -> None:
        for camera in self._shown:
            recorder.watch(camera, IncidentPolicy())
            self.engine.set_mode(camera, "latest")
        self.engine.start()
        started = time.monotonic()
        self._takes_all = frames_per_s is None
        feeder = threading.Thread(target=self._feed, args=(frames_per_s,), daemon=True)
        feeder.start()
        self._record(recorder, started + seconds, run)
        run.seconds = time.monotonic() - started
        self._takes_all = False
        self._over.set()
        feeder.join()
        self.engine.stop(30.0)

    def _record(self, recorder: Recorder, until: float, run: Run) -> None:
        while (left := until - time.monotonic()) > 0 and self.engine.failed is None:
            try:
                inspections = self._out.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            for inspection in inspections:
                started = time.monotonic()
                run.events += len(recorder.observe(inspection))
                now = time.monotonic()
                run.record_s += now - started
                run.done.append((now - inspection.frame.tick, len(inspection.defects)))

    def offer_next(self, batch: Batch) -> None:
        """Of the cameras of this batch, under as much load as it takes; on the device thread."""
        if self._takes_all:
            for frame in batch.frames:
                self._offer(frame.camera)

    def _feed(self, frames_per_s: float | None) -> None:
        """Once each, or in turns for as long as the run takes."""
        period_s = 0.0 if frames_per_s is None else len(self._shown) / frames_per_s
        # Cameras are not in step with each other, but each is with itself.
        phases = np.random.default_rng(1).uniform(0.0, period_s, len(self._shown))
        started, turn = time.monotonic(), 0
        while True:
            for phase, camera in sorted(zip(phases, self._shown, strict=True)):
                if self._over.wait(max(started + turn * period_s + phase - time.monotonic(), 0.0)):
                    return
                self._offer(camera)
            if frames_per_s is None:
                return
            turn += 1

    def _offer(self, camera: str) -> None:
        self._seq[camera] += 1
        seq = self._seq[camera]
        pixels = self._shown[camera][seq % parts.PICTURES]
        self.engine.offer(Frame(camera, seq, time.time(), time.monotonic(), pixels))
