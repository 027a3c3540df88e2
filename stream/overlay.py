"""Inspection → picture a person understands (pure: arrays in, arrays out).

The anomaly map is drawn in one fixed colour scale over calibrated values, 1.0 = alarm level: nothing below
LOW, then teal to yellow up to the alarm level, red only above it. Red is drawn only inside a defect's box,
so a part without a defect never has any, whatever single pixels of its map say. The scale is ours.
"""

from dataclasses import dataclass
from datetime import UTC, datetime

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.core import Defect, Inspection

Pixels = NDArray[np.uint8]

SCALE_TOP = 2.0
LOW = 0.4
# One step of the 256-entry table below the alarm level.
_BELOW_ALARM = 1.0 - SCALE_TOP / 256
_MAX_BOXES = 40
_JPEG_PX = 65_500
_FONT = cv2.FONT_HERSHEY_SIMPLEX
_BOX_RGB = (230, 30, 40)
_PAPER_RGB = (28, 32, 38)
_INK_RGB = (236, 239, 244)
_DIM_RGB = (160, 168, 180)

# (calibrated value, (R, G, B), share of colour over the picture); straight lines between.
_STOPS: tuple[tuple[float, tuple[int, int, int], float], ...] = (
    (0.0, (0, 140, 160), 0.0),
    (LOW, (0, 140, 160), 0.0),
    (0.7, (70, 190, 140), 0.30),
    (0.999, (250, 220, 60), 0.50),
    (1.0, (240, 70, 20), 0.55),
    (SCALE_TOP, (190, 0, 40), 0.70),
)


@dataclass(frozen=True, slots=True)
class Absence:
    """Why a camera shows no picture: what to print instead. `since` is UTC seconds."""

    title: str
    reason: str
    since: float


def colour(values: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Calibrated values of any shape → colours (…, 3) in 0–255 and their share (…,) in 0–1."""
    at = [stop[0] for stop in _STOPS]
    rgb = [np.interp(values, at, [stop[1][i] for stop in _STOPS]) for i in range(3)]
    share = np.interp(values, at, [stop[2] for stop in _STOPS])
    return np.stack(rgb, axis=-1).astype(np.float32), share.astype(np.float32)


def legend() -> list[tuple[float, str]]:
    """The scale for a page: (calibrated value, CSS colour), to be drawn as a gradient."""
    return [(value, f"rgba({r},{g},{b},{share:.2f})") for value, (r, g, b), share in _STOPS]


def draw(inspection: Inspection, max_width_px: int | None = None) -> Pixels:
    """The frame with map and boxes, (h, w, 3) uint8 RGB, not wider than `max_width_px`, aspect kept."""
    frame = inspection.frame.pixels
    picture = plain(frame, max_width_px)
    scale = (picture.shape[1] / frame.shape[1], picture.shape[0] / frame.shape[0])
    boxes = [_scaled(defect, scale) for defect in inspection.defects[:_MAX_BOXES]]
    painted = _paint(picture, inspection.map_small, boxes)
    for defect, box in zip(inspection.defects, boxes, strict=False):
        _draw_box(painted, box, f"{defect.peak:.1f}x")
    return painted


def plain(pixels: Pixels, max_width_px: int | None = None) -> Pixels:
    """The picture itself, not wider than `max_width_px` nor higher than four times that, and never longer
    than a JPEG's side; the same array if it fits.
    """
    height, width = pixels.shape[:2]
    widest = _JPEG_PX if max_width_px is None else max_width_px
    scale = min(1.0, widest / width, min(_JPEG_PX, 4 * widest) / height)
    if scale == 1.0:
        return pixels
    size = (max(2, round(width * scale)), max(2, round(height * scale)))  # video has no odd sides
    return np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)


def absent(absence: Absence, now: float, size: tuple[int, int] = (640, 480)) -> Pixels:
    """A picture (height, width = size reversed) that says since when and why there is none; uint8 RGB."""
    width, height = size
    picture = np.full((height, width, 3), _PAPER_RGB, np.uint8)
    since = datetime.fromtimestamp(absence.since, UTC).strftime("%Y-%m-%d %H:%M:%S UTC")
    lines = [(f"for {duration_text(now - absence.since)}", _INK_RGB), (f"since {since}", _DIM_RGB)]
    lines += [(line, _DIM_RGB) for line in _wrapped(absence.reason, width - 48, 0.6)[:6]]
    y = _text(picture, absence.title, (24, height // 4), 1.3, _INK_RGB, 2)
    for line, ink in lines:
        y = _text(picture, line, (24, y + 14), 0.6, ink, 1)
    return picture


def duration_text(seconds: float) -> str:
    """`75` → `1 min 15 s`; two units at most, never negative."""
    total = max(0, int(seconds))
    for unit_s, name, smaller_s, smaller in (
        (86400, "d", 3600, "h"),
        (3600, "h", 60, "min"),
        (60, "min", 1, "s"),
    ):
        if total >= unit_s:
            return f"{total // unit_s} {name} {total % unit_s // smaller_s} {smaller}"
    return f"{total} s"


def encode_jpeg(pixels: Pixels, quality: int = 80) -> bytes:
    """(H, W, 3) uint8 RGB → JPEG."""
    done, data = cv2.imencode(
        ".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, quality]
    )
    if not done:
        raise ValueError(f"OpenCV could not encode a picture of shape {pixels.shape}")
    return data.tobytes()


def _table() -> tuple[Pixels, Pixels]:
    """(256, 1, 3) tables by value × 256 / SCALE_TOP: colour times its share, and what is left of the
    picture.
    """
    rgb, share = colour(np.arange(256, dtype=np.float32) * (SCALE_TOP / 256))
    share = share[:, None]
    added = np.rint(rgb * share).astype(np.uint8)
    kept = np.repeat(np.rint(255 * (1 - share)), 3, axis=1).astype(np.uint8)
    return added[:, None], kept[:, None]


_ADDED, _KEPT = _table()


def _paint(picture: Pixels, map_small: NDArray[np.float32], boxes: list[tuple[int, int, int, int]]) -> Pixels:
    values = np.nan_to_num(map_small, nan=0.0, posinf=SCALE_TOP, neginf=0.0)
    values = np.asarray(cv2.resize(values, picture.shape[1::-1], interpolation=cv2.INTER_LINEAR), np.float32)
    capped = np.minimum(values, _BELOW_ALARM)
    for x0, y0, x1, y1 in boxes:
        capped[y0:y1, x0:x1] = values[y0:y1, x0:x1]
    # Table look-ups on bytes: a float blend of a 720p picture costs ten times as much.
    index = np.clip(capped * (256 / SCALE_TOP), 0, 255).astype(np.uint8)
    index3 = cv2.merge((index, index, index))
    kept = cv2.multiply(picture, cv2.LUT(index3, _KEPT), scale=1 / 255)
    return np.asarray(cv2.add(kept, cv2.LUT(index3, _ADDED)), np.uint8)


def _scaled(defect: Defect, scale: tuple[float, float]) -> tuple[int, int, int, int]:
    """The box in pixels of the drawn picture, rounded outwards."""
    x0, y0, x1, y1 = defect.box
    return int(x0 * scale[0]), int(y0 * scale[1]), int(np.ceil(x1 * scale[0])), int(np.ceil(y1 * scale[1]))


def _draw_box(picture: Pixels, box: tuple[int, int, int, int], label: str) -> None:
    """A red frame around the box with a white hair line, so that it shows on red and on dark parts too."""
    x0, y0, x1, y1 = box
    cv2.rectangle(picture, (x0 - 4, y0 - 4), (x1 + 3, y1 + 3), (255, 255, 255), 1)
    cv2.rectangle(picture, (x0 - 2, y0 - 2), (x1 + 1, y1 + 1), _BOX_RGB, 2)
    (width, height), base = cv2.getTextSize(label, _FONT, 0.5, 1)
    top = (
        y0 - 6 - height - base
        if y0 - 6 - height - base >= 0
        else min(y1 + 6, picture.shape[0] - height - base)
    )
    left = max(0, min(x0 - 4, picture.shape[1] - width - 6))
    cv2.rectangle(picture, (left, top), (left + width + 6, top + height + base), _BOX_RGB, cv2.FILLED)
    cv2.putText(picture, label, (left + 3, top + height), _FONT, 0.5, (255, 255, 255), 1, cv2.LINE_AA)


def _text(
    picture: Pixels, text: str, at: tuple[int, int], size: float, ink: tuple[int, int, int], bold: int
) -> int:
    """Print one line with its top at `at`; returns the y below it. OpenCV's fonts know ASCII for sure."""
    text = text.encode("ascii", "replace").decode()
    (_, height), base = cv2.getTextSize(text, _FONT, size, bold)
    cv2.putText(picture, text, (at[0], at[1] + height), _FONT, size, ink, bold, cv2.LINE_AA)
    return at[1] + height + base


def _wrapped(text: str, width_px: int, size: float) -> list[str]:
    lines: list[str] = []
    for word in text.split():
        longer = f"{lines[-1]} {word}" if lines else word
        fits = cv2.getTextSize(longer, _FONT, size, 1)[0][0] <= width_px
        lines[len(lines) - bool(lines and fits) :] = [longer if fits else word]
    return lines
