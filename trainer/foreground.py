"""Where the part is: synthetic defects belong on it, not on the conveyor.

GrabCut (Rother et al. 2004) from a rectangle around the whole picture, as DMDD's foreground-aware synthesis
uses a foreground mask; else Otsu's threshold (1979). Whether to use either is decided from the pictures,
never from a name (our rules): GrabCut's mask has to be stable under a small shift; Otsu's, which always is,
has to part two clear levels of grey, into one piece and a background that holds the rim.
"""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from engine.images import Pixels

Mask = NDArray[np.bool_]

_WORK_PX = 128
_ITERATIONS = 5
_SHIFT_PX = 2  # at the working size: 4 px at 256
_STABLE_IOU = 0.9
_PROBES = 10
_SMALLEST, _LARGEST = 0.05, 0.95
# Between-class share of the variance; share of the rim that is background; share of the foreground in its
# largest piece. Parts on a plain ground reach 0.75 to 0.9, 0.95 and 0.98, plain surfaces 0.7, 0.65 and 0.9.
_PARTED, _RIM, _ONE_PIECE = 0.72, 0.9, 0.9


@dataclass(frozen=True, slots=True, eq=False)
class Foregrounds:
    """`masks` (N, P, P) bool, one per training picture, or None where the whole picture counts; `why` in
    words; `mode` that finds the same in other pictures."""

    masks: NDArray[np.bool_] | None
    why: str
    mode: str = "off"

    def of(self, index: int, size_px: int) -> Mask:
        """(P, P) bool of one picture."""
        if self.masks is None:
            return np.ones((size_px, size_px), dtype=np.bool_)
        return np.asarray(self.masks[index], dtype=np.bool_)


def find_foregrounds(pixels: NDArray[np.uint8], mode: str = "auto") -> Foregrounds:
    """Masks of all pictures (N, P, P, 3) uint8 RGB. `mode`: "auto" (the rules), "on" (GrabCut), "otsu" or
    "off".
    """
    if mode == "off":
        return Foregrounds(None, "whole picture: set so")
    if mode == "auto":
        iou = stability(pixels)
        mode = "on" if iou > _STABLE_IOU else "otsu"
        if mode == "otsu" and not is_parted(pixels):
            return Foregrounds(None, f"whole picture: the foreground is unstable (IoU {iou:.2f})")
    masks = np.stack([otsu(p) if mode == "otsu" else grabcut(p) for p in pixels])
    if masks.all():
        return Foregrounds(None, "whole picture: no background was found")
    how = "Otsu" if mode == "otsu" else "GrabCut"
    return Foregrounds(masks, f"{how} foreground, {float(masks.mean()):.0%} of the picture", mode)


def stability(pixels: NDArray[np.uint8]) -> float:
    """Mean IoU of a picture's mask with the shifted-back mask of the shifted picture, over ten pictures."""
    return float(np.mean([_shift_iou(p) for p in _probes(pixels)]))


def is_parted(pixels: NDArray[np.uint8]) -> bool:
    """Whether Otsu's threshold parts part and ground, in the median over ten pictures."""
    found = []
    for picture in _probes(pixels):
        grey = cv2.cvtColor(_shrink(picture), cv2.COLOR_BGR2GRAY).astype(np.float32)
        mask = _otsu_small(picture)
        share = float(mask.mean())
        if not 0.0 < share < 1.0:
            return False
        between = share * (1.0 - share) * (float(grey[mask].mean()) - float(grey[~mask].mean())) ** 2
        _, _, pieces, _ = cv2.connectedComponentsWithStats(mask.view(np.uint8), connectivity=8)
        piece = pieces[1:, cv2.CC_STAT_AREA].max() / mask.sum()
        found.append((between / float(grey.var()), 1.0 - _rim(mask).mean(), piece))
    return bool((np.median(found, axis=0) >= (_PARTED, _RIM, _ONE_PIECE)).all())


def grabcut(pixels: Pixels) -> Mask:
    """(P, P) bool; all True where the foreground is under 5 % or over 95 % of the picture."""
    return _grown(_grabcut_small(_shrink(pixels)), pixels)


def otsu(pixels: Pixels) -> Mask:
    """(P, P) bool, the class that holds less of the rim; all True as `grabcut`."""
    return _grown(_otsu_small(pixels), pixels)


def _probes(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    chosen = np.linspace(0, len(pixels) - 1, min(_PROBES, len(pixels))).astype(int)
    return np.asarray(pixels[chosen], dtype=np.uint8)


def _grown(small: Mask, pixels: Pixels) -> Mask:
    if not _SMALLEST <= small.mean() <= _LARGEST:
        return np.ones(pixels.shape[:2], dtype=np.bool_)
    size = (pixels.shape[1], pixels.shape[0])
    grown = cv2.resize(small.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(grown, dtype=np.bool_)


def _otsu_small(pixels: Pixels) -> Mask:
    grey = cv2.cvtColor(_shrink(pixels), cv2.COLOR_BGR2GRAY)
    _, light = cv2.threshold(grey, 0, 1, cv2.THRESH_BINARY | cv2.THRESH_OTSU)
    mask = light.astype(np.bool_)
    return ~mask if _rim(mask).mean() > 0.5 else mask


def _rim(mask: Mask) -> NDArray[np.bool_]:
    return np.concatenate([mask[0], mask[-1], mask[:, 0], mask[:, -1]])


def _shrink(pixels: Pixels) -> Pixels:
    bgr = np.ascontiguousarray(pixels[:, :, ::-1])
    return np.asarray(cv2.resize(bgr, (_WORK_PX, _WORK_PX), interpolation=cv2.INTER_AREA), dtype=np.uint8)


def _grabcut_small(bgr: Pixels) -> Mask:
    labels = np.zeros(bgr.shape[:2], dtype=np.uint8)
    models = np.zeros((1, 65)), np.zeros((1, 65))
    height, width = bgr.shape[:2]
    cv2.setRNGSeed(0)  # its k-means start is random
    cv2.grabCut(bgr, labels, (1, 1, width - 2, height - 2), *models, _ITERATIONS, cv2.GC_INIT_WITH_RECT)
    return np.asarray((labels == cv2.GC_FGD) | (labels == cv2.GC_PR_FGD), dtype=np.bool_)


def _shift_iou(pixels: Pixels) -> float:
    small = _shrink(pixels)
    shifted = np.roll(small, (_SHIFT_PX, _SHIFT_PX), axis=(0, 1))
    shifted[:_SHIFT_PX], shifted[:, :_SHIFT_PX] = shifted[_SHIFT_PX], shifted[:, _SHIFT_PX : _SHIFT_PX + 1]
    first = _grabcut_small(small)[:-_SHIFT_PX, :-_SHIFT_PX]
    second = _grabcut_small(shifted)[_SHIFT_PX:, _SHIFT_PX:]
    union = (first | second).sum()
    return float((first & second).sum() / union) if union else 0.0
