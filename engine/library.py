"""Which camera is inspected with which model. Swaps take effect between two batches.

The table of entries is replaced, never changed: the device thread reads it once a batch, so a batch sees
one state of the library from its first to its last step, and nobody waits for anybody.
"""

import math
import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType

import torch

from .artifact import Artifact
from .backend import Prepared
from .core import ModelInfo
from .errors import ArtifactError, EngineError
from .tiles import Tiling
from .zones import Point, zone


@dataclass(frozen=True, slots=True)
class CameraTuning:
    """What the operator says of one camera.

    `roi` and `masks` are polygons of (x, y) in 0–1 of the frame. `threshold` is a raw map value that
    overrides the one from `false_alarms_per_hour`, `fps` and `on_frames`. `tiles` (ROWSxCOLUMNS) is what the
    model must have been trained with; None: whatever it was.
    """

    min_area_px: float = 40.0
    roi: tuple[Point, ...] | None = None
    masks: tuple[tuple[Point, ...], ...] = ()
    false_alarms_per_hour: float = 1.0
    fps: float = 10.0
    on_frames: int = 2
    threshold: float | None = None
    tiles: str | None = None


@dataclass(frozen=True, slots=True, eq=False)
class Entry:
    """One camera's model, ready to run.

    `network` is what the runner's `prepare` made of the artifact; `tiling` how its pictures are cut; `zone`
    (h, w) bool on the host, of the whole map, None = everywhere; `min_cells` is the smallest region, in map
    cells, that the calibration counted.
    """

    camera: str
    artifact: Artifact
    tuning: CameraTuning
    info: ModelInfo
    zone: torch.Tensor | None
    network: Prepared

    @property
    def tiling(self) -> Tiling:
        return self.artifact.tiling

    @property
    def min_cells(self) -> int:
        return self.artifact.calibration.min_area_px


@dataclass(frozen=True, slots=True)
class _Broken:
    """Why a model was discarded."""

    why: str
    may_return: bool


# What stands in an entry until a runner serves the library.
_UNPREPARED = Prepared("", None)
Prepare = Callable[[Artifact], Prepared]
Refused = tuple[str, EngineError]


class Library:
    """Camera → entry. Every method may be called from any thread; `put` does the slow work in the caller's.

    Nobody waits for the slow work but its caller: the lock is held only to swap the table.
    """

    def __init__(self) -> None:
        self._changing = threading.Lock()
        self._entries: Mapping[str, Entry] = MappingProxyType({})
        self._broken: dict[str, _Broken] = {}
        self._prepare: Prepare | None = None

    def serve(self, prepare: Prepare) -> list[Refused]:
        """Called by a runner: how a model gets onto its device; prepares what is there already.

        A camera whose model can't run there is removed and returned with the reason; the others are served.
        """
        with self._changing:
            self._prepare, before = prepare, self._entries
        ready, refused = dict[str, Prepared](), list[Refused]()
        for camera, entry in before.items():
            try:
                ready[camera] = prepare(entry.artifact)
            except EngineError as error:
                refused.append((camera, error))
        with self._changing:
            after = dict(self._entries)
            for camera, entry in self._entries.items():
                # What was put meanwhile was prepared by `prepare` already; what was tuned was not.
                if (old := before.get(camera)) is None or old.artifact is not entry.artifact:
                    continue
                if camera in ready:
                    after[camera] = replace(entry, network=ready[camera])
                else:
                    del after[camera]
            self._entries = MappingProxyType(after)
            self._broken.clear()  # what failed on another device may do here
        return refused

    def put(self, camera: str, artifact: Artifact, tuning: CameraTuning | None = None) -> ModelInfo:
        """Inspect `camera` with `artifact` from the next batch on; of two at once the last one ready stays.

        Raises ArtifactError, TeacherError or DeviceError if the model can't run here; the old one goes on.
        """
        while True:
            prepare = self._prepare
            network = prepare(artifact) if prepare else _UNPREPARED
            entry = _entry(camera, artifact, tuning or CameraTuning(), network)
            with self._changing:
                # Else another device took over meanwhile.
                if self._prepare is prepare:
                    return self._place(entry)

    def tune(self, camera: str, tuning: CameraTuning) -> ModelInfo:
        """Another threshold, zone or minimum area for the model that runs. Raises KeyError, ArtifactError."""
        with self._changing:
            old = self._entries[camera]
            return self._place(_entry(camera, old.artifact, tuning, old.network))

    def check(self, camera: str, tuning: CameraTuning) -> None:
        """Raises ArtifactError for what `tune` would refuse; a camera without a model takes anything."""
        if (old := self.get(camera)) is not None:
            _entry(camera, old.artifact, tuning, old.network)

    def remove(self, camera: str) -> None:
        """Inspect `camera` no more; unknown cameras are fine."""
        with self._changing:
            self._broken.pop(camera, None)
            self._entries = MappingProxyType({k: v for k, v in self._entries.items() if k != camera})

    def discard(self, entry: Entry, why: str = "", *, may_return: bool = False) -> bool:
        """Remove this very entry, whose model ran and failed; False if another has taken its place.

        `may_return`: the model itself is not to blame, so that it is worth another try.
        """
        with self._changing:
            if self._entries.get(entry.camera) is not entry:
                return False
            self._entries = MappingProxyType({k: v for k, v in self._entries.items() if v is not entry})
            self._broken[entry.camera] = _Broken(why, may_return)
            return True

    def broken(self, camera: str) -> str | None:
        """Why the camera's model was discarded, as far as `discard` was told; None: it was not. Holds until
        another one is put, or another device serves.
        """
        found = self._broken.get(camera)
        return None if found is None else found.why

    def may_return(self, camera: str) -> bool:
        """Whether the camera's model was discarded though it is not to blame."""
        found = self._broken.get(camera)
        return found is not None and found.may_return

    def get(self, camera: str) -> Entry | None:
        return self._entries.get(camera)

    def snapshot(self) -> Mapping[str, Entry]:
        """The table as it stands; it never changes."""
        return self._entries

    def _place(self, entry: Entry) -> ModelInfo:
        self._entries = MappingProxyType({**self._entries, entry.camera: entry})
        self._broken.pop(entry.camera, None)
        return entry.info


def _entry(camera: str, artifact: Artifact, tuning: CameraTuning, network: Prepared) -> Entry:
    if tuning.tiles not in (None, artifact.tiles):
        raise ArtifactError(
            f"Camera {camera} is set to tiles {tuning.tiles} and its model "
            f"{artifact.name}@{artifact.version} was trained with {artifact.tiles}: train it with "
            f"--tiles {tuning.tiles}, or set the camera to tiles: {artifact.tiles}."
        )
    info = artifact.info(_threshold(artifact, tuning))
    cells = zone(tuning.roi, tuning.masks, artifact.tiling.canvas)
    if cells is not None and not cells.any():
        raise ArtifactError(
            f"Camera {camera}: its region of interest less its masks leaves nothing to inspect."
        )
    if cells is not None and cells.sum() < (least := artifact.calibration.min_area_px):
        raise ArtifactError(
            f"Camera {camera}: its region of interest less its masks leaves {cells.sum()} cells of the map, "
            f"and a defect has {least} at least, so that none would be found there: draw it larger."
        )
    return Entry(camera, artifact, tuning, info, None if cells is None else torch.from_numpy(cells), network)


def _threshold(artifact: Artifact, tuning: CameraTuning) -> float:
    threshold = tuning.threshold
    if threshold is None:
        threshold = artifact.calibration.threshold(tuning.false_alarms_per_hour, tuning.fps, tuning.on_frames)
    median = artifact.calibration.median
    if not math.isfinite(threshold):
        raise ArtifactError(
            f"The threshold of model {artifact.name}@{artifact.version} is {threshold}, which no defect can "
            "reach: set one by hand, or train the model again."
        )
    if not threshold > median:
        raise ArtifactError(
            f"The threshold {threshold:.4g} of model {artifact.name}@{artifact.version} is not above "
            f"the median {median:.4g} of its good pictures; choose a higher one."
        )
    return threshold
