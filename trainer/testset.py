"""Test pictures and their masks, in MVTec layout. Only evaluation opens this; training can't reach it.

DATA/test/good/*            good pictures
DATA/test/KIND/NAME.png     defective ones, any number of kinds
DATA/ground_truth/KIND/NAME_mask.png   (or NAME.png), of the picture's size, 0 = good

Hidden folders are no kinds.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.core import SUFFIXES
from engine.tiles import ONE, Tiling

from .dataset import list_pictures, read_picture, unreadable
from .errors import DataError

GOOD = "good"
Mask = NDArray[np.bool_]
# Soft edges are so wide at most, and the noise of a JPEG (quality 75 or better) stays below such a share of
# its brightest value. Both are ours.
_EDGE_PX, _NOISE = 2, 1 / 6


@dataclass(frozen=True, slots=True, eq=False)
class TestPicture:
    """One test picture at the size that the model's tiles need together; in one of 1x1 at network size.

    `pixels` (h, w, 3) uint8 RGB; `mask` (h, w) bool, by nearest neighbour, None where no mask is given
    (then the picture counts for image scores only). `mask_path` leads to the mask at the picture's own
    size.
    """

    __test__ = False

    path: Path
    kind: str
    pixels: NDArray[np.uint8]
    mask: Mask | None
    size: tuple[int, int]
    mask_path: Path | None = None

    @property
    def good(self) -> bool:
        return self.kind == GOOD


def load_test(data: Path, input_px: int, tiles: str = ONE) -> list[TestPicture]:
    """Every test picture under `data`, good ones first, then kind by kind.

    Raises DataError, in one sentence: no test folder, one that can't be read, no pictures in it, an
    unreadable picture, a mask that is missing while others of its kind are there, is unreadable, or has
    another size than its picture.
    """
    tiling = Tiling.of(input_px, tiles)
    try:
        pictures = [
            _load(data, path, folder.name, tiling)
            for folder in _kinds(data)
            for path in list_pictures(folder)
        ]
    except OSError as error:
        raise unreadable(Path(error.filename or data), error) from error
    if not pictures:
        raise DataError(
            f"{data / 'test'} holds no pictures ({', '.join(sorted(SUFFIXES))}): nothing to measure."
        )
    return pictures


def read_mask(path: Path, size: tuple[int, int]) -> Mask:
    """(h, w) bool, True = defect; any grey, colour or 16-bit file. Raises DataError, also for another
    `size` (h, w).

    Where values stay in the lower half of their type they are 0 and 1 or numbers of regions: all above 0
    count. Else a pixel counts that is brighter than half of the brightest within 2 px around it and than a
    sixth of the brightest of all: that cuts soft edges in their middle and leaves out a JPEG's noise, and a
    region keeps a grey of its own beside brighter ones (but for 2 px where it touches one twice as bright).
    """
    try:
        raw = cv2.imdecode(np.fromfile(path, dtype=np.uint8), cv2.IMREAD_UNCHANGED)
    except (OSError, cv2.error):
        raw = None
    if raw is None:
        raise DataError(f"The mask {path} is not a readable picture; delete it or save it again.")
    if not np.issubdtype(raw.dtype, np.integer):
        raise DataError(f"The mask {path} has {raw.dtype} pixels; save it with 8 or 16 bits.")
    grey = raw if raw.ndim == 2 else raw[..., : min(raw.shape[2], 3)].max(axis=2)
    if grey.shape != size:
        raise DataError(
            f"The mask {path} is {grey.shape[1]}x{grey.shape[0]} pixels, its picture {size[1]}x{size[0]}: "
            "both must have one size."
        )
    return _defective(grey)


def _defective(grey: NDArray[Any]) -> Mask:
    brightest = int(grey.max(initial=0))
    if brightest <= np.iinfo(grey.dtype).max // 2:
        return np.asarray(grey > 0)
    values = grey.astype(np.float32)
    side = 2 * _EDGE_PX + 1
    around = cv2.dilate(values, np.ones((side, side), np.uint8))
    return np.asarray(values > np.maximum(around / 2, brightest * _NOISE))


def shrink_mask(mask: Mask, size: tuple[int, int]) -> Mask:
    """To `size` (h, w), nearest neighbour by pixel centres; a very small defect can vanish."""
    if mask.shape == size:
        return mask
    nearest = cv2.INTER_NEAREST_EXACT
    return np.asarray(cv2.resize(mask.view(np.uint8), size[::-1], interpolation=nearest) > 0)


def original_pairs(
    pictures: Sequence[TestPicture], maps: Sequence[NDArray[np.float32]]
) -> Iterator[tuple[NDArray[np.float32], Mask]]:
    """Maps stretched to each picture's own size (bilinear), with the masks as they are on disk."""
    for picture, raw in zip(pictures, maps, strict=True):
        height, width = picture.size
        stretched = cv2.resize(raw, (width, height), interpolation=cv2.INTER_LINEAR)
        if picture.mask_path is not None:
            yield np.asarray(stretched, np.float32), read_mask(picture.mask_path, picture.size)
        elif picture.good:
            yield np.asarray(stretched, np.float32), np.zeros(picture.size, dtype=bool)


def _kinds(data: Path) -> list[Path]:
    folder = data / "test"
    if not data.is_dir():
        raise DataError(f"{data} is not a folder; give one with test/good, test/KIND and ground_truth/KIND.")
    if not folder.is_dir():
        raise DataError(
            f"{data} has no test folder; needed are test/good, test/KIND, and masks in ground_truth/KIND."
        )
    found = (p for p in folder.iterdir() if p.is_dir() and not p.name.startswith("."))
    kinds = sorted(found, key=lambda p: (p.name != GOOD, p.name))
    if not kinds:
        raise DataError(f"{folder} has no folders; good pictures belong in test/good, others in test/KIND.")
    return kinds


def _load(data: Path, path: Path, kind: str, tiling: Tiling) -> TestPicture:
    pixels, _ = read_picture(path)
    height, width = pixels.shape[:2]
    fitted = tiling.fit(pixels)
    if kind == GOOD:
        return TestPicture(path, kind, fitted, np.zeros(tiling.canvas, dtype=bool), (height, width))
    mask_path = _mask_path(data / "ground_truth" / kind, path)
    if mask_path is None:
        return TestPicture(path, kind, fitted, None, (height, width))
    mask = shrink_mask(read_mask(mask_path, (height, width)), tiling.canvas)
    return TestPicture(path, kind, fitted, mask, (height, width), mask_path)


def _mask_path(folder: Path, picture: Path) -> Path | None:
    """None where the kind has no folder of masks at all."""
    if not folder.is_dir():
        return None
    for stem in (f"{picture.stem}_mask", picture.stem):
        for suffix in (".png", *sorted(SUFFIXES - {".png"})):
            for written in (suffix, suffix.upper()):
                if (found := folder / f"{stem}{written}").is_file():
                    return found
    raise DataError(f"{picture} has no mask; expected {folder / picture.stem}_mask.png.")
