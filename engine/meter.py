"""Counters and histograms of the engine: written by its threads, read by any.

Histograms, not averages: buckets are fixed, so memory is bounded and snapshots can be subtracted.
"""

import threading
from bisect import bisect_left
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field

SECONDS_BOUNDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
BATCH_BOUNDS = (1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 64.0, 128.0)


@dataclass(frozen=True, slots=True)
class Histogram:
    """`counts[i]` values were in (bounds[i-1], bounds[i]]; the last count is of those above every bound."""

    bounds: tuple[float, ...]
    counts: tuple[int, ...]
    total: float = 0.0

    @classmethod
    def empty(cls, bounds: tuple[float, ...]) -> "Histogram":
        return cls(bounds, (0,) * (len(bounds) + 1))

    @property
    def count(self) -> int:
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Upper edge of the bucket that holds the q-quantile; 0.0 when empty, infinity above every bound."""
        wanted, seen = q * self.count, 0
        for edge, count in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += count
            if count and seen >= wanted:
                return edge
        return 0.0


@dataclass(frozen=True, slots=True)
class Snapshot:
    """All numbers since the start: frames by (camera, result), seconds by stage, batch sizes, errors by
    kind."""

    frames: Mapping[tuple[str, str], int]
    stages: Mapping[str, Histogram]
    batch_sizes: Histogram
    errors: Mapping[str, int]


@dataclass(slots=True)
class _Tally:
    bounds: tuple[float, ...]
    counts: list[int] = field(default_factory=list)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def add(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value

    def frozen(self) -> Histogram:
        return Histogram(self.bounds, tuple(self.counts), self.total)


class Meter:
    """Every method may be called from any thread.

    Results of a frame: inspected, displaced, late, refused, removed, stopped, failed, no_model.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._frames: Counter[tuple[str, str]] = Counter()
        self._stages: dict[str, _Tally] = {}
        self._batches = _Tally(BATCH_BOUNDS)
        self._errors: Counter[str] = Counter()

    def frame(self, camera: str, result: str) -> None:
        with self._lock:
            self._frames[camera, result] += 1

    def batch(self, size: int) -> None:
        with self._lock:
            self._batches.add(size)

    def stages(self, seconds: Mapping[str, float]) -> None:
        """Add one duration for each stage that is named."""
        with self._lock:
            for stage, value in seconds.items():
                self._stages.setdefault(stage, _Tally(SECONDS_BOUNDS)).add(value)

    def error(self, kind: str) -> None:
        with self._lock:
            self._errors[kind] += 1

    def forget(self, camera: str) -> None:
        """Drop a removed camera's counters, so that a long life of changing cameras stays bounded."""
        with self._lock:
            for key in [key for key in self._frames if key[0] == camera]:
                del self._frames[key]

    def snapshot(self) -> Snapshot:
        with self._lock:
            return Snapshot(
                dict(self._frames),
                {stage: tally.frozen() for stage, tally in self._stages.items()},
                self._batches.frozen(),
                dict(self._errors),
            )
