"""A production line in front of a fixed camera (ours): a pure function of (look, seed, time).

An indexing belt: a part slides in, stands for a bit more than a second, and slides out while the next comes.
Of four parts one is defective, and at least two good ones come between two of those, so that incidents close.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
from numpy.typing import NDArray

from .flaws import Mask, add, box_of
from .looks import LOOKS, Part, Picture, Rng
from .sensor import Grain
from .shown import Phase, Shot, ShownDefect

CYCLE_S, SLIDE_S = 1.6, 0.16
_START_JITTER_S = 0.2
_VARIANTS = 10  # good parts differ in grain; drawing more of them costs memory and start-up time
_NOISE_LEVELS = 2.2
_NEVER = float("-inf")
_PART, _GROUP_POSITION, _BELT, _TILES, _DEFECT, _VARIANT, _START, _FRAME = range(8)


@dataclass(frozen=True, slots=True, eq=False)
class Station:
    """One part at rest in front of the camera: `pixels` (h, w, 3) uint8 without noise, `mask` (h, w) bool."""

    pixels: Picture
    mask: Mask
    kind: str | None


class ProductionLine:
    """`look` is a key of LOOKS; `size` is (width, height), both even. One thread at a time.

    `defect_share` of the parts have a defect (1/n is exact). Everywhere, parts that start to come in before
    `good_before_s` are good. Raises KeyError for an unknown look.
    """

    def __init__(
        self, look: str, seed: int = 0, size: tuple[int, int] = (640, 480), defect_share: float = 0.25
    ) -> None:
        self.look, self.seed, self.size = look, seed, size
        self._group = round(1 / defect_share) if defect_share > 0 else 0
        self._look = LOOKS[look]
        width, height = size
        self._belt = self._look.belt(self._rng(_BELT), height, width)
        self._light = self._lighting()
        self._grain = Grain(size, _NOISE_LEVELS, self._rng(_TILES))
        self._variant = lru_cache(maxsize=_VARIANTS)(self._draw_variant)
        self._station = lru_cache(maxsize=4)(self._draw_station)

    def _rng(self, *purpose: int) -> Rng:
        return np.random.default_rng([self.seed, *(ord(c) for c in self.look), *purpose])

    # --- what is shown when (cheap, no drawing) ---

    def starts_s(self, index: int) -> float:
        """When part `index` begins to slide in; the line is never empty, part -1 stands there at time 0."""
        return index * CYCLE_S + float(self._rng(_START, index + 1).uniform(0, _START_JITTER_S))

    def index(self, at_s: float) -> int:
        """The part that is in front of the camera, or sliding in, at that time."""
        index = int(at_s // CYCLE_S)
        return index if at_s >= self.starts_s(index) else index - 1

    def defective(self, index: int, good_before_s: float = _NEVER) -> bool:
        """Whether part `index` has a defect."""
        if not self._group or index < 0 or self.starts_s(index) < good_before_s:
            return False
        turn, place = divmod(index, self._group)
        choice = int(self._rng(_GROUP_POSITION, turn).integers(2)) if self._group > 2 else 0
        return place == min(1, self._group - 1) + choice

    def defects(self, index: int, good_before_s: float = _NEVER) -> tuple[ShownDefect, ...]:
        """The defects of part `index` with their boxes and times; draws the part if it is a defective one."""
        if not self.defective(index, good_before_s):
            return ()
        station = self._station(index, True)
        x0, y0, x1, y1 = box_of(station.mask)
        begin, leave = self.starts_s(index), self.starts_s(index + 1)
        return (
            ShownDefect(
                id=f"{self.look}-{self.seed}-{index + 1:06d}",
                kind=station.kind or "",
                box=(x0, y0, x1, y1),
                sweep=(0, y0, self.size[0], y1),
                from_s=begin,
                to_s=leave + SLIDE_S,
                still_from_s=begin + SLIDE_S,
                still_to_s=leave,
            ),
        )

    def shot(self, at_s: float, good_before_s: float = _NEVER) -> Shot:
        """The part at that time."""
        index = self.index(at_s)
        phase: Phase = "learn" if self.starts_s(index) < good_before_s else "live"
        return Shot(f"part-{index + 1:06d}", phase, self.starts_s(index), self.defects(index, good_before_s))

    # --- the picture ---

    def picture(self, at_s: float, good_before_s: float = _NEVER) -> Picture:
        """The frame at that time with flicker, vibration and sensor noise, (h, w, 3) uint8 RGB."""
        index, moved_px = self._slide(at_s)
        here = self._station(index, self.defective(index, good_before_s)).pixels
        if moved_px < self.size[0]:
            before = self._station(index - 1, self.defective(index - 1, good_before_s)).pixels
            here = _slid(before, here, moved_px)
            speed_px = _slide_speed(at_s - self.starts_s(index), self.size[0])
            exposed = cv2.blur(here, (max(1, int(speed_px * 0.004)), 1))  # 4 ms of exposure
            here = np.asarray(exposed, np.uint8)
        return self._sensor(here, at_s)

    def prepare(self, at_s: float, good_before_s: float = _NEVER) -> None:
        """Draw the part of that time, so that its first frame takes no longer than the others."""
        index = self.index(at_s)
        self._station(index, self.defective(index, good_before_s))

    def mask(self, at_s: float, good_before_s: float = _NEVER) -> Mask:
        """Where defects are visible in that frame, (h, w) bool; vibration of ±1 px is not followed."""
        index, moved_px = self._slide(at_s)
        here = self._station(index, self.defective(index, good_before_s)).mask
        if moved_px >= self.size[0]:
            return here
        before = self._station(index - 1, self.defective(index - 1, good_before_s)).mask
        return _slid(before, here, moved_px)

    def _slide(self, at_s: float) -> tuple[int, int]:
        """The part that comes and how far the belt has moved since the one before stood still, in px."""
        index = self.index(at_s)
        share = min(1.0, (at_s - self.starts_s(index)) / SLIDE_S)
        return index, round(self.size[0] * share * share * (3 - 2 * share))

    def _sensor(self, pixels: Picture, at_s: float) -> Picture:
        """Flicker of the lamps (a slow beat with the mains), a vibration of ±1 px, and noise of the
        sensor.
        """
        rng = self._rng(_FRAME, int(at_s * 1000) & 0xFFFFFFFF)
        gain = 1 + 0.012 * np.sin(at_s * 2 * np.pi * 0.9 + self.seed) + float(rng.normal(0, 0.004))
        dx, dy = (int(v) for v in rng.choice((-1, 0, 0, 0, 0, 0, 0, 1), 2))
        if dx or dy:
            pixels = _shifted(pixels, dx, dy)
        return self._grain.over(pixels, float(gain), rng)

    # --- drawing (cached) ---

    def _lighting(self) -> NDArray[np.float32]:
        """A lamp above and to the left: (h, w, 1) float32 around 1."""
        width, height = self.size
        y, x = np.mgrid[0:height, 0:width].astype(np.float32)
        away = np.hypot((x / width - 0.42) * 1.1, y / height - 0.44)
        return np.asarray(1.06 - 0.24 * away**2, np.float32)[..., None]

    def _draw_variant(self, number: int) -> Part:
        scale = min(self.size[0] / 640, self.size[1] / 480)
        return self._look.part(self._rng(_VARIANT, number), scale)

    def _draw_station(self, index: int, defective: bool) -> Station:
        rng = self._rng(_PART, index + 1)
        part = self._variant(int(rng.integers(_VARIANTS)))
        placing = self._placing(part, rng)
        kind, pixels, mask = None, part.pixels, np.zeros(part.alpha.shape, bool)
        if defective:
            kind = self._kind(index)
            flaw = add(part, kind, self._rng(_DEFECT, index))
            pixels, mask = flaw.pixels, flaw.mask
        tone = 1 + rng.normal(0, 0.008)
        frame = self._compose(pixels, part.alpha, placing, tone)
        return Station(frame, self._warp(mask.astype(np.float32), placing) > 0.5, kind)

    def _kind(self, index: int) -> str:
        """Kinds take turns in a shuffled order, so that a short run shows most of them."""
        turn, kinds = index // self._group, self._look.kinds
        order = self._rng(_DEFECT, 1 << 20, turn // len(kinds)).permutation(len(kinds))
        return kinds[int(order[turn % len(kinds)])]

    def _placing(self, part: Part, rng: Rng) -> NDArray[np.float64]:
        """Part pixels → frame pixels, 2×3: centred, off by some px and by up to a degree or so."""
        height, width = part.alpha.shape
        turn = cv2.getRotationMatrix2D(
            (width / 2, height / 2), float(np.clip(rng.normal(0, 0.35), -1, 1)), 1.0
        )
        off = np.clip(rng.normal(0, 1.5, 2), -4, 4)
        turn[:, 2] += (self.size[0] - width) / 2 + off[0], (self.size[1] - height) / 2 + off[1]
        return np.asarray(turn, np.float64)

    def _warp(self, plane: NDArray[np.float32], placing: NDArray[np.float64]) -> NDArray[np.float32]:
        return np.asarray(cv2.warpAffine(plane, placing, self.size, flags=cv2.INTER_LINEAR), np.float32)

    def _compose(
        self, pixels: Picture, alpha: NDArray[np.float32], placing: NDArray[np.float64], tone: float
    ) -> Picture:
        cover = self._warp(alpha, placing)[..., None]
        shadow = cv2.GaussianBlur(np.roll(cover[..., 0], (7, 5), (0, 1)), (0, 0), 5)[..., None]
        belt = self._belt * (1 - 0.55 * shadow)
        part = self._warp(pixels.astype(np.float32), placing) * tone
        frame = (belt * (1 - cover) + part * cover) * self._light
        return np.clip(np.rint(frame), 0, 255).astype(np.uint8)


def _slid(before: NDArray, here: NDArray, moved_px: int) -> NDArray:  # type: ignore[type-arg]
    """The belt runs to the left: the rest of the part before, then as much of this one as has come in."""
    return np.hstack([before[:, moved_px:], here[:, :moved_px]])


def _slide_speed(since_s: float, width: int) -> float:
    """Speed of the belt in px/s while it slides (the derivative of the smooth step)."""
    share = min(1.0, max(0.0, since_s / SLIDE_S))
    return 6 * share * (1 - share) * width / SLIDE_S


def _shifted(pixels: Picture, dx: int, dy: int) -> Picture:
    """Moved by a pixel, with the border repeated."""
    height, width = pixels.shape[:2]
    padded = cv2.copyMakeBorder(pixels, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    return np.asarray(padded[1 - dy : 1 - dy + height, 1 - dx : 1 - dx + width], np.uint8)


def defect_times(line: ProductionLine, seconds: float) -> Sequence[float]:
    """The times at which a defect has come to rest within the first `seconds`, for tests and planning."""
    indices = itertools.takewhile(lambda i: line.starts_s(i) + SLIDE_S < seconds, itertools.count())
    return [line.starts_s(i) + SLIDE_S for i in indices if line.defective(i)]
