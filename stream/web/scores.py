"""The scores of the last hour, for the curve and for "what would this alarm level have cost".

One ring a camera: 40,000 scores, about an hour at 10 pictures a second, 520 kB.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.core import Inspection, ModelInfo

CAPACITY = 40_000


@dataclass(frozen=True, slots=True)
class Curve:
    """Buckets of equal length, oldest first: start (UTC s), highest score_ratio, share of NG pictures."""

    bucket_s: float
    at: NDArray[np.float64]
    highest: NDArray[np.float32]
    ng: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Cost:
    """What an alarm level would have done to the pictures there are."""

    pictures: int
    above: int
    alarms: int
    hours: float


class Scores:
    """The newest scores of one camera. Event loop only.

    Raw levels are kept, so that after the alarm level was moved the past is shown against the new one; with
    another model the ring begins anew.
    """

    def __init__(self, capacity: int = CAPACITY) -> None:
        self.model: ModelInfo | None = None
        self._at = np.zeros(capacity, np.float64)
        self._raw = np.zeros(capacity, np.float32)
        self._ng = np.zeros(capacity, bool)
        self._next = 0
        self._filled = 0

    def add(self, inspection: Inspection) -> None:
        """A picture is as bad as its strongest region; without one, its image score counts, below the
        alarm.
        """
        model = inspection.model
        if self.model is None or self.model.sha256 != model.sha256:
            self._next = self._filled = 0
        self.model = model
        peak = max((defect.peak for defect in inspection.defects), default=None)
        ratio = min(inspection.score_ratio, 0.999) if peak is None else peak
        self._at[self._next] = inspection.frame.taken_at
        self._raw[self._next] = model.median + ratio * (model.threshold - model.median)
        self._ng[self._next] = peak is not None
        self._next = (self._next + 1) % len(self._at)
        self._filled = min(self._filled + 1, len(self._at))

    def since(self, start: float) -> tuple[NDArray[np.float64], NDArray[np.float32], NDArray[np.bool_]]:
        """Times (UTC s), score_ratios at today's alarm level, NG or not, from `start` on, oldest first."""
        order = np.arange(self._next - self._filled, self._next) % len(self._at)
        order = order[self._at[order] >= start]
        if self.model is None:
            return self._at[:0], self._raw[:0], self._ng[:0]
        # An alarm level at the median of good would divide by nothing; whatever is above it is far above.
        span = max(self.model.threshold - self.model.median, 1e-6)
        ratio = (self._raw[order] - self.model.median) / span
        return self._at[order], ratio.astype(np.float32), self._ng[order]


def curve(scores: Scores, now: float, seconds: float, buckets: int = 240) -> Curve:
    """The last `seconds` as at most `buckets` points; buckets without a picture are left out.

    Buckets begin at multiples of their length, so that a curve that is asked for again has moved, not
    changed.
    """
    bucket_s = seconds / buckets
    at, ratio, ng = scores.since(now - seconds)
    seen = at <= now
    at, ratio, ng = at[seen], ratio[seen], ng[seen]
    index = np.floor(at / bucket_s).astype(np.int64)
    starts, place = np.unique(index, return_inverse=True)
    highest = np.full(len(starts), -np.inf, np.float32)
    np.maximum.at(highest, place, ratio)
    counts = np.bincount(place, minlength=len(starts))
    share = np.bincount(place, weights=ng, minlength=len(starts)) / np.maximum(counts, 1)
    return Curve(bucket_s, starts.astype(np.float64) * bucket_s, highest, share.astype(np.float32))


def cost(
    scores: Scores, now: float, level: float, *, on_frames: int, off_frames: int, seconds: float = 3600.0
) -> Cost:
    """How often an alarm at `level` (1.0 = as now) would have opened on the pictures of the last `seconds`.

    The picture's highest score decides here, one alarm at a time; the line itself follows each region, so
    this is an estimate. Below the present level it counts every picture above `level`, whatever the size of
    its spots.
    """
    at, ratio, _ = scores.since(now - seconds)
    at, ratio = at[at <= now], ratio[at <= now]
    above = ratio >= level
    alarms, run, quiet, is_open = 0, 0, 0, False
    for bad in above.tolist():
        run, quiet = (run + 1, 0) if bad else (0, quiet + 1)
        if not is_open and run >= on_frames:
            alarms, is_open = alarms + 1, True
        elif is_open and quiet >= off_frames:
            is_open = False
    hours = float(at.max() - at.min()) / 3600 if len(at) > 1 else 0.0
    return Cost(len(at), int(above.sum()), alarms, hours)
