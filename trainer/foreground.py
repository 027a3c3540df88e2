"""Where the part is: synthetic defects belong on it, not on the conveyor.

GrabCut (Rother et al. 2004) from a rectangle around the whole picture, as DMDD's foreground-aware synthesis
uses a foreground mask. Whether to use it at all is decided from the pictures, never from a name: the mask
has to be stable under a small shift (our rule).
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


@dataclass(frozen=True, slots=True, eq=False)
class Foregrounds:
    """`masks` (N, P, P) bool, one per training picture, or None where the whole picture counts; `why` in
    words."""

    masks: NDArray[np.bool_] | None
    why: str

    def of(self, index: int, size_px: int) -> Mask:
        """(P, P) bool of one picture."""
        if self.masks is None:
            return np.ones((size_px, size_px), dtype=np.bool_)
        return np.asarray(self.masks[index], dtype=np.bool_)


def find_foregrounds(pixels: NDArray[np.uint8], mode: str = "auto") -> Foregrounds:
    """Masks of all pictures (N, P, P, 3) uint8 RGB. `mode`: "auto" (the stability rule), "on", "off"."""
    if mode == "off":
        return Foregrounds(None, "whole picture: set so")
    if mode == "auto":
        iou = stability(pixels)
        if iou <= _STABLE_IOU:
            return Foregrounds(None, f"whole picture: the foreground is unstable (IoU {iou:.2f})")
    masks = np.stack([grabcut(p) for p in pixels])
    share = float(masks.mean())
    if masks.all():
        return Foregrounds(None, "whole picture: no background was found")
    return Foregrounds(masks, f"GrabCut foreground, {share:.0%} of the picture")


def stability(pixels: NDArray[np.uint8]) -> float:
    """Mean IoU of a picture's mask with the shifted-back mask of the shifted picture, over ten pictures."""
    chosen = np.linspace(0, len(pixels) - 1, min(_PROBES, len(pixels))).astype(int)
    return float(np.mean([_shift_iou(pixels[i]) for i in chosen]))


def grabcut(pixels: Pixels) -> Mask:
    """(P, P) bool; all True where the foreground is under 5 % or over 95 % of the picture."""
    size = (pixels.shape[1], pixels.shape[0])
    small = _grabcut_small(_shrink(pixels))
    if not _SMALLEST <= small.mean() <= _LARGEST:
        return np.ones(pixels.shape[:2], dtype=np.bool_)
    grown = cv2.resize(small.astype(np.uint8), size, interpolation=cv2.INTER_NEAREST)
    return np.asarray(grown, dtype=np.bool_)


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
