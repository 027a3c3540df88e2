"""Defects drawn onto a part (ours): one function a kind, and a mask that is true by construction.

The mask of a defect is where the picture changed by more than a person overlooks, not where we meant to draw.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from .looks import Part, Picture, Rng

Mask = NDArray[np.bool_]
Point = tuple[float, float]

# Levels of 255 (largest of the three channels) from which a changed pixel belongs to the mask.
_VISIBLE_LEVELS = 14
_MIN_AREA_PX, _MIN_SIDE_PX, _MAX_SIDE_PX = 90, 12, 80
_LEAST_ON_PART = 0.8  # a stain that is nearly all in a bore would be nothing to find
_TRIES = 30


@dataclass(frozen=True, slots=True, eq=False)
class Flaw:
    """A part with one defect: `pixels` (h, w, 3) uint8 and `mask` (h, w) bool, in part pixels."""

    kind: str
    pixels: Picture
    mask: Mask


def add(part: Part, kind: str, rng: Rng) -> Flaw:
    """Draw a defect of this kind on the part, 12 to 80 px long and visible. KeyError for an unknown kind."""
    draw = KINDS[kind]
    best: Flaw | None = None
    for _ in range(_TRIES):
        drawn = draw(part.pixels.copy(), part, _place(part, kind, rng), rng)
        flaw = Flaw(
            kind, np.where(part.solid[..., None], drawn, part.pixels), _changed(drawn, part) & part.solid
        )
        if _fits(flaw.mask) and flaw.mask.sum() >= _LEAST_ON_PART * _changed(drawn, part).sum():
            return flaw
        if best is None or flaw.mask.sum() > best.mask.sum():
            best = flaw
    assert best is not None
    return best


def _changed(pixels: Picture, part: Part) -> Mask:
    changed = np.abs(pixels.astype(np.int16) - part.pixels).max(axis=2) > _VISIBLE_LEVELS
    return cv2.morphologyEx(changed.astype(np.uint8), cv2.MORPH_CLOSE, np.ones((5, 5), np.uint8)).astype(bool)


def _fits(mask: Mask) -> bool:
    if mask.sum() < _MIN_AREA_PX:
        return False
    x0, y0, x1, y1 = box_of(mask)
    return _MIN_SIDE_PX <= max(x1 - x0, y1 - y0) <= _MAX_SIDE_PX


def box_of(mask: Mask) -> tuple[int, int, int, int]:
    """The box (x0, y0, x1, y1), ends exclusive, of a mask that isn't empty."""
    ys, xs = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    return int(xs[0]), int(ys[0]), int(xs[-1]) + 1, int(ys[-1]) + 1


def _place(part: Part, kind: str, rng: Rng) -> Point:
    """Somewhere on the part; missing print needs print."""
    height, width = part.alpha.shape
    if kind == "missing_print" and part.printed:
        x0, y0, x1, y1 = part.printed[int(rng.integers(len(part.printed)))]
        return float(rng.uniform(x0 + 12, x1 - 12)), float(rng.uniform(y0 + 8, y1 - 8))
    return float(rng.uniform(0.12, 0.88) * width), float(rng.uniform(0.14, 0.86) * height)


def _mix(pixels: Picture, cover: NDArray[np.float32], colour: Sequence[float]) -> Picture:
    """Lay a colour over the picture where `cover` (h, w) in [0, 1] says so."""
    a = cover[..., None]
    return np.asarray(np.clip(pixels * (1 - a) + np.asarray(colour, np.float32) * a, 0, 255), np.uint8)


def _spot(
    shape: tuple[int, int], at: Point, radius: float, rng: Rng, rough: float = 0.22
) -> NDArray[np.float32]:
    """Coverage of an irregular round spot, (h, w) float32 with a soft edge."""
    turn = np.linspace(0, 2 * np.pi, 28, endpoint=False)
    wobble = sum(rng.normal(0, rough / k) * np.cos(k * turn + rng.uniform(0, 6.3)) for k in (1, 2, 3, 4))
    r = radius * np.clip(1 + np.asarray(wobble), 0.4, 1.6)
    squash = rng.uniform(0.7, 1.0)
    points = np.stack([at[0] + r * np.cos(turn), at[1] + squash * r * np.sin(turn)], axis=1)
    cover = np.zeros(shape, np.float32)
    cv2.fillPoly(cover, [np.rint(points * 8).astype(np.int32)], 1.0, cv2.LINE_AA, 3)
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), 1.2), np.float32)


def _walk(at: Point, length: float, bend: float, rng: Rng, steps: int = 9) -> NDArray[np.int32]:
    """A line of `length` px centred near `at` that bends at random, in 1/8 px, (steps, 1, 2)."""
    angles = rng.uniform(0, 2 * np.pi) + np.cumsum(rng.normal(0, bend, steps))
    moves = np.stack([np.cos(angles), np.sin(angles)], axis=1) * (length / steps)
    points = np.cumsum(moves, axis=0)
    points += np.asarray(at) - points.mean(axis=0)
    return np.rint(points * 8).astype(np.int32).reshape(-1, 1, 2)


def _stroke(shape: tuple[int, int], line: NDArray[np.int32], width: int, soft: float) -> NDArray[np.float32]:
    cover = np.zeros(shape, np.float32)
    cv2.polylines(cover, [line], False, 1.0, width, cv2.LINE_AA, 3)
    return np.asarray(cv2.GaussianBlur(cover, (0, 0), soft), np.float32)


def _local(pixels: Picture, at: Point) -> float:
    x, y = int(at[0]), int(at[1])
    return float(pixels[max(0, y - 10) : y + 10, max(0, x - 10) : x + 10].mean())


def _scratch(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    line = _walk(at, rng.uniform(35, 78), 0.06, rng)
    cover = _stroke(part.alpha.shape, line, int(rng.integers(3, 5)), 0.7)
    bright = _local(pixels, at) < 200
    edge = np.roll(cover, 2, axis=0) * 0.6
    pixels = _mix(pixels, edge, (60, 60, 62))
    return _mix(pixels, cover * 0.9, (244, 244, 246) if bright else (70, 66, 62))


def _dent(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """A pressed-in round: dark on the side of the light, bright on the other."""
    radius = rng.uniform(10, 24)
    height, width = part.alpha.shape
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = (x - at[0]) / radius, (y - at[1]) / (radius * rng.uniform(0.75, 1.0))
    bowl = np.exp(-((dx**2 + dy**2) ** 1.5))
    shade = bowl * (dx + dy) * 85 - bowl * 18
    return np.asarray(np.clip(pixels + shade[..., None], 0, 255), np.uint8)


def _stain(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """Something wet that dried: it darkens, with a darker rim."""
    cover = _spot(part.alpha.shape, at, rng.uniform(10, 34), rng)
    rim = np.abs(cv2.Laplacian(cv2.GaussianBlur(cover, (0, 0), 2.0), cv2.CV_32F)) * 4
    tint = np.asarray(rng.choice([(0.52, 0.42, 0.28), (0.40, 0.38, 0.36), (0.45, 0.50, 0.36)]), np.float32)
    strength = np.clip(cover * rng.uniform(0.75, 1.0) + rim, 0, 1)[..., None]
    return np.asarray(np.clip(pixels * (1 - strength * (1 - tint)), 0, 255), np.uint8)


def _crack(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    line = _walk(at, rng.uniform(45, 85), 0.55, rng, steps=12)
    cover = _stroke(part.alpha.shape, line, 2, 0.6)
    branch = line[4] + _walk((0, 0), rng.uniform(15, 30), 0.4, rng, steps=6)
    cover = np.maximum(cover, _stroke(part.alpha.shape, branch.astype(np.int32), 2, 0.5))
    return _mix(pixels, np.clip(cover * 1.3, 0, 1), (18, 17, 17))


def _contamination(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """A curled fibre or a chip that lies on the part, with its shadow."""
    line = _walk(at, rng.uniform(50, 95), 0.65, rng, steps=14)
    cover = _stroke(part.alpha.shape, line, int(rng.integers(3, 5)), 0.6)
    pixels = _mix(pixels, np.roll(cover, (3, 3), (0, 1)) * 0.5, (30, 30, 30))
    colour = rng.choice([(32, 60, 130), (120, 34, 30), (36, 34, 32), (150, 120, 30)])
    return _mix(pixels, np.clip(cover * 1.2, 0, 1), colour)


def _blob(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """A drop of glue or paint: opaque, with a highlight."""
    radius = rng.uniform(7, 20)
    cover = _spot(part.alpha.shape, at, radius, rng, rough=0.12)
    colour = rng.choice([(196, 160, 40), (44, 120, 70), (170, 50, 48), (238, 236, 224)])
    pixels = _mix(pixels, np.roll(cover, (2, 2), (0, 1)) * 0.45, (20, 20, 20))
    pixels = _mix(pixels, cover * 0.92, colour)
    shine = _spot(part.alpha.shape, (at[0] - radius / 3, at[1] - radius / 3), radius / 4, rng)
    return _mix(pixels, shine * 0.7, (255, 255, 255))


def _missing_print(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """The printer left something out: paper where ink should be."""
    w, h = rng.uniform(26, 74), rng.uniform(16, 40)
    cover = np.zeros(part.alpha.shape, np.float32)
    cv2.rectangle(
        cover, (int(at[0] - w / 2), int(at[1] - h / 2)), (int(at[0] + w / 2), int(at[1] + h / 2)), 1.0, -1
    )
    worn = np.asarray(cv2.GaussianBlur(rng.standard_normal(cover.shape).astype(np.float32), (0, 0), 1.5))
    patchy = cv2.GaussianBlur(cover, (0, 0), 1.0) * np.clip(1.02 - 0.25 * np.abs(worn), 0, 1)
    return _mix(pixels, np.asarray(patchy, np.float32), (230, 229, 224))


def _tear(pixels: Picture, part: Part, at: Point, rng: Rng) -> Picture:
    """The top layer came off: the rough brown fibre below shows."""
    cover = _spot(part.alpha.shape, at, rng.uniform(12, 30), rng, rough=0.35)
    grain = cv2.GaussianBlur(rng.standard_normal(part.alpha.shape).astype(np.float32), (0, 0), 1.0) * 26
    below = np.clip(np.asarray((120, 84, 52), np.float32) + grain[..., None], 0, 255)
    a = (cover * 0.95)[..., None]
    return np.asarray(np.clip(pixels * (1 - a) + below * a, 0, 255), np.uint8)


KINDS: dict[str, Callable[[Picture, Part, Point, Rng], Picture]] = {
    "scratch": _scratch,
    "dent": _dent,
    "stain": _stain,
    "crack": _crack,
    "contamination": _contamination,
    "blob": _blob,
    "missing_print": _missing_print,
    "tear": _tear,
}
