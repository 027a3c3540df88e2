"""One batch on its way through the device, in steps between which the host may get the next one ready."""

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from functools import cached_property, partial

import numpy as np
import torch
from numpy.typing import NDArray

from . import maps as mapping
from . import regions
from .backend import Backend
from .core import Batch, Defect, Frame, Inspection
from .device_errors import device_errors
from .errors import ArtifactError
from .grouping import Entries, Group, Sheet, at_most, groups
from .lanes import Lanes
from .library import Entry
from .stopwatch import Stopwatch
from .xp import library_for

# The small map of a picture in tiles is so many times finer, at most.
_FINER = 3


class Track:
    """What all passages share, for the device thread.

    On CUDA frames travel, and regions are measured, on streams of their own: beside what the device computes
    for the batch before and the one behind.
    """

    def __init__(self, backend: Backend, max_squares: int) -> None:
        self.backend, self.max_squares = backend, max_squares
        self.place = backend.device
        # Whether maps and regions are its work too, rather than the host's.
        self.measures = self.place.type == "cuda"
        self.lane = Lanes(1) if backend.works_beside else None
        self._in_lane: Future[None] | None = None
        self.arrays = library_for(self.place)
        self._zones: dict[str, tuple[torch.Tensor, torch.Tensor]] = {}

    @cached_property
    def _uploads(self) -> torch.cuda.Stream | None:
        return self._stream()

    @cached_property
    def _regions(self) -> torch.cuda.Stream | None:
        return self._stream()

    def _stream(self) -> torch.cuda.Stream | None:
        """Made when it is first needed, as a device that doesn't work says so then."""
        if self.place.type != "cuda":
            return None
        # Of another pool of torch's than the streams on which calls are recorded: a recording goes on working
        # in the memory that cuBLAS keeps for its stream.
        return torch.cuda.Stream(self.place, priority=-1)  # type: ignore[no-untyped-call]

    def overlaps(self, frames: int) -> bool:
        """Whether so many are computed on a CPU by a thread beside the device thread.

        A picture alone is computed by all cores at once, which wait for each other: another thread costs
        more than it gains (measured: a twelfth fewer frames; of several cameras a twentieth more).
        """
        return self.lane is not None and frames > 1

    def compute(self, frames: int, job: Callable[[], None]) -> Future[None] | None:
        """Do the job, or have it done by that thread; never while another batch is in the networks, whose
        answers lie where this one's would."""
        if self.lane is not None and self.overlaps(frames):
            self._in_lane = self.lane.begin(job)
            return self._in_lane
        if self._in_lane is not None:
            self._in_lane.exception()  # waits; whoever began it is told
            self._in_lane = None
        job()
        return None

    @contextmanager
    def working(self) -> Iterator[None]:
        """Around whatever is asked of the device. Raises DeviceError for its own errors."""
        with device_errors(), torch.inference_mode(), self.arrays.on_stream(self.place):
            yield

    @contextmanager
    def uploading(self) -> Iterator[None]:
        """What is sent inside travels beside what the device computes; `uploaded` comes before computing with
        it."""
        with self.working(), nullcontext() if self._uploads is None else torch.cuda.stream(self._uploads):
            yield

    @contextmanager
    def measuring(self) -> Iterator[None]:
        """What is measured inside the host has waited for: it need not come after what the device was given
        since, which is the next batch."""
        with (
            device_errors(),
            nullcontext() if self._regions is None else torch.cuda.stream(self._regions),
            self.working(),  # inside, as CuPy goes to torch's current stream
        ):
            yield

    def uploaded(self) -> None:
        """What the device is told from here on waits until what was sent is there."""
        if self._uploads is not None:
            torch.cuda.current_stream(self.place).wait_stream(self._uploads)

    def outside(self, entry: Entry) -> torch.Tensor:
        """The cells of an entry that don't count, on the device; uploaded once."""
        known, outside = self._zones.get(entry.camera, (None, None))
        if known is not entry.zone or outside is None:
            assert entry.zone is not None
            outside = ~entry.zone.to(self.place)
            self._zones[entry.camera] = (entry.zone, outside)
        return outside

    def forget_zones(self, table: Entries) -> None:
        """Of cameras that are gone, or have another zone or none by now."""
        for camera, (zone, _) in list(self._zones.items()):
            if camera not in table or table[camera].zone is not zone:
                del self._zones[camera]


@dataclass(slots=True)
class _Computed:
    """What a batch's maps of one size say; on CUDA the device still writes it, until `Stopwatch.wait`."""

    group: Group
    sheet: Sheet
    calibrated: torch.Tensor
    scores: torch.Tensor
    small: torch.Tensor
    above: torch.Tensor
    table: NDArray[np.float64] = field(default_factory=regions.no_regions)


class Passage:
    """Made (and sent to the device), `compute`, `fetch`, `inspections`: each once, in this order, by the
    device thread.

    Only `fetch` waits for the device. So the host may ask for this one's inspections while the device
    computes the next one, and on CUDA also let it compute the next one before it fetches this one. Maps and
    regions are the device's work on CUDA, and part of the last step elsewhere. Each step raises DeviceError
    (out of memory, lost device), the last one also ArtifactError (a model gave no numbers); then no frame of
    the batch has a result. Any other exception is a bug.
    """

    def __init__(self, track: Track, batch: Batch, entries: Entries) -> None:
        self._started = time.monotonic()
        self._track, self._batch = track, batch
        track.forget_zones(entries)
        looks = groups(batch.frames, entries)
        with track.uploading():
            self._watch = Stopwatch(track.place)
            self._sent = [(group, track.backend.upload(group.pictures())) for group in looks]
            self._watch.lap("upload")
        self._running: Future[None] | None = None
        self._raw: list[tuple[Group, torch.Tensor]] = []
        self._computed: list[_Computed] = []
        self._seconds: Mapping[str, float] = {}

    def compute(self) -> None:
        """Let the device compute all that needs no answer."""
        self._running = self._track.compute(len(self._batch.frames), self._compute)

    def _compute(self) -> None:
        with self._track.working():
            self._track.uploaded()
            self._watch.lap(None)
            self._raw = [(group, self._raw_maps(group, squares)) for group, squares in self._sent]
            if self._track.measures:
                self._judge_all()

    def _raw_maps(self, group: Group, squares: torch.Tensor) -> torch.Tensor:
        """(n, P, P) of all squares of a group, in its order."""
        backend, maps = self._track.backend, []
        for networks, part in at_most(self._track.max_squares, group.networks()):
            images = squares[part]
            features = backend.features(group.teacher, images)
            self._watch.lap("teacher")
            maps.append(backend.raw_maps(networks, images, features))
            self._watch.lap("student")
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def _judge_all(self) -> None:
        for group, raw in self._raw:
            self._computed += [self._judge(raw, group, sheet) for sheet in group.sheets()]
        self._raw.clear()

    def _judge(self, raw: torch.Tensor, group: Group, sheet: Sheet) -> _Computed:
        entries = group.entries[sheet.frames]
        calibrated = self._calibrated(sheet.tiling.stitch(raw[sheet.squares]), entries)
        scores = mapping.image_scores(calibrated)
        small = mapping.shrink(calibrated, mapping.SMALL_SIDE * min(sheet.tiling.longest, _FINER))
        # On their way while the host does something else.
        host = partial(torch.Tensor.to, device="cpu", non_blocking=True)
        said = host(scores.float()), host(small.float()), host(small.amax() > 1.0)
        self._watch.lap("maps")
        return _Computed(group, sheet, calibrated, *said)

    def _calibrated(self, raw: torch.Tensor, entries: Sequence[Entry]) -> torch.Tensor:
        """Raw maps (N, h, w) → calibrated ones; cells that don't count get the lowest value of their map."""
        place, levels = self._track.place, [[e.info.median, e.info.threshold] for e in entries]
        # Pinned: the host may wait for all that was asked before when it sends from ordinary memory.
        numbers = torch.tensor(levels, dtype=torch.float32, pin_memory=place.type == "cuda")
        median, threshold = numbers.to(place, non_blocking=True).unbind(1)
        calibrated = mapping.calibrate(raw, median, threshold)
        for one, entry in zip(calibrated, entries, strict=True):
            if entry.zone is not None:
                # Never above "as good": a picture that is anomalous all over must not raise them. And not by
                # masked_fill_, which waits for the device to tell it the value.
                torch.where(self._track.outside(entry), one.amin().clamp(max=0.0), one, out=one)
        return calibrated

    def fetch(self) -> None:
        """Wait for the device; CUDA then measures the regions, if there are any. Its memory is free then."""
        if self._running is not None:
            self._running.result()
        if self._track.measures:
            with self._track.measuring():
                self._watch.wait()
                self._measure()
        # Not before: on CUDA the memory is of the uploads' stream, and the next upload would get it while it
        # is read. (Where a step fails it may: nobody is told what is read then.)
        self._sent.clear()

    def _measure(self) -> None:
        arrays = self._track.arrays
        self._watch.lap(None)
        for one in self._computed:
            if bool(one.above):
                one.table = regions.tabulate(arrays.from_torch(one.calibrated), arrays)
            del one.calibrated
        self._watch.lap("regions")
        # Here, as it asks the device: what fails in the next batch must not show in this one's answer.
        self._seconds = self._watch.seconds()

    def inspections(self) -> list[Inspection]:
        """One for each frame, in the batch's order; the seconds of a stage are those of the whole batch."""
        if not self._track.measures:
            with self._track.working():
                self._watch.lap(None)
                self._judge_all()
                self._measure()
        seconds, described_at = dict(self._seconds), time.monotonic()
        described = [_described(one) for one in self._computed]
        seconds["regions"] += time.monotonic() - described_at
        done: dict[int, Inspection] = {}
        for one, defects in zip(self._computed, described, strict=True):
            done.update(self._inspected(one, defects, seconds))
        if len(done) != len(self._batch.frames):
            raise RuntimeError(f"{len(self._batch.frames)} frames went in, {len(done)} inspections came out")
        return [done[place] for place in range(len(done))]

    def _inspected(
        self, one: _Computed, defects: Sequence[Sequence[Defect]], seconds: Mapping[str, float]
    ) -> Iterator[tuple[int, Inspection]]:
        """Each frame's place in the batch, and what is said of it."""
        part, scores = one.sheet.frames, one.scores.tolist()
        places, frames, entries = one.group.places[part], one.group.frames[part], one.group.entries[part]
        for place, frame, entry, ratio, small, mine in zip(
            places, frames, entries, scores, one.small.numpy(), defects, strict=True
        ):
            info = entry.info
            if not math.isfinite(ratio):
                raise ArtifactError(
                    f"The model {info.name}@{info.version} of camera {frame.camera} answered with values "
                    "that are not numbers; go back to an earlier version."
                )
            raw = info.median + ratio * (info.threshold - info.median)
            timings = {"queue": max(self._started - frame.tick, 0.0), **seconds}
            # A copy: a view would keep the maps of the whole batch alive as long as this one inspection.
            yield place, Inspection(frame, raw, ratio, tuple(mine), small.copy(), info, timings)


def _described(one: _Computed) -> list[list[Defect]]:
    """The defects of each frame of a sheet."""
    cells = one.sheet.tiling.canvas
    frames, entries = one.group.frames[one.sheet.frames], one.group.entries[one.sheet.frames]
    views = [_view(frame, entry, cells[0] * cells[1]) for frame, entry in zip(frames, entries, strict=True)]
    return regions.describe(one.table, views, cells)


def _view(frame: Frame, entry: Entry, cells: int) -> regions.View:
    height, width = frame.pixels.shape[:2]
    # The threshold was calibrated for regions of at least `min_cells`: smaller ones would alarm more often
    # than asked.
    least = max(entry.tuning.min_area_px, entry.min_cells * height * width / cells)
    return regions.View(width, height, least)
