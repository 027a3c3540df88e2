"""Raw maps to maps that compare across cameras: 0.0 = median of good, 1.0 = that camera's alarm level."""

import torch
from torch.nn import functional

SCORE_CELLS = 100
SMALL_SIDE = 64


def calibrate(raw: torch.Tensor, median: torch.Tensor, threshold: torch.Tensor) -> torch.Tensor:
    """Raw maps (N, h, w) and two vectors (N,) to maps (N, h, w): (raw - median) / (threshold - median).

    The caller made sure that threshold > median.
    """
    scale = 1.0 / (threshold - median)
    return (raw - median[:, None, None]).mul_(scale[:, None, None])


def image_scores(maps: torch.Tensor) -> torch.Tensor:
    """Maps (N, h, w) to scores (N,) float32: the mean of the 100 highest values (DeSTSeg's rule)."""
    flat = maps.flatten(1)
    return flat.topk(min(SCORE_CELLS, flat.shape[1]), dim=1, sorted=False).values.mean(dim=1)


def shrink(maps: torch.Tensor, side: int = SMALL_SIDE) -> torch.Tensor:
    """Maps (N, h, w) to (N, ≤ side, ≤ side): the peak of each block, so that a small defect stays visible."""
    count, *cells = maps.shape
    height, width = (min(side, length) for length in cells)
    if cells[0] % height or cells[1] % width:
        return functional.adaptive_max_pool2d(maps[:, None], (height, width))[:, 0]
    # Whole blocks, as nearly always: ten times as fast on a CPU.
    rows = maps.reshape(count, height, cells[0] // height, cells[1]).amax(2)
    return rows.view(count, height, width, cells[1] // width).amax(3)
