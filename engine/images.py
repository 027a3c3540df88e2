"""Pictures to network input. Trainer and runner use these same two functions, so they can't drift apart."""

from collections.abc import Sequence

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]


def to_square(pixels: Pixels, input_px: int) -> Pixels:
    """(H, W, 3) uint8 → (input_px, input_px, 3) uint8, as `resized`."""
    return resized(pixels, (input_px, input_px))


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 → (*size, 3) uint8; the aspect is not kept, as maps are scaled back by axis.

    Area averaging when either side shrinks (it doesn't alias thin scratches away), bilinear when both grow.
    Host side, any thread. A picture that already fits is returned as it is.
    """
    height, width = pixels.shape[:2]
    if (height, width) == size:
        return pixels
    shrinks = height > size[0] or width > size[1]
    how = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return np.asarray(cv2.resize(pixels, size[::-1], interpolation=how), dtype=np.uint8)


def to_device(squares: Sequence[Pixels], device: torch.device | str) -> Tensor:
    """N pictures (P, P, 3) uint8 of one size → (N, 3, P, P) float32 in [0, 1], channels last in memory.

    One upload of bytes, from pinned memory where that lets it run beside what the device does; the division
    runs on the device.
    """
    stacked = torch.from_numpy(np.stack(squares))
    if torch.device(device).type == "cuda":
        stacked = stacked.pin_memory()
    on_device = stacked.to(device, non_blocking=True).permute(0, 3, 1, 2)
    return on_device.to(torch.float32, memory_format=torch.channels_last).div_(255.0)
