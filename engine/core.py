"""The nouns that cross a thread or a package. NumPy and the standard library only.

Boxes are (x0, y0, x1, y1) in pixels of the frame, x1 and y1 exclusive. Maps are float32 with 1.0 = the
alarm level of that camera, so that every number here compares across cameras and models.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

Box = tuple[int, int, int, int]

# Of the files that count as pictures, whoever looks through a folder; in lower case.
SUFFIXES = frozenset({".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp", ".pgm", ".ppm"})


@dataclass(frozen=True, slots=True, eq=False)
class Frame:
    """One picture of one camera.

    `pixels` is (H, W, 3) uint8 RGB and is never written to after the frame was made, so threads share it.
    `taken_at` is UTC seconds by `clock` ("host", "camera" or "ntp"); `tick` is `time.monotonic()` seconds of
    the moment the decoded picture was in memory, and is what ages and latencies are measured from.
    `seq` counts the frames of one camera from 1, over reconnects.
    """

    camera: str
    seq: int
    taken_at: float
    tick: float
    pixels: NDArray[np.uint8]
    clock: str = "host"
    part_id: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Frames that go through the device together, oldest turn first; in `latest` mode one of each camera."""

    frames: tuple[Frame, ...]


@dataclass(frozen=True, slots=True)
class Defect:
    """One connected region above the alarm level.

    `area_px` counts frame pixels; `peak` and `mean` are of the calibrated map (1.0 = alarm level); `centroid`
    is (x, y) in frame pixels, weighted by nothing.
    """

    box: Box
    area_px: int
    peak: float
    mean: float
    centroid: tuple[float, float]


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """What an event must say of the model that decided: `threshold` and `median` are raw map values."""

    name: str
    version: int
    sha256: str
    threshold: float
    median: float


@dataclass(frozen=True, slots=True, eq=False)
class Inspection:
    """What the engine says of one frame.

    `score_ratio` is the calibrated image score, (score - median of good) / (threshold - median of good);
    `score` is the raw one. `map_small` is a host copy of the calibrated map, (h, w) float32, over the whole
    frame. `defects` are sorted by peak, highest first. `timings_s` has seconds per stage: queue, upload,
    teacher, student, maps, regions.
    """

    frame: Frame
    score: float
    score_ratio: float
    defects: tuple[Defect, ...]
    map_small: NDArray[np.float32]
    model: ModelInfo
    timings_s: Mapping[str, float] = field(default_factory=dict)
