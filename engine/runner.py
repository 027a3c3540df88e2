"""The device: one batch of frames in, one inspection for each out."""

import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path

import numpy as np
import torch

from . import regions
from .artifact import Artifact
from .backend import Backend, Prepared
from .choose import open_backend
from .core import Batch, Frame, Inspection
from .device_errors import CUDA_SIGNS, device_errors, first_line
from .errors import ArtifactError, DeviceError
from .grouping import Entries, at_most, groups
from .library import Entry, Library, Refused
from .passage import Passage, Track

# A larger batch must cost less than so much of a smaller one's time for a frame, or it only adds waiting.
_PAYS = 0.95
_TRIES = 3


class Runner:
    """Runs batches on one device. `run` and `warm_up` belong to the device thread.

    `device`, `precision`, `threads`, `cache_dir`, `teacher_weights` and a back end by name are what
    `open_backend` takes. `max_squares` pictures of network size go through the network at once, at most: a
    frame in tiles is as many of them.
    `sends_ahead`: whether the device takes the next batch while it computes one.
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
        self.plateau: int | None = None
        self._is_settled = False
        with device_errors():
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
            self.sends_ahead = self.device.type == "cuda"
            self._track = Track(self.backend, max_squares)
        # Not a bound method: the library would hold the runner, and a replaced one would stay in memory.
        self.refused: Sequence[Refused] = library.serve(partial(_prepare, self.backend))

    def warm_up(self, max_batch: int = 1) -> list[Refused]:
        """Run blank frames through every model, alone and together, so that the first real frame isn't the
        slow one.

        A camera whose model gives no numbers is removed from the library and returned with the reason.
        Raises DeviceError if the device can't run even one frame.
        """
        refused, frames = list[Refused](), list[Frame]()
        self._is_settled = True  # once it is seen which of them run here
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
        self._is_settled = bool(frames)
        if frames:
            self._settle(frames[:max_batch], entries)
        # A device that bears one frame but not so many: the engine will halve its batches.
        with suppress(DeviceError):
            for start in range(0, len(frames), max_batch):
                self.run(Batch(tuple(frames[start : start + max_batch])), entries)
        return refused

    def _warm_up_regions(self) -> None:
        """Blank frames have none: without this CuPy would compile for seconds at the first defect."""
        arrays = self._track.arrays
        with self._track.working():
            # As many cells as a batch has: CuPy counts few of them with other kernels.
            spot = torch.zeros((16, 256, 256), device=self.device)
            spot[0, 4, 4] = 2.0
            regions.find(arrays.from_torch(spot), [regions.View(256, 256)] * len(spot), arrays)

    def _settle(self, frames: Sequence[Frame], entries: Entries) -> None:
        """Let the back end find out how it best runs 2, 4, 8, … cameras together; then see how many pay. One
        camera may send several pictures at once, too."""
        # Not one alone: back ends may have prepared the first model better for that than the others.
        counts = {len(frames), *(2**power for power in range(1, len(frames).bit_length()))}
        costs: dict[int, float] = {}
        # A device that bears fewer frames than that: what was measured until then holds.
        with suppress(DeviceError), device_errors(), torch.inference_mode():
            for count in sorted(counts):
                self._settle_together(frames[:count], entries)
                if len(frames) > 1:
                    costs[count] = self._frame_cost_s(Batch(tuple(frames[:count])), entries)
        self.plateau = plateau(costs, len(frames))

    def _settle_together(self, frames: Sequence[Frame], entries: Entries) -> None:
        for group in groups(frames, entries):
            networks, part = next(at_most(self._track.max_squares, group.networks()))
            images = self.backend.upload(group.pictures())[part]
            self.backend.settle(networks, images, self._track.max_squares)

    def _frame_cost_s(self, batch: Batch, entries: Entries) -> float:
        """The quickest of three."""
        spent = []
        for _ in range(_TRIES):
            started = time.monotonic()
            self.run(batch, entries)
            spent.append(time.monotonic() - started)
        return min(spent) / len(batch.frames)

    @property
    def measured_by(self) -> str:
        """What measures the regions, in words."""
        return self._track.arrays.name

    def overlaps(self, frames: int) -> bool:
        """Whether the device computes so many by itself, so that the host may tell of the batch before."""
        return self.sends_ahead or self._track.overlaps(frames)

    def begin(self, batch: Batch, entries: Entries | None = None) -> Passage:
        """The first step of a batch's way: see there for the others, and for what they raise.

        `entries` is the state of the library to use, by default the present one; every camera of the batch
        must be in it.
        """
        entries = self.library.snapshot() if entries is None else entries
        if not self._is_settled:
            # There was no model to warm up with. The first that came since lets no other camera wait.
            self._is_settled = True
            with suppress(DeviceError), device_errors(), torch.inference_mode():
                self._settle_together(batch.frames[:1], entries)
        return Passage(self._track, batch, entries)

    def run(self, batch: Batch, entries: Entries | None = None) -> list[Inspection]:
        """All steps: one inspection for each frame, in the batch's order."""
        passage = self.begin(batch, entries)
        passage.compute()
        passage.fetch()
        return passage.inspections()

    def bare(self, batch: Batch) -> tuple[Callable[[], None], int]:
        """The networks alone on a batch whose pictures are on the device: what a benchmark compares with.

        Returns a call that waits for the device, and how many frames it looks at.
        """
        prepared = []
        for group in groups(batch.frames, self.library.snapshot()):
            images = self.backend.upload(group.pictures())
            for networks, part in at_most(self._track.max_squares, group.networks()):
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
        [(networks, part), *_] = at_most(self._track.max_squares, group.networks())
        images = self.backend.upload(group.pictures())[part]
        return self.backend.student_share(
            networks[0][0], images, self.backend.features(group.teacher, images)
        )


def plateau(costs: Mapping[int, float], cameras: int) -> int | None:
    """From seconds a frame by size of batch, the smallest one that is about as good as any.

    None if that is the largest, as many frames as there are cameras: more might be better still.
    """
    if not costs:
        return None
    best = min(costs.values())
    enough = min(count for count, cost in costs.items() if cost * _PAYS <= best)
    return enough if enough < cameras else None


def _prepare(backend: Backend, artifact: Artifact) -> Prepared:
    model = f"model {artifact.name}@{artifact.version}"
    try:
        with device_errors(f"the {model}", CUDA_SIGNS):
            return backend.prepare(artifact)
    except (RuntimeError, ValueError) as error:
        # Whatever a folder holds that nobody thought of must not end the line, again at each start.
        raise ArtifactError(
            f"The {model} can't run here ({first_line(error)}); train it again or go back to an earlier "
            "version."
        ) from error


def _blank(entry: Entry) -> Frame:
    """Half as large again as the canvas: bringing to size, which most frames need, is warmed up and measured
    too."""
    height, width = entry.tiling.canvas
    pixels = np.full((height * 3 // 2, width * 3 // 2, 3), 128, dtype=np.uint8)
    return Frame(entry.camera, 1, 0.0, time.monotonic(), pixels)
