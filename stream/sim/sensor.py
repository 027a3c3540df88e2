"""Noise of an image sensor from one precomputed tile, cheap enough for every frame (ours)."""

import cv2
import numpy as np

from .looks import Picture, Rng

_MARGIN_PX = 64


class Grain:
    """Gaussian noise of `levels` (of 255) deviation for pictures of `size` (width, height)."""

    def __init__(self, size: tuple[int, int], levels: float, rng: Rng) -> None:
        shape = (size[1] + _MARGIN_PX, size[0] + _MARGIN_PX, 3)
        self._tile = np.clip(np.rint(rng.normal(128, levels, shape)), 0, 255).astype(np.uint8)

    def over(self, pixels: Picture, gain: float, rng: Rng) -> Picture:
        """The picture times `gain` plus another part of the tile each time; a new (h, w, 3) uint8 array."""
        height, width = pixels.shape[:2]
        top, left = (int(v) for v in rng.integers(0, _MARGIN_PX, 2))
        noise = self._tile[top : top + height, left : left + width]
        return np.asarray(cv2.addWeighted(pixels, gain, noise, 1.0, -128.0), np.uint8)
