"""What the engine does in a second: decoded frames in, recorded events out, beside the bare network.

Under as much load as is taken, and then under half of it, as a line should have. Models are seeded and
untrained, each camera's its own; parts are scaled and the threshold is set on its own frames, so that each
frame has a few regions. What runs on other threads of a line (decoding, the outbox, the broker) is measured
too, so that a frame's whole cost is told.
"""

import resource
import statistics
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import torch

from engine.artifact import Artifact
from engine.core import Batch, Frame
from engine.errors import EngineError
from engine.library import CameraTuning, Library
from engine.model.dmdd import SIZES
from engine.model.teacher import build_teacher
from engine.runner import Runner
from engine.tiles import ONE

from . import bench_parts as parts
from .bench_line import Line, Run, Shown

# Cameras that are looked at one by one: how many there are makes no difference to that.
_NAIVE_CAMERAS = 4
# In the order in which a frame meets them.
STAGES = (
    *("decode", "queue", "upload", "teacher", "student", "head"),
    *("maps", "regions", "record", "publish"),
)


@dataclass(frozen=True, slots=True)
class Load:
    """What is measured. `seconds` is the length of the main part; each part beside it takes a fraction."""

    cameras: int
    size: str = "lite"
    seconds: float = 10.0
    device: str = "auto"
    backend: str = "auto"
    max_batch: int = 16
    tiles: str = ONE
    teacher_weights: Path | None = None


@dataclass(frozen=True, slots=True)
class Result:
    """One line of the table.

    Ages are of frames whose events are stored; `half_load_…` when cameras offer half of the rate. `stages_ms`
    for a frame; `publish` is missing where no broker could be started. `efficiency` is the rate over
    `bare_frames_per_s`, that of the same compiled calls alone; `naive_frames_per_s` that of a loop over the
    cameras; `of_arithmetic` the rate times `gmacs` over what the device multiplies in one large product.
    """

    load: Load
    backend: str
    together: str
    measured_by: str
    max_batch: int
    frames: int
    frames_per_s: float
    p50_ms: float
    p99_ms: float
    half_load_p50_ms: float
    half_load_p99_ms: float
    bare_frames_per_s: float
    naive_frames_per_s: float
    gmacs: float
    of_arithmetic: float
    stages_ms: dict[str, float]
    memory_mb: float
    memory_per_camera_mb: float
    device_memory_mb: float | None
    regions_per_frame: float
    events: int

    @property
    def efficiency(self) -> float:
        return self.frames_per_s / self.bare_frames_per_s


Models = dict[str, tuple[Artifact, CameraTuning]]


def measure(load: Load) -> Result:
    """Build, warm up, run. Raises EngineError, ValueError for fewer than one camera or for odd tiles."""
    if load.cameras < 1:
        raise ValueError("at least one camera is needed")
    if load.size not in SIZES:
        raise EngineError(f"There is no model size {load.size!r}; choose one of {', '.join(SIZES)}.")
    shown = {f"camera-{number + 1}": parts.pictures(number) for number in range(load.cameras)}
    # First: a device that isn't there is said before models are made for it.
    runner = _runner(load)
    models = _models(load, shown)
    memory = _served(runner, load, models)
    beside = min(2.0, load.seconds / 2)
    max_batch = min(load.max_batch, runner.plateau or load.max_batch)
    first = _bare_frames_per_s(runner, shown, max_batch, beside)
    line = Line(runner, shown, max_batch)
    run = line.run(load.seconds)
    rate = len(run.done) / run.seconds
    # Two frames of each camera at least.
    half_s = max(load.seconds / 2, 2.0 * load.cameras / (rate / 2))
    half = Line(runner, shown, max_batch).run(half_s, frames_per_s=rate / 2)
    # The machine is seldom alone: half of the comparison before, half after.
    bare = statistics.mean([first, _bare_frames_per_s(runner, shown, max_batch, beside)])
    gmacs, how = parts.gmacs_of(load.size, load.tiles), _how_they_run(runner)
    best = parts.gmacs_per_s(runner.device, bf16="bf16" in how, seconds=beside / 2)
    share = runner.student_share(next(iter(_frames(shown))))
    return Result(
        load=load,
        backend=how,
        together=runner.backend.together,
        measured_by=runner.measured_by,
        max_batch=max_batch,
        frames=len(run.done),
        frames_per_s=rate,
        p50_ms=run.age_ms(0.5),
        p99_ms=run.age_ms(0.99),
        half_load_p50_ms=half.age_ms(0.5),
        half_load_p99_ms=half.age_ms(0.99),
        bare_frames_per_s=bare,
        naive_frames_per_s=_naive_frames_per_s(load, models, shown, beside),
        gmacs=gmacs,
        of_arithmetic=rate * gmacs / best,
        stages_ms=_stages_ms(line, run, share, next(iter(shown.values()))),
        memory_mb=memory[-1],
        memory_per_camera_mb=(memory[-1] - memory[0]) / max(load.cameras - 1, 1),
        device_memory_mb=_device_mb(runner.device),
        regions_per_frame=statistics.mean(regions for _, regions in run.done),
        events=run.events,
    )


def _models(load: Load, shown: Shown) -> Models:
    teacher = build_teacher(SIZES[load.size].teacher, load.teacher_weights)
    made: Models = {}
    for seed, (camera, frames) in enumerate(shown.items()):
        artifact, threshold = parts.model(load.size, load.tiles, seed, frames, teacher)
        made[camera] = artifact, CameraTuning(threshold=threshold)
    return made


def _runner(load: Load) -> Runner:
    weights = {} if load.teacher_weights is None else {SIZES[load.size].teacher: load.teacher_weights}
    return Runner(
        Library(),
        load.device,
        backend=load.backend,
        teacher_weights=weights,
        max_squares=load.max_batch,
    )


def _served(runner: Runner, load: Load, models: Models) -> list[float]:
    """Put and warm up all cameras; the memory with the first one and with all, in MB."""
    memory = []
    for number, (camera, (artifact, tuning)) in enumerate(models.items()):
        runner.library.put(camera, artifact, tuning)
        if number in (0, len(models) - 1):
            for _, error in runner.warm_up(load.max_batch):
                raise error
            memory.append(_resident_mb())
    return memory


def _stages_ms(line: Line, run: Run, student_share: float, frames: parts.Pictures) -> dict[str, float]:
    """Of one frame, in the order in which it meets them; the stages of a batch by the frames in it."""
    told, count = line.engine.meter.snapshot(), len(run.done)
    batches = told.batch_sizes
    mean_batch = batches.total / max(batches.count, 1)
    ms = {name: 1000.0 * h.total / max(h.count, 1) / mean_batch for name, h in told.stages.items()}
    ms["queue"] *= mean_batch
    ms["head"] = ms["student"] * (1.0 - student_share)
    ms["student"] *= student_share
    ms["decode"] = parts.decode_ms(frames)
    ms["record"] = 1000.0 * run.record_s / count
    if run.publish_ms is not None:
        ms["publish"] = run.publish_ms * run.events / count
    return {name: round(ms[name], 3) for name in STAGES if name in ms}


def _bare_frames_per_s(runner: Runner, shown: Shown, max_batch: int, seconds: float) -> float:
    """The same compiled calls alone: pictures are on the device already, nobody asks for regions."""
    call, size = runner.bare(Batch(_frames(shown)[:max_batch]))
    return size * parts.calls_per_s(call, seconds)


def _naive_frames_per_s(load: Load, models: Models, shown: Shown, seconds: float) -> float:
    """As a loop over cameras would: one frame after the other, each model with the whole device to itself."""
    alone = []
    for frame in _frames(shown)[:_NAIVE_CAMERAS]:
        runner = _runner(load)
        runner.library.put(frame.camera, *models[frame.camera])
        runner.warm_up()
        alone.append((runner, Batch((frame,))))

    def look() -> None:
        for runner, batch in alone:
            runner.run(batch)

    return len(alone) * parts.calls_per_s(look, seconds)


def _frames(shown: Shown) -> tuple[Frame, ...]:
    """One of each camera."""
    return tuple(Frame(camera, 1, 0.0, time.monotonic(), frames[0]) for camera, frames in shown.items())


def _how_they_run(runner: Runner) -> str:
    """Back end and precision, as the models got it: "openvino cpu bf16", or several with their counts."""
    ways = Counter(entry.network.note.partition(" (")[0] for entry in runner.library.snapshot().values())
    if len(ways) == 1:
        return next(iter(ways)) or runner.backend.name
    return ", ".join(f"{count} x {way}" for way, count in ways.most_common())


def _resident_mb() -> float:
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except OSError:
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024.0
    return pages * resource.getpagesize() / 1e6


def _device_mb(device: torch.device) -> float | None:
    return torch.cuda.max_memory_reserved(device) / 1e6 if device.type == "cuda" else None


def as_json(result: Result) -> dict[str, object]:
    """The keys of `linewatch bench --json`."""
    return {
        "frames_per_s": round(result.frames_per_s, 2),
        "p50_ms": round(result.p50_ms, 2),
        "p99_ms": round(result.p99_ms, 2),
        "half_load_p50_ms": round(result.half_load_p50_ms, 2),
        "half_load_p99_ms": round(result.half_load_p99_ms, 2),
        "efficiency": round(result.efficiency, 3),
        "stages": result.stages_ms,
        "memory_mb": round(result.memory_mb, 1),
        "backend": result.backend,
        "together": result.together,
        "measured_by": result.measured_by,
        "max_batch": result.max_batch,
        "cameras": result.load.cameras,
        "size": result.load.size,
        "tiles": result.load.tiles,
        "frames": result.frames,
        "bare_frames_per_s": round(result.bare_frames_per_s, 2),
        "naive_frames_per_s": round(result.naive_frames_per_s, 2),
        "gain": round(result.frames_per_s / result.naive_frames_per_s, 2),
        "gmacs": round(result.gmacs, 3),
        "of_arithmetic": round(result.of_arithmetic, 3),
        "memory_per_camera_mb": round(result.memory_per_camera_mb, 1),
        "device_memory_mb": None if result.device_memory_mb is None else round(result.device_memory_mb, 1),
        "regions_per_frame": round(result.regions_per_frame, 2),
        "events": result.events,
    }
