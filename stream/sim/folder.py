"""A folder of pictures as a camera: MVTec layout, or just pictures.

`learn` shows train/good; `live` shows test: one defective picture, then good ones, so that incidents close.
"""

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.core import SUFFIXES

from .flaws import Mask
from .looks import Picture
from .sensor import Grain
from .shown import Box, Phase, Shot, ShownDefect

_LONGER_SIDE_PX, _SIZE_SAMPLE = 640, 48
_JOIN_PX, _MIN_AREA_PX, _MAX_DEFECTS = 12, 12, 8
_NOISE_LEVELS = 1.0


class FolderError(ValueError):
    """This folder can't be shown; the text says why and what is expected."""

    user_message = True
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Pictures:
    """The files of a folder, each tuple sorted; `masks` belongs to `defective`, None where there is no
    mask.
    """

    root: Path
    learn: tuple[Path, ...]
    good: tuple[Path, ...]
    defective: tuple[Path, ...]
    masks: tuple[Path | None, ...]


def find(root: Path) -> Pictures:
    """Look through a folder in MVTec layout, or a plain one (all pictures are good). Raises FolderError."""
    if not root.is_dir():
        raise FolderError(f"{root}: no such folder")
    learn = _images(root / "train" / "good") or _images(root)
    good = _images(root / "test" / "good") or learn
    bad = tuple(
        picture
        for folder in sorted(p for p in (root / "test").glob("*") if p.is_dir() and p.name != "good")
        for picture in _images(folder)
    )
    if not learn:
        raise FolderError(
            f"{root}: no pictures; want train/good and test (MVTec layout), or pictures right inside"
        )
    return Pictures(root, learn, good, bad, tuple(_mask_file(root, picture) for picture in bad))


def _images(folder: Path) -> tuple[Path, ...]:
    """Files only: a folder may be named like a picture, and reading a pipe would wait for ever."""
    try:
        if not folder.is_dir():
            return ()
        return tuple(sorted(p for p in folder.iterdir() if p.suffix.lower() in SUFFIXES and p.is_file()))
    except OSError as error:
        raise FolderError(f"{folder}: can't be read: {error.strerror}") from error


def _mask_file(root: Path, picture: Path) -> Path | None:
    folder = root / "ground_truth" / picture.parent.name
    names = (f"{picture.stem}_mask.png", f"{picture.stem}.png", picture.name)
    return next((folder / name for name in names if (folder / name).is_file()), None)


def canvas_size(pictures: Pictures, longer_px: int = _LONGER_SIDE_PX) -> tuple[int, int]:
    """One even (width, height) for all: the median shape of a sample, its longer side at most `longer_px`."""
    files = (*pictures.learn, *pictures.defective)
    step = max(1, len(files) // _SIZE_SAMPLE)
    shapes = np.array([_read(file).shape[:2] for file in files[::step]], float)
    height, width = np.median(shapes, axis=0)
    scale = min(1.0, longer_px / max(height, width))
    return max(32, 2 * round(width * scale / 2)), max(32, 2 * round(height * scale / 2))


def _read(file: Path, flag: int = cv2.IMREAD_COLOR) -> NDArray[np.uint8]:
    try:
        encoded = np.fromfile(file, np.uint8)
    except OSError as error:
        raise FolderError(f"{file}: can't be read: {error.strerror}") from error
    try:
        picture = cv2.imdecode(encoded, flag) if encoded.size else None
    except cv2.error:
        picture = None
    if picture is None:
        raise FolderError(f"{file}: not a picture that can be read (of 100 megapixels at most)")
    return np.asarray(picture, np.uint8)


def letterbox(pixels: NDArray[np.uint8], size: tuple[int, int], nearest: bool = False) -> NDArray[np.uint8]:
    """Scaled to fit into `size` (width, height) without distortion, black around; (h, w) or (h, w, 3)
    uint8.
    """
    height, width = pixels.shape[:2]
    scale = min(size[0] / width, size[1] / height)
    w, h = min(size[0], max(1, round(width * scale))), min(size[1], max(1, round(height * scale)))
    how = cv2.INTER_NEAREST if nearest else cv2.INTER_AREA if scale < 1 else cv2.INTER_LINEAR
    out = np.zeros((size[1], size[0], *pixels.shape[2:]), np.uint8)
    x, y = (size[0] - w) // 2, (size[1] - h) // 2
    out[y : y + h, x : x + w] = cv2.resize(pixels, (w, h), interpolation=how)
    return out


def boxes(mask: Mask) -> list[Box]:
    """Boxes of the separate defects of a mask, largest first: pieces close together are one, specks are
    none.
    """
    joined = cv2.dilate(mask.astype(np.uint8), np.ones((_JOIN_PX, _JOIN_PX), np.uint8))
    count, labels = cv2.connectedComponents(joined)
    found = []
    for label in range(1, count):
        ys, xs = np.nonzero(mask & (labels == label))
        found.append((len(ys), (int(xs.min()), int(ys.min()), int(xs.max()) + 1, int(ys.max()) + 1)))
    found.sort(reverse=True)
    large = [box for area, box in found if area >= _MIN_AREA_PX]
    return (large or [box for _, box in found[:1]])[:_MAX_DEFECTS]


@dataclass(frozen=True, slots=True)
class Pace:
    """How long pictures stand, in seconds, and how many good ones come before each defective one."""

    dwell_s: float = 1.0
    learn_dwell_s: float = 0.5
    good_between: int = 3


class FolderShow:
    """Pictures of one folder, shuffled by `seed`, letterboxed to one size. Reading happens as pictures come
    up.

    Raises FolderError for a folder without pictures; a picture that can't be read ends the show the same way.
    """

    def __init__(
        self, root: Path, seed: int = 0, pace: Pace | None = None, longer_px: int = _LONGER_SIDE_PX
    ) -> None:
        self.pictures = find(root)
        self.pace = pace or Pace()
        self._size = canvas_size(self.pictures, longer_px)
        self._seed = seed
        self._grain = Grain(self._size, _NOISE_LEVELS, np.random.default_rng(seed))
        self._segments: list[tuple[float, Phase]] = [(0.0, "live")]
        self._still = lru_cache(maxsize=4)(self._draw)
        self._truth = lru_cache(maxsize=4)(self._draw_mask)

    @property
    def size(self) -> tuple[int, int]:
        """Width and height in pixels."""
        return self._size

    def set_phase(self, phase: Phase, at_s: float) -> None:
        """From the next picture on."""
        self._segments = [*self._segments[-1:], (self._now(at_s)[3], phase)]

    def shot(self, at_s: float) -> Shot:
        """The picture that is shown."""
        phase, number, from_s, to_s = self._now(at_s)
        file, mask = self._file(phase, number)
        name = file.relative_to(self.pictures.root).as_posix()
        defects = tuple(
            ShownDefect(f"{phase}-{from_s:.1f}-{i}", file.parent.name, box, box, from_s, to_s, from_s, to_s)
            for i, box in enumerate(
                boxes(self._truth(file, mask)) if self._is_defective(phase, number) else ()
            )
        )
        return Shot(name, phase, from_s, defects)

    def picture(self, at_s: float) -> Picture:
        """The frame, (h, w, 3) uint8 RGB, with a little noise: no two frames of a real camera are the
        same.
        """
        phase, number, _, _ = self._now(at_s)
        rng = np.random.default_rng([self._seed, int(at_s * 1000)])
        return self._grain.over(self._still(self._file(phase, number)[0]), 1.0, rng)

    def prepare(self, at_s: float) -> None:
        """Read the picture of that time, and its mask."""
        self.shot(at_s)
        phase, number, _, _ = self._now(at_s)
        self._still(self._file(phase, number)[0])

    def mask(self, at_s: float) -> Mask:
        """Where defects are, (h, w) bool."""
        phase, number, _, _ = self._now(at_s)
        if not self._is_defective(phase, number):
            return np.zeros((self._size[1], self._size[0]), bool)
        return self._truth(*self._file(phase, number))

    def _now(self, at_s: float) -> tuple[Phase, int, float, float]:
        """The phase, the number of the picture within it, and when that picture begins and ends."""
        begin, phase = next((s for s in reversed(self._segments) if s[0] <= at_s), self._segments[0])
        dwell = self.pace.learn_dwell_s if phase == "learn" else self.pace.dwell_s
        number = max(0, int((at_s - begin) / dwell + 1e-9))
        return phase, number, begin + number * dwell, begin + (number + 1) * dwell

    def _is_defective(self, phase: Phase, number: int) -> bool:
        between = self.pace.good_between
        return phase == "live" and bool(self.pictures.defective) and number % (between + 1) == between

    def _file(self, phase: Phase, number: int) -> tuple[Path, Path | None]:
        """The picture of that number and its mask; each is shown once before any is shown again."""
        p, group = self.pictures, self.pace.good_between + 1
        if phase == "learn":
            return p.learn[self._shuffled(len(p.learn), number, 0)], None
        if self._is_defective(phase, number):
            at = self._shuffled(len(p.defective), number // group, 1)
            return p.defective[at], p.masks[at]
        return p.good[self._shuffled(len(p.good), number - number // group, 2)], None

    def _shuffled(self, count: int, number: int, deck: int) -> int:
        order = np.random.default_rng([self._seed, deck, number // count]).permutation(count)
        return int(order[number % count])

    def _draw(self, file: Path) -> Picture:
        return letterbox(np.asarray(cv2.cvtColor(_read(file), cv2.COLOR_BGR2RGB), np.uint8), self._size)

    def _draw_mask(self, file: Path, mask: Path | None) -> Mask:
        """The mask of a defective picture; without one, or with an empty one, the whole picture is meant."""
        if mask is not None:
            true = letterbox(_read(mask, cv2.IMREAD_GRAYSCALE), self._size, nearest=True) > 127
            if true.any():
                return true
        whole = np.full(_read(file).shape[:2], 255, np.uint8)
        return letterbox(whole, self._size, nearest=True) > 127
