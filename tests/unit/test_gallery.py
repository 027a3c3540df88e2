"""A heat map that is shrunk to a tile of the report still shows every peak."""

import numpy as np
import pytest

from trainer.gallery import TILE_PX, _peaks


@pytest.mark.parametrize("shape", [(32, 32), (192, 192), (256, 256), (256, 480), (480, 256), (576, 704)])
def test_a_peak_of_one_pixel_survives_wherever_it_is(shape: tuple[int, int]) -> None:
    for side in (0, 1):
        for at in range(shape[side]):
            levels = np.zeros(shape, np.float32)
            levels[(at, shape[1] - 1) if side == 0 else (shape[0] - 1, at)] = 2.0
            assert _peaks(levels).max() == 2.0, (side, at)


def test_a_peak_stays_small_and_where_it_is() -> None:
    levels = np.zeros((256, 480), np.float32)
    levels[128, 240] = 2.0
    ys, xs = np.nonzero(_peaks(levels))
    assert abs(ys.mean() - TILE_PX / 2) < 2 and abs(xs.mean() - TILE_PX / 2) < 2 and len(ys) <= 16
