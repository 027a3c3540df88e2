"""The device: one batch of frames in, one inspection for each out."""

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from . import maps as mapping
from . import regions
from .artifact import Artifact
from .backend import Backend, Prepared
from .choose import open_backend
from .core import Batch, Defect, Frame, Inspection
from .errors import ArtifactError, DeviceError, OutOfMemory
from .grouping import Entries, Group, at_most, groups
from .library import Entry, Library, Refused
from .xp import library_for

# A larger batch must cost less than so much of a smaller one's time for a frame, or it only adds waiting.
_PAYS = 0.95
_TRIES = 3
# The small map of a picture in tiles is so many times finer, at most.
_FINER = 3
# The words by which an error of the device is known that comes as a plain RuntimeError: of cuBLAS and cuDNN,
# and of a kernel that failed long before the call that says so.
_CUDA_SIGNS = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS")
# cudaErrorMemoryAllocation: of what doesn't come from torch's pool, such as pinned memory or a kernel's code.
_CUDA_NO_MEMORY = 2
_OPENVINO_SIGN = "Exception from src/"


@dataclass(frozen=True, slots=True)
class _Found:
    """What one frame's map says, on the host."""

    score: float
    small: NDArray[np.float32]
    defects: list[Defect]


class Runner:
    """Runs batches on one device. `run` and `warm_up` belong to the device thread.

    `device`, `precision`, `threads`, `cache_dir`, `teacher_weights` and a back end by name are what
    `open_backend` takes. `max_squares` pictures of network size go through the network at once, at most: a
    frame in tiles is as many of them.
    `plateau` is known after `warm_up`: frames in a batch above which one gets no cheaper; None: not found.
    `refused` are the cameras that were in the library and whose model can't run on this device: they were
    removed from it. Raises DeviceError for a wish that can't be met.
    """

    def __init__(
        self,
        library: Library,
        device: str = "auto",
        *,
        backend: Backend | str = "auto",
        precision: str = "auto",
        threads: int | None = None,
        cache_dir: Path | None = None,
        teacher_weights: Mapping[str, Path] | None = None,
        max_squares: int = 16,
    ) -> None:
        self.library = library
        self._max_squares = max_squares
        self.plateau: int | None = None
        with _device_errors():
            self.backend = (
                backend
                if not isinstance(backend, str)
                else open_backend(
                    device,
                    backend=backend,
                    precision=precision,
                    threads=threads,
                    cache_dir=cache_dir,
                    teacher_weights=teacher_weights,
                )
            )
            self.device = self.backend.device
            self._arrays = library_for(self.device)
            self._zones: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}
        # Not a bound method: the library would hold the runner, and a replaced one would stay in memory.
        self.refused: Sequence[Refused] = library.serve(partial(_prepare, self.backend))

    def warm_up(self, max_batch: int = 1) -> list[Refused]:
        """Run blank frames through every model, alone and together, so that the first real frame isn't the
        slow one.

        A camera whose model gives no numbers is removed from the library and returned with the reason.
        Raises DeviceError if the device can't run even one frame.
        """
        refused, frames = list[Refused](), list[Frame]()
        self._warm_up_regions()
        entries = self.library.snapshot()
        for entry in entries.values():
            frame = _blank(entry)
            try:
                self.run(Batch((frame,)), entries)
            except ArtifactError as error:
                self.library.discard(entry)
                refused.append((entry.camera, error))
            else:
                frames.append(frame)
        if frames:
            self._settle(frames[:max_batch], entries)
        # A device that bears one frame but not so many: the engine will halve its batches.
        with suppress(DeviceError):
            for start in range(0, len(frames), max_batch):
                self.run(Batch(tuple(frames[start : start + max_batch])), entries)
        return refused

    def _warm_up_regions(self) -> None:
        """Blank frames have none: without this CuPy would compile for seconds at the first defect."""
        spot = torch.zeros((1, 8, 8), device=self.device)
        spot[0, 4, 4] = 2.0
        with _device_errors(), self._arrays.on_stream(self.device):
            regions.find(self._arrays.from_torch(spot), [regions.View(8, 8)], self._arrays)

    def _settle(self, frames: Sequence[Frame], entries: Entries) -> None:
        """Let the back end find out how it best runs 2, 4, 8, … cameras together; then see how many pay. One
        camera may send several pictures at once, too."""
        # Not one alone: back ends may have prepared the first model better for that than the others.
        counts = {len(frames), *(2**power for power in range(1, len(frames).bit_length()))}
        costs: dict[int, float] = {}
        # A device that bears fewer frames than that: what was measured until then holds.
        with suppress(DeviceError), _device_errors(), torch.inference_mode():
            for count in sorted(counts):
                for group in groups(frames[:count], entries):
                    networks, part = next(at_most(self._max_squares, group.networks()))
                    images = self.backend.upload(group.pictures())[part]
                    self.backend.settle(networks, images, self._max_squares)
                if len(frames) > 1:
                    costs[count] = self._frame_cost_s(Batch(tuple(frames[:count])), entries)
        self.plateau = plateau(costs, len(frames))

    def _frame_cost_s(self, batch: Batch, entries: Entries) -> float:
        """The quickest of three."""
        spent = []
        for _ in range(_TRIES):
            started = time.monotonic()
            self.run(batch, entries)
            spent.append(time.monotonic() - started)
        return min(spent) / len(batch.frames)

    def run(self, batch: Batch, entries: Entries | None = None) -> list[Inspection]:
        """One inspection for each frame, in the batch's order.

        `entries` is the state of the library to use, by default the present one; every camera of the batch
        must be in it. The seconds of a stage are those of the whole batch. Raises DeviceError (out of memory,
        lost device) and ArtifactError (a model gave no numbers); then no frame of the batch has a result. Any
        other exception is a bug.
        """
        started = time.monotonic()
        table = self.library.snapshot() if entries is None else entries
        self._forget_zones(table)
        done: dict[int, Inspection] = {}
        with _device_errors(), torch.inference_mode(), self._arrays.on_stream(self.device):
            watch = _Stopwatch(self.device)
            looked = [(group, self._look(group, watch)) for group in groups(batch.frames, table)]
            seconds = watch.seconds()
        for group, found in looked:
            done.update(zip(group.places, _inspections(group, found, seconds, started), strict=True))
        if len(done) != len(batch.frames):
            raise RuntimeError(f"{len(batch.frames)} frames went in and {len(done)} inspections came out")
        return [done[place] for place in range(len(batch.frames))]

    def bare(self, batch: Batch) -> tuple[Callable[[], None], int]:
        """The networks alone on a batch whose pictures are on the device: what a benchmark compares with.

        Returns a call that waits for the device, and how many frames it looks at.
        """
        prepared = []
        for group in groups(batch.frames, self.library.snapshot()):
            images = self.backend.upload(group.pictures())
            for networks, part in at_most(self._max_squares, group.networks()):
                prepared.append((group.teacher, networks, images[part]))

        def look() -> None:
            for teacher, networks, images in prepared:
                self.backend.raw_maps(networks, images, self.backend.features(teacher, images))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return look, len(batch.frames)

    def student_share(self, frame: Frame) -> float:
        """How much of the time of this frame's network its student takes, for a benchmark."""
        [group] = groups((frame,), self.library.snapshot())
        [(networks, part), *_] = at_most(self._max_squares, group.networks())
        images = self.backend.upload(group.pictures())[part]
        return self.backend.student_share(
            networks[0][0], images, self.backend.features(group.teacher, images)
        )

    def _look(self, group: Group, watch: "_Stopwatch") -> list[_Found]:
        """What the maps of a group say, in its order."""
        raw = self._raw_maps(group, watch)
        found: list[_Found] = []
        for sheet in group.sheets():
            found += self._look_at(sheet.tiling.stitch(raw[sheet.squares]), group, sheet.frames, watch)
        return found

    def _raw_maps(self, group: Group, watch: "_Stopwatch") -> torch.Tensor:
        """(n, P, P) of all squares of a group, in its order."""
        squares, maps = self.backend.upload(group.pictures()), []
        watch.lap("upload")
        for networks, part in at_most(self._max_squares, group.networks()):
            images = squares[part]
            features = self.backend.features(group.teacher, images)
            watch.lap("teacher")
            maps.append(self.backend.raw_maps(networks, images, features))
            watch.lap("student")
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def _look_at(self, raw: torch.Tensor, group: Group, part: slice, watch: "_Stopwatch") -> list[_Found]:
        """What the whole maps (N, h, w) of these frames of the group say."""
        frames, entries = group.frames[part], group.entries[part]
        calibrated = self._calibrated(raw, entries)
        scores = mapping.image_scores(calibrated)
        small = mapping.shrink(calibrated, mapping.SMALL_SIDE * min(entries[0].tiling.longest, _FINER))
        watch.lap("maps")
        # On their way while the host waits for the regions; there once the stream has come so far.
        host_scores, host_small = (t.float().to("cpu", non_blocking=True) for t in (scores, small))
        defects = self._defects(calibrated, frames, entries)
        if self.device.type == "cuda":
            torch.cuda.current_stream(self.device).synchronize()
        watch.lap("regions")
        # A copy: a view would keep the maps of the whole batch alive as long as this one inspection.
        smalls = (one.copy() for one in host_small.numpy())
        return [_Found(*one) for one in zip(host_scores.tolist(), smalls, defects, strict=True)]

    def _calibrated(self, raw: torch.Tensor, entries: Sequence[Entry]) -> torch.Tensor:
        """Raw maps (N, h, w) → calibrated ones; cells that don't count get the lowest value of their map."""
        numbers = torch.tensor([[e.info.median, e.info.threshold] for e in entries], dtype=torch.float32)
        median, threshold = numbers.to(self.device, non_blocking=True).unbind(1)
        calibrated = mapping.calibrate(raw, median, threshold)
        for one, entry in zip(calibrated, entries, strict=True):
            if entry.zone is not None:
                # Never above "as good": a picture that is anomalous all over must not raise them. And not by
                # masked_fill_, which waits for the device to tell it the value.
                torch.where(self._outside(entry), one.amin().clamp(max=0.0), one, out=one)
        return calibrated

    def _outside(self, entry: Entry) -> torch.Tensor:
        """The cells of an entry that don't count, on the device; uploaded once."""
        known, outside = self._zones.get(entry.camera, (None, None))
        if known is not entry.zone or outside is None:
            assert entry.zone is not None
            outside = ~entry.zone.to(self.device)
            self._zones[entry.camera] = (entry.zone, outside)
        return outside

    def _forget_zones(self, table: Entries) -> None:
        """Of cameras that are gone, or have another zone or none by now."""
        for camera, (zone, _) in list(self._zones.items()):
            if camera not in table or table[camera].zone is not zone:
                del self._zones[camera]

    def _defects(
        self, calibrated: torch.Tensor, frames: Sequence[Frame], entries: Sequence[Entry]
    ) -> list[list[Defect]]:
        height, width = calibrated.shape[1:]
        views = [_view(f, e, height * width) for f, e in zip(frames, entries, strict=True)]
        return regions.find(self._arrays.from_torch(calibrated), views, self._arrays)


def plateau(costs: Mapping[int, float], cameras: int) -> int | None:
    """From seconds a frame by size of batch, the smallest one that is about as good as any.

    None if that is the largest, as many frames as there are cameras: more might be better still.
    """
    if not costs:
        return None
    best = min(costs.values())
    enough = min(count for count, cost in costs.items() if cost * _PAYS <= best)
    return enough if enough < cameras else None


def _view(frame: Frame, entry: Entry, cells: int) -> regions.View:
    height, width = frame.pixels.shape[:2]
    # The threshold was calibrated for regions of at least `min_cells`: smaller ones would alarm more often
    # than asked.
    least = max(entry.tuning.min_area_px, entry.min_cells * height * width / cells)
    return regions.View(width, height, least)


def _inspections(
    group: Group, found: Sequence[_Found], seconds: Mapping[str, float], started: float
) -> list[Inspection]:
    out = []
    for frame, entry, one in zip(group.frames, group.entries, found, strict=True):
        info, ratio = entry.info, one.score
        if not np.isfinite(ratio):
            raise ArtifactError(
                f"The model {info.name}@{info.version} of camera {frame.camera} answered with values that "
                "are not numbers; go back to an earlier version."
            )
        raw = info.median + ratio * (info.threshold - info.median)
        timings = {"queue": max(started - frame.tick, 0.0), **seconds}
        out.append(Inspection(frame, raw, ratio, tuple(one.defects), one.small, info, timings))
    return out


def _prepare(backend: Backend, artifact: Artifact) -> Prepared:
    model = f"model {artifact.name}@{artifact.version}"
    try:
        with _device_errors(f"the {model}", _CUDA_SIGNS):
            return backend.prepare(artifact)
    except (RuntimeError, ValueError) as error:
        # Whatever a folder holds that nobody thought of must not end the line, again at each start.
        raise ArtifactError(
            f"The {model} can't run here ({_first_line(error)}); train it again or go back to an earlier "
            "version."
        ) from error


def _blank(entry: Entry) -> Frame:
    """Half as large again as the canvas: bringing to size, which most frames need, is warmed up and measured
    too."""
    height, width = entry.tiling.canvas
    pixels = np.full((height * 3 // 2, width * 3 // 2, 3), 128, dtype=np.uint8)
    return Frame(entry.camera, 1, 0.0, time.monotonic(), pixels)


class _Stopwatch:
    """Seconds of each stage, over all its laps; on CUDA by events, read after the wait that happens
    anyway."""

    def __init__(self, device: torch.device) -> None:
        self._device, self._cuda = device, device.type == "cuda"
        self._stages: list[str] = []
        self._ticks: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self.lap("start")

    def lap(self, stage: str) -> None:
        self._stages.append(stage)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            # Of the device that works, which need not be torch's current one.
            event.record(torch.cuda.current_stream(self._device))
            self._events.append(event)
        else:
            self._ticks.append(time.monotonic())

    def seconds(self) -> dict[str, float]:
        if self._cuda:
            self._events[-1].synchronize()
            first = self._events[0]
            self._ticks = [first.elapsed_time(event) / 1000.0 for event in self._events]
        spent: dict[str, float] = {}
        for stage, (before, after) in zip(self._stages[1:], pairwise(self._ticks), strict=True):
            spent[stage] = spent.get(stage, 0.0) + after - before
        return spent


@contextmanager
def _device_errors(
    what: str = "this batch", signs: tuple[str, ...] = (*_CUDA_SIGNS, _OPENVINO_SIGN)
) -> Iterator[None]:
    """Say in our words that memory ran out or the device is gone; anything else passes as the bug it is.

    `signs` are the words by which a RuntimeError is of the device; CuPy's are, whatever they say.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"The device has no memory left for {what} ({_first_line(error)}).") from error
    except torch.AcceleratorError as error:
        if getattr(error, "error_code", None) == _CUDA_NO_MEMORY:
            raise OutOfMemory(f"The device has no memory left for {what} ({_first_line(error)}).") from error
        raise DeviceError(f"The device failed ({_first_line(error)}).") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise OutOfMemory(f"The machine has no memory left for {what} ({_first_line(error)}).") from error
        if type(error).__module__.startswith("cupy") or any(sign in str(error) for sign in signs):
            raise DeviceError(f"The device failed ({_first_line(error)}).") from error
        raise


def _first_line(error: BaseException) -> str:
    """The first that says something: OpenVINO begins with places in its sources."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_OPENVINO_SIGN)]
    return (telling or lines or [type(error).__name__])[0]
