"""How far a camera's scores have moved since its model was calibrated (pure).

The middle of the live scores is set against the middle of the held-out good ones, in units of that camera's
way to the alarm: 0.0 = as calibrated, 1.0 = an ordinary picture scores a whole alarm distance higher. All
pictures count, also those that were called NG: when the light changes, every picture may be, and a median
does not mind the few real defects.

The good pictures' scores are of whole pictures. Where only an area is inspected they say nothing of it: such
a camera is set against its own first scores with that area and model.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from engine.core import Inspection, ModelInfo

WINDOW = 600
EVERY_S = 1.0
LEAST = 60


@dataclass(slots=True)
class _Ring:
    """The newest raw image scores of one camera and one model."""

    model: ModelInfo
    area: object
    calibrated: float | None
    raw: NDArray[np.float32] = field(default_factory=lambda: np.zeros(WINDOW, np.float32))
    count: int = 0
    kept_at: float = float("-inf")

    @property
    def filled(self) -> int:
        return min(self.count, WINDOW)


class Drift:
    """One score a second and camera at most, so that WINDOW of them are ten minutes; told from LEAST on.

    `calibrated` is the median image score of the good pictures behind a camera's model, None without one.
    One thread.
    """

    def __init__(self, calibrated: Callable[[str], float | None]) -> None:
        self._calibrated = calibrated
        self._rings: dict[str, _Ring] = {}

    def add(self, inspection: Inspection, now: float, area: object = None) -> None:
        """Take one picture's score into account; `now` in monotonic seconds. `area` is what of the picture is
        inspected, as anything that compares; None: all of it.
        """
        camera, model = inspection.frame.camera, inspection.model
        ring = self._rings.get(camera)
        if ring is None or _version(ring.model) != _version(model) or ring.area != area:
            calibrated = self._calibrated(camera)
            if calibrated is None:
                return
            ring = self._rings[camera] = _Ring(model, area, calibrated if area is None else None)
        ring.model = model
        if now - ring.kept_at < EVERY_S:
            return
        ring.raw[ring.count % WINDOW] = inspection.score
        ring.count, ring.kept_at = ring.count + 1, now
        if ring.calibrated is None and ring.filled == LEAST:
            ring.calibrated = float(np.median(ring.raw[:LEAST]))

    def forget(self, camera: str) -> None:
        """A camera that is there no more; unknown ones are fine."""
        self._rings.pop(camera, None)

    def values(self) -> Mapping[str, float]:
        """Camera → drift, for those with enough pictures."""
        return {
            name: _drift(ring, ring.calibrated)
            for name, ring in self._rings.items()
            if ring.filled >= LEAST and ring.calibrated is not None
        }


def _version(model: ModelInfo) -> tuple[object, ...]:
    """Calibrated anew, the same weights have another median of good pictures."""
    return model.name, model.version, model.sha256


def _drift(ring: _Ring, calibrated: float) -> float:
    # An alarm level at the median of good would divide by nothing.
    span = max(ring.model.threshold - ring.model.median, 1e-6)
    return float((np.median(ring.raw[: ring.filled]) - calibrated) / span)
