"""What passes the camera: belts and parts of two looks, drawn from a random generator (ours).

A part is drawn once and cached by its caller; nothing here is called per frame. Pictures are uint8 RGB, (h,
w, 3);
`alpha` is float32 in [0, 1], (h, w), 1 where the part covers the belt.
"""

from collections.abc import Callable
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

Picture = NDArray[np.uint8]
Plane = NDArray[np.float32]
Rng = np.random.Generator


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """A drawn part: `pixels` (h, w, 3) uint8, `alpha` (h, w) float32, `solid` (h, w) bool where there is
    material that a defect can lie on (not in a bore), `printed` boxes (x0, y0, x1, y1) with ink.
    """

    pixels: Picture
    alpha: Plane
    solid: NDArray[np.bool_]
    printed: tuple[tuple[int, int, int, int], ...] = ()


def _noise(rng: Rng, height: int, width: int, blur_px: tuple[float, float]) -> Plane:
    """Smooth noise of mean 0 and deviation 1, (height, width), that tiles horizontally; `blur_px` is (x,
    y) sigma.
    """
    pad = int(3 * max(blur_px)) + 1
    plane = rng.standard_normal((height, width)).astype(np.float32)
    wrapped = cv2.copyMakeBorder(plane, pad, pad, pad, pad, cv2.BORDER_WRAP)
    soft = cv2.GaussianBlur(wrapped, (0, 0), sigmaX=max(blur_px[0], 0.1), sigmaY=max(blur_px[1], 0.1))
    plane = np.asarray(soft[pad:-pad, pad:-pad], np.float32)
    return np.asarray((plane - plane.mean()) / (plane.std() + 1e-6), np.float32)


def _paint(plane: Plane, colour: tuple[float, float, float]) -> NDArray[np.float32]:
    """A colour for each pixel: `colour` plus the plane on all three channels, (h, w, 3) float32."""
    return plane[..., None] + np.asarray(colour, np.float32)


def _bytes(values: NDArray[np.float32]) -> Picture:
    return np.clip(np.rint(values), 0, 255).astype(np.uint8)


def rounded_alpha(height: int, width: int, radius_px: int) -> Plane:
    """The coverage of a rounded rectangle that fills the picture, with a soft edge, (height, width)
    float32.
    """
    alpha = np.zeros((height, width), np.float32)
    m, r = 2, radius_px
    cv2.rectangle(alpha, (m + r, m), (width - 1 - m - r, height - 1 - m), 1.0, -1)
    cv2.rectangle(alpha, (m, m + r), (width - 1 - m, height - 1 - m - r), 1.0, -1)
    for x in (m + r, width - 1 - m - r):
        for y in (m + r, height - 1 - m - r):
            cv2.circle(alpha, (x, y), r, 1.0, -1)
    return np.asarray(cv2.GaussianBlur(alpha, (0, 0), 0.8), np.float32)


# --- machined: a milled aluminium plate on a dark rubber belt -----------------------------------------------


def machined_belt(rng: Rng, height: int, width: int) -> Picture:
    """Dark rubber with a fine grain; tiles horizontally."""
    weave = np.sin(np.arange(width, dtype=np.float32) * (2 * np.pi * 80 / width))[None, :]
    plane = (
        2.5 * _noise(rng, height, width, (0.8, 0.8)) + 2.0 * _noise(rng, height, width, (9, 4)) + 1.5 * weave
    )
    return _bytes(_paint(np.asarray(plane, np.float32), (46, 50, 52)))


def machined_part(rng: Rng, scale: float) -> Part:
    """A plate with brushed grain, a turned seat with a bore, four screw holes and an engraved number."""
    width, height = int(400 * scale), int(310 * scale)
    tone = 168 + rng.normal(0, 2.5)
    grain = 5.0 * _noise(rng, height, width, (22, 0.5)) + 2.5 * _noise(rng, height, width, (40, 18))
    pixels = _paint(grain, (tone, tone + 2, tone + 5))
    alpha = rounded_alpha(height, width, int(20 * scale))
    _bevel(pixels, alpha)
    _turned_seat(pixels, (width // 2, int(height * 0.46)), scale, rng)
    for x in (0.1, 0.9):
        for y in (0.13, 0.87):
            centre = (int(width * x + rng.normal(0, 0.6)), int(height * y + rng.normal(0, 0.6)))
            _hole(pixels, centre, int(13 * scale))
    _engrave(pixels, "LW-204", (int(width * 0.36), int(height * 0.92)), 0.85 * scale)
    return Part(_bytes(pixels), alpha, (alpha > 0.5) & (pixels.max(axis=2) > 70))


def _bevel(pixels: NDArray[np.float32], alpha: Plane) -> None:
    """Light from the upper left on the milled edge."""
    soft = cv2.GaussianBlur(alpha, (0, 0), 3.0)
    slope = cv2.Sobel(soft, cv2.CV_32F, 1, 0) + cv2.Sobel(soft, cv2.CV_32F, 0, 1)
    pixels += (np.clip(slope, -0.7, 0.7) * 60)[..., None]


def _disc(radius: Plane, edge: float) -> Plane:
    """1 inside, 0 outside, with an edge about 2 px soft."""
    return np.asarray(1 / (1 + np.exp(np.clip((radius - edge) * 1.2, -30, 30))), np.float32)


def _turned_seat(pixels: NDArray[np.float32], centre: tuple[int, int], scale: float, rng: Rng) -> None:
    """Concentric turning marks with the two bright fans that a lathe leaves, and a dark bore in the
    middle.
    """
    height, width = pixels.shape[:2]
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    dx, dy = x - centre[0], y - centre[1]
    radius = np.hypot(dx, dy) / scale
    rings = 3.0 * np.sin(radius * 1.9 + rng.uniform(0, 6)) + 14 * np.cos(2 * np.arctan2(dy, dx) + 0.9)
    seat = _disc(radius, 92)
    pixels += (seat * (rings - 14))[..., None]
    pixels -= (np.exp(-(((radius - 93) / 2.2) ** 2)) * 55)[..., None]
    bore = _disc(radius, 40)
    pixels *= (1 - bore)[..., None]
    pixels += (bore * (24 + 6 * np.clip(-dy / 40, -1, 1)))[..., None]
    pixels += (np.exp(-(((radius - 44) / 2.0) ** 2)) * 38)[..., None]


def _hole(pixels: NDArray[np.float32], centre: tuple[int, int], radius: int) -> None:
    cv2.circle(pixels, centre, radius + 4, (205.0, 207.0, 210.0), 3, cv2.LINE_AA)
    cv2.circle(pixels, centre, radius, (26.0, 27.0, 29.0), -1, cv2.LINE_AA)


def _engrave(pixels: NDArray[np.float32], text: str, origin: tuple[int, int], size: float) -> None:
    _write(pixels, text, (origin[0] + 1, origin[1] + 1), size, (214, 216, 219))
    _write(pixels, text, origin, size, (84, 86, 90))


def _write(
    pixels: NDArray[np.float32], text: str, origin: tuple[int, int], size: float, colour: tuple[float, ...]
) -> None:
    """Text in place; by way of a byte mask, because putText of OpenCV 5 takes bytes only."""
    ink = np.zeros(pixels.shape[:2], np.uint8)
    cv2.putText(ink, text, origin, cv2.FONT_HERSHEY_SIMPLEX, size, 255, 2, cv2.LINE_AA)
    cover = (ink.astype(np.float32) / 255)[..., None]
    pixels += cover * (np.asarray(colour, np.float32) - pixels)


# --- label: a printed label on a kraft carton -------------------------------------------------------


def label_belt(rng: Rng, height: int, width: int) -> Picture:
    """Blue-grey plastic belt links."""
    x = np.arange(width, dtype=np.float32)
    links = -9.0 * (np.abs((x % 80) - 40) > 37.5).astype(np.float32)[None, :]
    plane = 1.5 * _noise(rng, height, width, (0.7, 0.7)) + 2.0 * _noise(rng, height, width, (14, 14)) + links
    return _bytes(_paint(np.asarray(plane, np.float32), (88, 102, 112)))


def label_part(rng: Rng, scale: float) -> Part:
    """A kraft carton from above, with a white label: a colour bar, lines of text, a mark and a bar code."""
    width, height = int(460 * scale), int(370 * scale)
    fibres = 3.5 * _noise(rng, height, width, (5, 0.7)) + 2.5 * _noise(rng, height, width, (0.8, 4))
    pixels = _paint(fibres + 3 * _noise(rng, height, width, (30, 30)), (176, 142, 104))
    alpha = rounded_alpha(height, width, int(8 * scale))
    _bevel(pixels, alpha)
    pixels[height // 2 - 1 : height // 2 + 2] -= 26  # where the flaps meet
    shift = rng.normal(0, 1.5, 2)
    corner = (int(60 * scale + shift[0]), int(48 * scale + shift[1]))
    printed = _label(pixels, corner, (int(340 * scale), int(274 * scale)), scale, rng)
    return Part(_bytes(pixels), alpha, alpha > 0.5, printed)


def _label(
    pixels: NDArray[np.float32], corner: tuple[int, int], size: tuple[int, int], scale: float, rng: Rng
) -> tuple[tuple[int, int, int, int], ...]:
    """Glue a label on the carton; answers the boxes that carry ink."""
    (x, y), (w, h) = corner, size
    ink = 1 + rng.normal(0, 0.03)
    paper = _paint(1.2 * _noise(rng, h, w, (1, 1)), (232, 231, 226))
    shadow = pixels[y + 2 : y + h + 4, x + 2 : x + w + 4]
    shadow -= 30
    s, dark = scale, tuple(float(c * ink) for c in (38, 38, 44))
    cv2.rectangle(paper, (0, 0), (w, int(58 * s)), (32.0 * ink, 84.0 * ink, 148.0 * ink), -1)
    _write(paper, "FINE PARTS", (int(16 * s), int(40 * s)), 1.05 * s, (240, 240, 238))
    for row, text in enumerate(("Art. 4711-B", "Qty 24 pcs", "Lot K 09 26")):
        _write(paper, text, (int(16 * s), int((96 + 36 * row) * s)), 0.72 * s, dark)
    _mark(paper, (int(276 * s), int(118 * s)), s, ink)
    _bar_code(paper, (int(18 * s), int(204 * s)), (int(230 * s), int(54 * s)), dark)
    pixels[y : y + h, x : x + w] = paper
    boxes = ((10, 4, 330, 54), (14, 74, 200, 176), (232, 74, 320, 162), (18, 204, 248, 258))
    return tuple((int(a * s) + x, int(b * s) + y, int(c * s) + x, int(d * s) + y) for a, b, c, d in boxes)


def _mark(paper: NDArray[np.float32], centre: tuple[int, int], scale: float, ink: float) -> None:
    red = (196.0 * ink, 52.0 * ink, 44.0 * ink)
    cv2.circle(paper, centre, int(40 * scale), red, max(2, int(7 * scale)), cv2.LINE_AA)
    points = np.array([(-16, 2), (-5, 14), (18, -14)], np.float32) * scale + np.asarray(centre, np.float32)
    cv2.polylines(paper, [points.astype(np.int32)], False, red, max(2, int(8 * scale)), cv2.LINE_AA)


def _bar_code(
    paper: NDArray[np.float32], at: tuple[int, int], size: tuple[int, int], dark: tuple[float, ...]
) -> None:
    """The same bars on every label: what is printed never differs between good parts."""
    x, stop = at[0], at[0] + size[0]
    widths = np.random.default_rng(4711).integers(2, 7, 200)
    for bar, gap in zip(widths[::2], widths[1::2], strict=True):
        if x + int(bar) >= stop:
            return
        cv2.rectangle(paper, (x, at[1]), (x + int(bar) - 1, at[1] + size[1]), dark, -1)
        x += int(bar) + int(gap)


@dataclass(frozen=True, slots=True)
class Look:
    """One kind of production: how its belt and its parts are drawn, and the defects that happen there."""

    belt: Callable[[Rng, int, int], Picture]
    part: Callable[[Rng, float], Part]
    kinds: tuple[str, ...]


LOOKS = {
    "machined": Look(
        machined_belt, machined_part, ("scratch", "dent", "stain", "crack", "contamination", "blob")
    ),
    "label": Look(
        label_belt, label_part, ("missing_print", "stain", "scratch", "tear", "contamination", "blob")
    ),
}
