"""Frames brought to size where the network computes are those that the host would make."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine.fitting import fitted, fitted_on_device
from engine.images import resized, shrunk
from engine.tiles import Tiling

HOST = torch.device("cpu")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


@settings(deadline=None, max_examples=40)
@given(st.integers(32, 200), st.integers(32, 200), st.integers(1, 32), st.integers(1, 32))
def test_a_shrunk_picture_is_that_of_the_host_but_for_halves(
    height: int, width: int, rows: int, columns: int
) -> None:
    pixels = noise(height, width)
    mine = shrunk(torch.from_numpy(pixels)[None], (rows, columns))[0].permute(1, 2, 0).numpy()
    off = np.abs(mine - resized(pixels, (rows, columns)).astype(np.float32))
    assert off.max() <= 1.0
    # Twice as large is the one case in which halves are common: a sum of four, which OpenCV rounds up.
    assert (off > 0).mean() < (0.15 if (height, width) == (2 * rows, 2 * columns) else 0.03)


def test_a_plain_picture_keeps_its_grey_level() -> None:
    plain = torch.full((1, 100, 90, 3), 131, dtype=torch.uint8)
    assert shrunk(plain, (64, 64)).unique().tolist() == [131.0]


@pytest.mark.parametrize("words", ["1x1", "2x3"])
def test_frames_of_several_sizes_come_in_their_order(words: str) -> None:
    tiling = Tiling.of(64, words)
    frames = [noise(480, 640, 1), noise(240, 320, 2), noise(20, 30, 3), noise(480, 640, 4)]
    pictures = [(frame, tiling) for frame in frames]
    squares = fitted_on_device(pictures, HOST)
    assert squares.shape == (4 * tiling.count, 3, 64, 64)
    assert squares.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([square for picture in pictures for square in fitted(picture)])
    off = (squares.permute(0, 2, 3, 1).numpy() * 255.0 - expected).round()
    assert np.abs(off).max() <= 1.0 and (off != 0).mean() < 0.1
