"""Pictures to network input: what trainer and runner share, and the runner's form of it on a GPU."""

from collections.abc import Sequence
from functools import lru_cache

import cv2
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

Pixels = NDArray[np.uint8]

# A picture that can't be read is named by whoever reads it; OpenCV would complain first, without a name.
cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_ERROR)


def to_square(pixels: Pixels, input_px: int) -> Pixels:
    """(H, W, 3) uint8 → (input_px, input_px, 3) uint8, as `resized`."""
    return resized(pixels, (input_px, input_px))


def resized(pixels: Pixels, size: tuple[int, int]) -> Pixels:
    """(H, W, 3) uint8 → (*size, 3) uint8; the aspect is not kept, as maps are scaled back by axis.

    Area averaging along a side that shrinks (it doesn't alias thin scratches away), bilinear along one that
    grows. Host side, any thread. A picture that already fits is returned as it is.
    """
    height, width = pixels.shape[:2]
    # In two steps where one side shrinks and the other grows: OpenCV's area averaging would then be none.
    smaller = min(height, size[0]), min(width, size[1])
    if smaller != (height, width):
        pixels = np.asarray(cv2.resize(pixels, smaller[::-1], interpolation=cv2.INTER_AREA), dtype=np.uint8)
    if smaller != size:
        pixels = np.asarray(cv2.resize(pixels, size[::-1], interpolation=cv2.INTER_LINEAR), dtype=np.uint8)
    return pixels


def to_device(squares: Sequence[Pixels], device: torch.device | str) -> Tensor:
    """N pictures (P, P, 3) uint8 of one size → (N, 3, P, P) float32 in [0, 1], channels last in memory.

    One upload of bytes, from pinned memory where that lets it run beside what the device does; the division
    runs on the device.
    """
    on_device = bytes_on(squares, device).permute(0, 3, 1, 2)
    return on_device.to(torch.float32, memory_format=torch.channels_last).div_(255.0)


def bytes_on(pictures: Sequence[Pixels], device: torch.device | str) -> Tensor:
    """N pictures (H, W, 3) uint8 of one size → (N, H, W, 3) uint8 on the device; copied once on the host."""
    pinned = torch.device(device).type == "cuda"
    stacked = torch.empty((len(pictures), *pictures[0].shape), dtype=torch.uint8, pin_memory=pinned)
    np.stack(pictures, out=stacked.numpy())
    return stacked.to(device, non_blocking=True)


def shrunk(pictures: Tensor, size: tuple[int, int]) -> Tensor:
    """(N, H, W, 3) uint8, no smaller than `size` → (N, 3, *size) float32, whole numbers from 0 to 255.

    What `resized` gives for such pictures, on whatever device they are: the average over the area of each
    cell, as two matrix products. Sums are added in another order: where the average lies halfway between
    two grey levels, the other one may come out.
    """
    count, height, width, _ = pictures.shape
    down = _area_weights(height, size[0], pictures.device)
    across = _area_weights(width, size[1], pictures.device)
    rows = down @ pictures.view(count, height, width * 3).to(torch.float32)
    # (N, h, W, 3) → (N, h, 3, W), and the sum over W.
    averages = rows.view(count, size[0], width, 3).transpose(2, 3) @ across.T
    # OpenCV rounds halves to even numbers, but up where it halves both sides.
    halved = (height, width) == (2 * size[0], 2 * size[1])
    return (averages.add_(0.5).floor_() if halved else averages.round_()).transpose(1, 2)


@lru_cache(maxsize=64)
def _area_weights(length: int, cells: int, device: torch.device) -> Tensor:
    """(cells, length) float32: the share of each pixel in each cell; each row adds up to 1."""
    edges = np.arange(cells + 1) * (length / cells)
    pixels = np.arange(length)
    ends = np.minimum(edges[1:, None], pixels + 1)
    overlap = np.clip(ends - np.maximum(edges[:-1, None], pixels), 0.0, None)
    return torch.from_numpy(overlap / overlap.sum(1, keepdims=True)).to(device, torch.float32)
