"""Pictures and maps as tiles of the report, on one fixed colour scale. Pure.

The scale is of the calibrated map: 0 = median of good, 1 = alarm level, 2 and above = twice that. It
doesn't depend on the picture, and red begins at the alarm level: a good part is never red.
"""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

import cv2
import numpy as np
from numpy.typing import NDArray

TILE_PX = 192
_STEPS = 256
_TOP_VALUE = 2.0
# (calibrated value, RGB); the jump at 1.0 is the alarm level.
_STOPS = [
    (0.0, (14, 20, 44)),
    (0.5, (34, 84, 134)),
    (0.999, (126, 200, 170)),
    (1.0, (196, 24, 32)),
    (1.5, (240, 112, 32)),
    (2.0, (255, 236, 140)),
]


@dataclass(frozen=True, slots=True, eq=False)
class Tile:
    """One picture of the gallery: `pixels` (P, P, 3) uint8, `levels` (P, P) calibrated map, `mask` (P, P)
    or None.
    """

    title: str
    note: str
    pixels: NDArray[np.uint8]
    levels: NDArray[np.float32]
    mask: NDArray[np.bool_] | None = None


def colours(levels: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Calibrated map (h, w) → (h, w, 3) uint8 RGB on the fixed scale; below 0 as 0, above 2 as 2."""
    clipped = np.clip(levels, 0.0, _TOP_VALUE)
    at = [value for value, _ in _STOPS]
    channels = [np.interp(clipped, at, [rgb[c] for _, rgb in _STOPS]) for c in range(3)]
    return np.stack(channels, axis=-1).round().astype(np.uint8)


def gallery(tiles: Sequence[Tile]) -> str:
    """HTML of all tiles: the picture (true defects outlined) and its map beside it."""
    return f'<div class="gallery">{"".join(map(_figure, tiles))}</div>'


def scale_bar() -> str:
    """The colour scale with its meaning, as HTML."""
    ramp = np.linspace(0.0, _TOP_VALUE, _STEPS, dtype=np.float32)[None].repeat(12, axis=0)
    labels = "<span>0 · median of good</span><span>1 · alarm level</span><span>2</span>"
    return (
        f'<div class="scale"><img alt="colour scale" src="{_data_url(colours(ramp))}"><p>{labels}</p></div>'
    )


def _figure(tile: Tile) -> str:
    picture = _small(tile.pixels)
    if tile.mask is not None and tile.mask.any():
        picture = _outlined(picture, tile.mask)
    # Peaks survive the shrinking of the map, as they decide; averaging would hide a small defect.
    heat = colours(_peaks(tile.levels))
    images = "".join(f'<img alt="" src="{_data_url(part)}">' for part in (picture, heat))
    caption = f"<b>{escape(tile.title)}</b><br>{escape(tile.note)}"
    return f"<figure>{images}<figcaption>{caption}</figcaption></figure>"


def _small(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    side = (TILE_PX, TILE_PX)
    return np.asarray(cv2.resize(pixels, side, interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _peaks(levels: NDArray[np.float32]) -> NDArray[np.float32]:
    # Shrinking passes over at most `block` - 1 cells in a line, so a peak is spread that far to either side.
    block = -(-max(levels.shape) // TILE_PX)
    widened = cv2.dilate(levels, np.ones((2 * block - 1, 2 * block - 1), np.uint8))
    side = (TILE_PX, TILE_PX)
    return np.asarray(cv2.resize(widened, side, interpolation=cv2.INTER_NEAREST), dtype=np.float32)


def _outlined(picture: NDArray[np.uint8], mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    big = cv2.resize(mask.view(np.uint8), (TILE_PX, TILE_PX), interpolation=cv2.INTER_NEAREST)
    edges, _ = cv2.findContours(big, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_NONE)
    return np.asarray(cv2.drawContours(picture.copy(), edges, -1, (0, 255, 255), 1), dtype=np.uint8)


def _data_url(pixels: NDArray[np.uint8]) -> str:
    _, encoded = cv2.imencode(".jpg", cv2.cvtColor(pixels, cv2.COLOR_RGB2BGR), [cv2.IMWRITE_JPEG_QUALITY, 85])
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.tobytes()).decode('ascii')}"
