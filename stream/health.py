"""Is what a camera shows fit to be inspected? Pure functions over small pictures, each finding with
hysteresis.

Brightness is 0 (black) to 1 (white). Sharpness and place are told against a reference view, the one that the
model was trained on; without one these two checks are silent.
"""

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median

import cv2
import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
Grey = NDArray[np.uint8]

SMALL_PX = 320
FROZEN_LEVELS = 0.15  # mean difference in grey levels; sensor noise alone makes more, also after H.264
_KNOWN = 64  # more than a group of pictures has different ones
_MOTION_LEVELS = 3.0  # of a mean over a 48th of the picture: more than any re-encoding makes
_MARGIN = 0.15  # once said, a finding is taken back only so far beyond its limit
_SURE = 0.2  # phase correlation's response below which an offset is a guess


@dataclass(frozen=True, slots=True)
class HealthLimits:
    """None switches a check off. Names, units and defaults are those of the settings' `health` section."""

    dark_below: float | None = 0.04
    bright_above: float | None = 0.96
    blur_below: float | None = 0.4
    moved_above_px: float | None = 12.0
    rate_below_share: float | None = 0.5
    clock_drift_above_s: float | None = 1.0
    min_duration_s: float = 5.0


@dataclass(frozen=True, slots=True)
class Finding:
    """`kind`: dark, overexposed, blurred, moved, low_rate or clock_drift; `text`: a sentence for a person."""

    kind: str
    text: str


@dataclass(frozen=True, slots=True, eq=False)
class View:
    """What the camera saw when its model was trained: small (h, w) grey, sharpness, (width, height)."""

    grey: Grey
    sharpness: float
    size_px: tuple[int, int]

    @classmethod
    def of(cls, greys: Sequence[Grey], size_px: tuple[int, int]) -> "View":
        """The view of good pictures of one size, by their `small_grey`; what comes and goes averages out."""
        mean = np.mean(np.stack(greys), axis=0).astype(np.uint8)
        return cls(mean, float(np.median([sharpness(grey) for grey in greys])), size_px)


@dataclass(frozen=True, slots=True)
class Rates:
    """What is measured beside the picture: fps wanted and arriving, the camera's clock minus ours."""

    wanted_fps: float | None = None
    fps: float | None = None
    clock_offset_s: float | None = None


def sample(pixels: Pixels, rows: int = 48, columns: int = 64) -> Grey:
    """Green of every n-th pixel, about (rows, columns). Not averaged: noise tells live from frozen."""
    height, width = pixels.shape[:2]
    return pixels[:: max(1, height // rows), :: max(1, width // columns), 1].copy()


def difference(one: Grey, other: Grey) -> float:
    """Mean absolute difference of two small pictures of one size, in grey levels."""
    return float(np.mean(cv2.absdiff(one, other)))


def small_grey(pixels: Pixels) -> Grey:
    """(h, w) uint8, averaged, the longer side at most SMALL_PX. A stride first keeps a 4K picture cheap."""
    step = max(1, max(pixels.shape[:2]) // (2 * SMALL_PX))
    strided = np.ascontiguousarray(pixels[::step, ::step])
    grey = np.asarray(cv2.cvtColor(strided, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
    scale = SMALL_PX / max(grey.shape)
    if scale >= 1:
        return grey
    size = (max(1, round(grey.shape[1] * scale)), max(1, round(grey.shape[0] * scale)))
    return np.asarray(cv2.resize(grey, size, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def brightness(grey: Grey) -> float:
    """Mean brightness, 0–1."""
    return float(np.mean(grey)) / 255.0


def sharpness(grey: Grey) -> float:
    """Variance of the Laplacian over variance of the picture: dimensionless, light and contrast cancel out.

    After Pech-Pacheco et al., "Diatom autofocusing in brightfield microscopy" (ICPR 2000); the normalisation
    is ours. A picture without any contrast has nothing that could be blurred: 1.
    """
    variance = float(np.var(grey.astype(np.float32)))
    if variance < 1.0:
        return 1.0
    return float(np.var(cv2.Laplacian(grey, cv2.CV_32F))) / variance


def offset_px(grey: Grey, view: View) -> tuple[float, float] | None:
    """(x, y) by which the picture lies beside the view, in frame pixels; None if that cannot be told.

    Phase correlation with a Hann window (after Kuglin and Hines, 1975), by OpenCV.
    """
    if grey.shape != view.grey.shape or min(grey.shape) < 16:
        return None
    height, width = grey.shape
    window = cv2.createHanningWindow((width, height), cv2.CV_32F)
    (x, y), response = cv2.phaseCorrelate(view.grey.astype(np.float32), grey.astype(np.float32), window)
    scale = view.size_px[0] / width
    return (x * scale, y * scale) if response >= _SURE else None


class Freshness:
    """Tells new content from repeats (ours).

    A camera whose sensor hangs goes on encoding one picture, and each key picture looks a little different
    from the ones before, but like an earlier key picture. So a picture is compared with all the different
    ones since the last real motion. A live camera that looks at a standing line still has its sensor's noise,
    which never repeats.
    """

    def __init__(self, limit_levels: float = FROZEN_LEVELS) -> None:
        self._limit_levels = limit_levels
        self._known: deque[Grey] = deque(maxlen=_KNOWN)
        self._coarse: NDArray[np.float32] | None = None

    def is_new(self, pixels: Pixels) -> bool:
        """(H, W, 3) uint8; about 0.2 ms."""
        points = sample(pixels)
        coarse = np.asarray(cv2.resize(points, (8, 6), interpolation=cv2.INTER_AREA), dtype=np.float32)
        if self._has_moved(coarse) or self._known[-1].shape != points.shape:
            self._known.clear()
        elif any(difference(points, known) <= self._limit_levels for known in reversed(self._known)):
            return False
        self._coarse = coarse
        self._known.append(points)
        return True

    def _has_moved(self, coarse: NDArray[np.float32]) -> bool:
        return self._coarse is None or bool(np.abs(coarse - self._coarse).max() > _MOTION_LEVELS)


@dataclass
class Held:
    """A finding that is said after it held for `hold_s`, and taken back after it was gone for as long."""

    hold_s: float
    said: bool = False
    _differs_since: float | None = None

    def update(self, found: bool, now: float) -> bool:
        """What is to be said at `now` (monotonic seconds)."""
        if found == self.said:
            self._differs_since = None
        elif self._differs_since is None:
            self._differs_since = now
        if self._differs_since is not None and now - self._differs_since >= self.hold_s:
            self.said, self._differs_since = found, None
        return self.said


class Health:
    """All findings about one camera. Call `update` about once a second while pictures come."""

    def __init__(self, limits: HealthLimits, view: View | None = None) -> None:
        self._limits = limits
        self._view = view
        # Parts that move past pull single offsets along; the median of the last ones is the camera's.
        self._offsets: deque[tuple[float, float]] = deque(maxlen=7)
        self._held: dict[str, Held] = {}
        self._texts: dict[str, str] = {}

    def retune(self, limits: HealthLimits) -> None:
        """Other limits from now on; what is said stays until it is over by them."""
        self._limits = limits
        for held in self._held.values():
            held.hold_s = limits.min_duration_s

    def set_view(self, view: View | None) -> None:
        """Compare with another view from now on."""
        self._view = view
        self._offsets.clear()

    def update(self, grey: Grey, rates: Rates, now: float) -> tuple[Finding, ...]:
        """The findings that hold at `now` (monotonic seconds), sorted by kind."""
        found = dict(self._picture(grey) + self._place(grey) + self._rates(rates))
        self._texts |= found
        for kind in found.keys() - self._held.keys():
            self._held[kind] = Held(self._limits.min_duration_s)
        said = [kind for kind, held in self._held.items() if held.update(kind in found, now)]
        return tuple(Finding(kind, self._texts[kind]) for kind in sorted(said))

    def _picture(self, grey: Grey) -> list[tuple[str, str]]:
        light, limits = brightness(grey), self._limits
        if self._below("dark", light, limits.dark_below):
            return [("dark", f"the picture is dark: brightness {light:.2f}")]
        if self._above("overexposed", light, limits.bright_above):
            return [("overexposed", f"the picture is overexposed: brightness {light:.2f}")]
        if self._view is None or self._view.sharpness <= 0:
            return []
        share = sharpness(grey) / self._view.sharpness
        if self._below("blurred", share, limits.blur_below):
            return [("blurred", f"the picture is blurred: {share:.0%} of the trained view's sharpness")]
        return []

    def _place(self, grey: Grey) -> list[tuple[str, str]]:
        at = offset_px(grey, self._view) if self._view else None
        if at is None:
            return []
        self._offsets.append(at)
        at = median(x for x, _ in self._offsets), median(y for _, y in self._offsets)
        if not self._above("moved", max(map(abs, at)), self._limits.moved_above_px):
            return []
        text = f"the view moved by {at[0]:+.0f}, {at[1]:+.0f} px; the model no longer fits: train it again"
        return [("moved", text)]

    def _rates(self, rates: Rates) -> list[tuple[str, str]]:
        found = []
        if rates.fps is not None and rates.wanted_fps:
            share = rates.fps / rates.wanted_fps
            if self._below("low_rate", share, self._limits.rate_below_share):
                text = f"{rates.fps:.1f} frames a second arrive, {rates.wanted_fps:g} wanted"
                found.append(("low_rate", text))
        drift_s = rates.clock_offset_s
        if drift_s is not None and self._above("clock_drift", abs(drift_s), self._limits.clock_drift_above_s):
            found.append(("clock_drift", f"the camera's clock is {drift_s:+.1f} s beside ours; set up NTP"))
        return found

    def _below(self, kind: str, value: float, limit: float | None) -> bool:
        return limit is not None and value < limit * (1 + _MARGIN * self._is_said(kind))

    def _above(self, kind: str, value: float, limit: float | None) -> bool:
        return limit is not None and value > limit * (1 - _MARGIN * self._is_said(kind))

    def _is_said(self, kind: str) -> bool:
        return kind in self._held and self._held[kind].said
