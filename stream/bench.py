"""What the engine does in a second: decoded frames in, recorded events out, beside the bare network.

Each camera offers its next frame when its last one was inspected, so the device always finds one of each:
as much
load as is taken, with nothing displaced. Models are seeded and untrained, each camera's its own; parts are
scaled and
the threshold is set on its own frames, so that each frame has a few regions.
"""

import queue
import resource
import statistics
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.core import Batch, Frame, Inspection
from engine.engine import Engine
from engine.images import to_device, to_square
from engine.library import CameraTuning, Library
from engine.model.dmdd import SIZES, build_network
from engine.model.teacher import build_teacher
from engine.runner import Runner

from .incidents import IncidentPolicy
from .outbox import Outbox
from .recorder import Recorder

_PICTURES = 4
_INPUT_PX = 256
# Of a frame's map, how much lies above the alarm level.
_ANOMALOUS_SHARE = 0.01


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table; times in ms, `stages_ms` for a batch, `efficiency` against the bare network."""

    cameras: int
    size: str
    backend: str
    frames: int
    frames_per_s: float
    p50_ms: float
    p99_ms: float
    efficiency: float
    stages_ms: dict[str, float]
    memory_mb: float
    memory_per_camera_mb: float
    regions_per_frame: float
    events: int


def pictures(seed: int) -> list[NDArray[np.uint8]]:
    """Frames of 480 x 640: a part with texture and noise on a plain ground, somewhere else each time."""
    dice = np.random.default_rng(seed)
    made = []
    for _ in range(_PICTURES):
        scene = np.full((480, 640, 3), 90.0)
        x, y = dice.integers(200, 440), dice.integers(160, 320)
        cv2.circle(scene, (int(x), int(y)), 120, (150, 160, 170), -1)
        coarse = dice.normal(0.0, 12.0, (24, 32, 3))
        scene += cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        scene += dice.normal(0.0, 4.0, scene.shape)
        made.append(scene.clip(0, 255).astype(np.uint8))
    return made


def model(size: str, seed: int, frames: Sequence[NDArray[np.uint8]]) -> tuple[Artifact, float]:
    """An untrained model and the threshold at which a few regions of these frames stand out."""
    torch.manual_seed(seed)
    network = build_network(size).eval()
    teacher = build_teacher(SIZES[size].teacher)
    images = to_device([to_square(frame, _INPUT_PX) for frame in frames], "cpu")
    with torch.inference_mode():
        features = teacher(images)
        parts = network.parts(images, features)
        network.part_mean.copy_(parts.mean((0, 2, 3)))
        network.part_std.copy_(parts.std((0, 2, 3)).clamp(min=1e-6))
        raw = network(images, features)
    threshold = float(np.quantile(raw.numpy(), 1.0 - _ANOMALOUS_SHARE))
    median = float(raw.median())
    # Good scores from which the same threshold would follow, so that the parity gate measures in its unit.
    good = np.linspace(2 * median - threshold, threshold, 40) * 0.8 + 0.2 * median
    artifact = Artifact(
        name=f"bench-{seed}",
        size=size,
        input_px=_INPUT_PX,
        teacher=SIZES[size].teacher,
        teacher_sha256=teacher.sha256,
        state={name: value.clone() for name, value in network.state_dict().items()},
        calibration=Calibration.fit(good, good, min_area_px=8, input_px=_INPUT_PX),
        version=1,
    )
    return artifact, threshold


def measure(
    cameras: int,
    size: str,
    seconds: float,
    device: str = "auto",
    *,
    backend: str = "auto",
    max_batch: int = 16,
) -> Result:
    """Build, warm up, run for `seconds`. Raises EngineError, ValueError for fewer than one camera."""
    if cameras < 1:
        raise ValueError("at least one camera is needed")
    library = Library()
    runner = Runner(library, device, backend=backend)
    shown = {f"camera-{number + 1}": pictures(number) for number in range(cameras)}
    models = [model(size, seed, frames) for seed, frames in enumerate(shown.values())]
    before_mb = _resident_mb()
    for name, (artifact, threshold) in zip(shown, models, strict=True):
        library.put(name, artifact, CameraTuning(threshold=threshold))
    for _, error in runner.warm_up(max_batch):
        raise error
    memory_mb = _resident_mb()
    bare = _bare_frames_per_s(runner, shown, max_batch, min(2.0, seconds))
    line = _Line(runner, shown, max_batch)
    done, elapsed, events = line.run(seconds)
    # The machine is seldom alone: half of the comparison before, half after.
    bare = statistics.mean([bare, _bare_frames_per_s(runner, shown, max_batch, min(2.0, seconds))])
    ages = np.array([age for age, _ in done]) * 1000.0
    rate = len(done) / elapsed
    return Result(
        cameras=cameras,
        size=size,
        backend=_how_they_run(library, runner),
        frames=len(done),
        frames_per_s=rate,
        p50_ms=float(np.quantile(ages, 0.5)),
        p99_ms=float(np.quantile(ages, 0.99)),
        efficiency=rate / bare,
        stages_ms=line.stages_ms(),
        memory_mb=memory_mb,
        memory_per_camera_mb=(memory_mb - before_mb) / cameras,
        regions_per_frame=statistics.mean(regions for _, regions in done),
        events=events,
    )


class _Line:
    """The engine with cameras that never let it wait, and the recorder behind it."""

    def __init__(self, runner: Runner, shown: dict[str, list[NDArray[np.uint8]]], max_batch: int) -> None:
        self._shown = shown
        self._seq = dict.fromkeys(shown, 0)
        self._out: queue.Queue[list[Inspection]] = queue.Queue(maxsize=1024)
        self._engine = Engine(
            runner, max_batch=max_batch, max_wait_ms=5.0, deadline_ms=60_000.0, on_inspections=self._inspected
        )
        self._feeding = True

    def run(self, seconds: float) -> tuple[list[tuple[float, int]], float, int]:
        """(age in s, regions) of each frame at the moment its events were stored; seconds; events."""
        done: list[tuple[float, int]] = []
        with tempfile.TemporaryDirectory() as folder:
            outbox = Outbox(Path(folder) / "outbox.db")
            recorder = Recorder(outbox, site="bench", line="bench")
            for camera in self._shown:
                recorder.watch(camera, IncidentPolicy())
                self._engine.set_mode(camera, "latest")
            self._engine.start()
            started = time.monotonic()
            for camera in self._shown:
                self._offer(camera)
            events = self._record(recorder, done, started + seconds)
            elapsed = time.monotonic() - started
            self._feeding = False
            self._engine.stop(30.0)
            outbox.close()
        if self._engine.failed is not None:
            raise self._engine.failed
        return done, elapsed, events

    def stages_ms(self) -> dict[str, float]:
        stages = self._engine.meter.snapshot().stages
        return {name: round(1000.0 * h.total / max(h.count, 1), 3) for name, h in stages.items()}

    def _record(self, recorder: Recorder, done: list[tuple[float, int]], until: float) -> int:
        events = 0
        while (left := until - time.monotonic()) > 0 and self._engine.failed is None:
            try:
                inspections = self._out.get(timeout=min(left, 0.5))
            except queue.Empty:
                continue
            for inspection in inspections:
                events += len(recorder.observe(inspection))
                done.append((time.monotonic() - inspection.frame.tick, len(inspection.defects)))
        return events

    def _inspected(self, inspections: list[Inspection]) -> None:
        self._out.put(inspections)
        if self._feeding:
            for inspection in inspections:
                self._offer(inspection.frame.camera)

    def _offer(self, camera: str) -> None:
        self._seq[camera] += 1
        seq = self._seq[camera]
        pixels = self._shown[camera][seq % _PICTURES]
        self._engine.offer(Frame(camera, seq, time.time(), time.monotonic(), pixels))


def _bare_frames_per_s(
    runner: Runner, shown: dict[str, list[NDArray[np.uint8]]], max_batch: int, seconds: float
) -> float:
    """The same compiled calls alone: pictures are on the device already, nobody asks for regions."""
    calls, size = runner.bare(Batch(_first_batch(shown, max_batch)))
    calls()
    rounds, started = 0, time.monotonic()
    while time.monotonic() - started < seconds:
        calls()
        rounds += 1
    return rounds * size / (time.monotonic() - started)


def _first_batch(shown: dict[str, list[NDArray[np.uint8]]], max_batch: int) -> tuple[Frame, ...]:
    chosen = list(shown)[:max_batch]
    return tuple(Frame(camera, 1, 0.0, time.monotonic(), shown[camera][0]) for camera in chosen)


def _how_they_run(library: Library, runner: Runner) -> str:
    """Back end and precision, as the models got it: "openvino cpu bf16", or several with their counts."""
    ways = Counter(entry.network.note.partition(" (")[0] for entry in library.snapshot().values())
    if len(ways) == 1:
        return next(iter(ways)) or runner.backend.name
    return ", ".join(f"{count} x {way}" for way, count in ways.most_common())


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return pages * resource.getpagesize() / 1e6


def as_json(result: Result) -> dict[str, object]:
    """The keys of `linewatch bench --json`."""
    return {
        "frames_per_s": round(result.frames_per_s, 2),
        "p50_ms": round(result.p50_ms, 2),
        "p99_ms": round(result.p99_ms, 2),
        "efficiency": round(result.efficiency, 3),
        "stages": result.stages_ms,
        "memory_mb": round(result.memory_mb, 1),
        "backend": result.backend,
        "cameras": result.cameras,
        "size": result.size,
        "frames": result.frames,
        "memory_per_camera_mb": round(result.memory_per_camera_mb, 1),
        "regions_per_frame": round(result.regions_per_frame, 2),
        "events": result.events,
    }
