"""Small maps: a small defect must stay visible in them."""

import numpy as np
import pytest
import torch

from engine.maps import shrink


@pytest.mark.parametrize(("height", "width"), [(256, 256), (64, 192), (40, 64), (100, 130)])
def test_a_small_map_holds_the_peak_of_each_block(height: int, width: int) -> None:
    maps = torch.rand(3, height, width, generator=torch.Generator().manual_seed(0)) - 0.5
    small = shrink(maps, 64)
    rows, columns = min(64, height), min(64, width)
    assert small.shape == (3, rows, columns)
    # Block i covers the cells from floor(i * length / blocks) to ceil((i + 1) * length / blocks).
    for picture, row, column in [(0, 0, 0), (1, rows // 2, 7), (2, rows - 1, columns - 1)]:
        top, bottom = row * height // rows, -(-(row + 1) * height // rows)
        left, right = column * width // columns, -(-(column + 1) * width // columns)
        block = maps[picture, top:bottom, left:right]
        assert float(small[picture, row, column]) == float(block.max())


def test_a_value_that_is_no_number_stays_one() -> None:
    maps = torch.zeros(1, 256, 256)
    maps[0, 100, 100] = float("nan")
    assert int(np.isnan(shrink(maps).numpy()).sum()) == 1
