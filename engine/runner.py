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
from .errors import ArtifactError, DeviceError
from .images import to_square
from .library import Entry, Library, Refused
from .xp import library_for

Entries = Mapping[str, Entry]


@dataclass(frozen=True, slots=True)
class _Group:
    """Frames that share a teacher and an input size; frames of one camera stand together.

    `places[i]` is where frame i stood in the batch.
    """

    teacher: str

    frames: tuple[Frame, ...]
    entries: tuple[Entry, ...]
    places: tuple[int, ...]

    def slices(self) -> list[tuple[Entry, slice]]:
        """One slice for each run of frames of the same camera."""
        found: list[tuple[Entry, slice]] = []
        for index, entry in enumerate(self.entries):
            if found and found[-1][0] is entry:
                found[-1] = (entry, slice(found[-1][1].start, index + 1))
            else:
                found.append((entry, slice(index, index + 1)))
        return found


class Runner:
    """Runs batches on one device. `run` and `warm_up` belong to the device thread.

    `device`, `precision`, `threads`, `cache_dir`, `teacher_weights` and a back end by name are what
    `open_backend` takes.
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
    ) -> None:
        self.library = library
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
        # A device that bears one frame but not so many: the engine will halve its batches.
        with suppress(DeviceError):
            for start in range(0, len(frames), max_batch):
                self.run(Batch(tuple(frames[start : start + max_batch])), entries)
        return refused

    def run(self, batch: Batch, entries: Entries | None = None) -> list[Inspection]:
        """One inspection for each frame, in the batch's order.

        `entries` is the state of the library to use, by default the present one; every camera of the batch
        must be in it. Raises DeviceError (out of memory, lost device) and ArtifactError (a model gave no
        numbers); then no frame of the batch has a result. Any other exception is a bug.
        """
        started = time.monotonic()
        table = self.library.snapshot() if entries is None else entries
        done: dict[int, Inspection] = {}
        with _device_errors(), torch.inference_mode(), self._arrays.on_stream(self.device):
            for group in _groups(batch.frames, table):
                done.update(zip(group.places, self._run_group(group, started), strict=True))
        if len(done) != len(batch.frames):
            raise RuntimeError(f"{len(batch.frames)} frames went in and {len(done)} inspections came out")
        return [done[place] for place in range(len(batch.frames))]

    def bare(self, batch: Batch) -> tuple[Callable[[], None], int]:
        """The networks alone on a batch whose pictures are on the device: what a benchmark compares with.

        Returns a call that waits for the device, and how many frames it looks at.
        """
        prepared = []
        for group in _groups(batch.frames, self.library.snapshot()):
            input_px = group.entries[0].artifact.input_px
            images = self.backend.upload([to_square(frame.pixels, input_px) for frame in group.frames])
            networks = [(entry.network, part) for entry, part in group.slices()]
            prepared.append((group.teacher, networks, images))

        def look() -> None:
            for teacher, networks, images in prepared:
                self.backend.raw_maps(networks, images, self.backend.features(teacher, images))
            if self.device.type == "cuda":
                torch.cuda.synchronize(self.device)

        return look, len(batch.frames)

    def _run_group(self, group: _Group, started: float) -> list[Inspection]:
        watch = _Stopwatch(self.device)
        input_px = group.entries[0].artifact.input_px
        squares = [to_square(frame.pixels, input_px) for frame in group.frames]
        images = self.backend.upload(squares)
        watch.lap("upload")
        features = self.backend.features(group.teacher, images)
        watch.lap("teacher")
        networks = [(entry.network, part) for entry, part in group.slices()]
        raw = self.backend.raw_maps(networks, images, features)
        watch.lap("student")
        calibrated = self._calibrated(raw, group.entries)
        scores = mapping.image_scores(calibrated)
        small = mapping.shrink(calibrated)
        watch.lap("maps")
        defects = self._defects(calibrated, group)
        host_scores, host_small = scores.cpu().numpy(), small.float().cpu().numpy()
        watch.lap("regions")
        return _inspections(group, host_scores, host_small, defects, watch.seconds(), started)

    def _calibrated(self, raw: torch.Tensor, entries: Sequence[Entry]) -> torch.Tensor:
        """Raw maps (N, h, w) → calibrated ones; cells that don't count get the lowest value of their map."""
        numbers = torch.tensor([[e.info.median, e.info.threshold] for e in entries], dtype=torch.float32)
        median, threshold = numbers.to(self.device, non_blocking=True).unbind(1)
        calibrated = mapping.calibrate(raw, median, threshold)
        for one, entry in zip(calibrated, entries, strict=True):
            if entry.zone is not None:
                # Never above "as good": a picture that is anomalous all over must not raise them.
                one.masked_fill_(self._outside(entry), one.amin().clamp(max=0.0))
        return calibrated

    def _outside(self, entry: Entry) -> torch.Tensor:
        """The cells of an entry that don't count, on the device; uploaded once."""
        known, outside = self._zones.get(entry.camera, (None, None))
        if known is not entry.zone or outside is None:
            assert entry.zone is not None
            outside = ~entry.zone.to(self.device)
            self._zones[entry.camera] = (entry.zone, outside)
        return outside

    def _defects(self, calibrated: torch.Tensor, group: _Group) -> list[list[Defect]]:
        height, width = calibrated.shape[1:]
        views = [_view(f, e, height * width) for f, e in zip(group.frames, group.entries, strict=True)]
        return regions.find(self._arrays.from_torch(calibrated), views, self._arrays)


def _groups(frames: Sequence[Frame], entries: Entries) -> list[_Group]:
    keyed: dict[tuple[str, int], dict[str, list[int]]] = {}
    for place, frame in enumerate(frames):
        entry = entries[frame.camera]
        key = (entry.network.teacher, entry.artifact.input_px)
        keyed.setdefault(key, {}).setdefault(frame.camera, []).append(place)
    groups = []
    for (teacher, _), cameras in keyed.items():
        places = [place for same in cameras.values() for place in same]
        together = tuple(frames[place] for place in places)
        groups.append(_Group(teacher, together, tuple(entries[f.camera] for f in together), tuple(places)))
    return groups


def _view(frame: Frame, entry: Entry, cells: int) -> regions.View:
    height, width = frame.pixels.shape[:2]
    # The threshold was calibrated for regions of at least `min_cells`: smaller ones would alarm more often
    # than asked.
    least = max(entry.tuning.min_area_px, entry.min_cells * height * width / cells)
    return regions.View(width, height, least)


def _inspections(
    group: _Group,
    scores: NDArray[np.float32],
    small: NDArray[np.float32],
    defects: list[list[Defect]],
    seconds: Mapping[str, float],
    started: float,
) -> list[Inspection]:
    out = []
    for index, (frame, entry) in enumerate(zip(group.frames, group.entries, strict=True)):
        ratio = float(scores[index])
        if not np.isfinite(ratio):
            raise ArtifactError(
                f"The model {entry.info.name}@{entry.info.version} of camera {frame.camera} answered with "
                "values that "
                "are not numbers; go back to an earlier version."
            )
        info = entry.info
        raw = info.median + ratio * (info.threshold - info.median)
        timings = {"queue": max(started - frame.tick, 0.0), **seconds}
        # A copy: a view would keep the maps of the whole batch alive as long as this one inspection.
        own = small[index].copy()
        out.append(Inspection(frame, raw, ratio, tuple(defects[index]), own, info, timings))
    return out


def _prepare(backend: Backend, artifact: Artifact) -> Prepared:
    with _device_errors(f"the model {artifact.name}@{artifact.version}"):
        return backend.prepare(artifact)


def _blank(entry: Entry) -> Frame:
    side = entry.artifact.input_px
    return Frame(entry.camera, 1, 0.0, time.monotonic(), np.full((side, side, 3), 128, dtype=np.uint8))


class _Stopwatch:
    """Seconds between laps; on CUDA by events, read once after the wait that happens anyway."""

    def __init__(self, device: torch.device) -> None:
        self._cuda = device.type == "cuda"
        self._stages: list[str] = []
        self._ticks: list[float] = []
        self._events: list[torch.cuda.Event] = []
        self.lap("start")

    def lap(self, stage: str) -> None:
        self._stages.append(stage)
        if self._cuda:
            event = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
            event.record()
            self._events.append(event)
        else:
            self._ticks.append(time.monotonic())

    def seconds(self) -> dict[str, float]:
        if self._cuda:
            self._events[-1].synchronize()
            first = self._events[0]
            self._ticks = [first.elapsed_time(event) / 1000.0 for event in self._events]
        spent = [after - before for before, after in pairwise(self._ticks)]
        return dict(zip(self._stages[1:], spent, strict=True))


@contextmanager
def _device_errors(what: str = "this batch") -> Iterator[None]:
    """Say in our words that memory ran out or the device is gone; anything else passes as the bug it is."""
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise DeviceError(f"The device has no memory left for {what} ({_first_line(error)}).") from error
    except torch.AcceleratorError as error:
        raise DeviceError(f"The device failed ({_first_line(error)}).") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise DeviceError(f"The machine has no memory left for {what} ({_first_line(error)}).") from error
        raise


def _first_line(error: BaseException) -> str:
    return (str(error).splitlines() or [type(error).__name__])[0]
