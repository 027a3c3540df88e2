"""Frames brought to size where the network computes are those that the host would make."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from engine import fitting
from engine.fitting import fitted, fitted_on_device
from engine.images import resized, shrunk
from engine.tiles import Tiling

HOST = torch.device("cpu")


def noise(height: int, width: int, seed: int = 0) -> NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def averages(pixels: NDArray[np.uint8], rows: int, columns: int) -> NDArray[np.float64]:
    """The mean over the area of each cell, pixel by pixel."""
    height, width = pixels.shape[:2]
    out = np.zeros((rows, columns, 3))
    for y, line in enumerate(pixels.astype(np.float64)):
        for row in range(rows):
            share = max(0.0, min((row + 1) * height / rows, y + 1) - max(row * height / rows, y))
            if share > 0.0:
                for column in range(columns):
                    left, right = column * width / columns, (column + 1) * width / columns
                    x = np.arange(width)
                    across = np.clip(np.minimum(right, x + 1) - np.maximum(left, x), 0.0, None)
                    out[row, column] += share * (across @ line)
    return out / (height / rows * width / columns)


@settings(deadline=None, max_examples=30, derandomize=True)
@given(st.integers(12, 60), st.integers(12, 60), st.integers(1, 12), st.integers(1, 12))
def test_a_shrunk_picture_is_that_of_the_host_but_for_halves(
    height: int, width: int, rows: int, columns: int
) -> None:
    pixels = noise(height, width)
    mine = shrunk(torch.from_numpy(pixels)[None], (rows, columns))[0].permute(1, 2, 0).numpy()
    off = np.abs(mine - resized(pixels, (rows, columns)).astype(np.float32))
    is_half = np.abs(averages(pixels, rows, columns) % 1.0 - 0.5) < 1e-3
    assert off.max() <= 1.0 and not (off > 0)[~is_half].any()


def test_a_picture_of_twice_the_size_is_that_of_the_host() -> None:
    pixels = noise(128, 96)
    mine = shrunk(torch.from_numpy(pixels)[None], (64, 48))[0].permute(1, 2, 0).numpy()
    assert np.array_equal(mine, resized(pixels, (64, 48)))


@pytest.mark.parametrize("at", [100, 101, 102, 103])
def test_a_thin_line_on_a_long_low_picture_is_not_lost(at: int) -> None:
    pixels = np.zeros((40, 800, 3), np.uint8)
    pixels[:, at] = 200
    for picture, turned in ((pixels, False), (pixels.transpose(1, 0, 2).copy(), True)):
        seen = resized(picture, (100, 100))
        line = seen[50] if not turned else seen[:, 50]
        # Of eight pixels that become one, one is bright.
        assert line[at // 8].tolist() == [25, 25, 25] and not np.delete(line, at // 8, axis=0).any()


def test_a_plain_picture_keeps_its_grey_level() -> None:
    plain = torch.full((1, 100, 90, 3), 131, dtype=torch.uint8)
    assert shrunk(plain, (64, 64)).unique().tolist() == [131.0]


@pytest.mark.parametrize("words", ["1x1", "2x3"])
def test_frames_of_several_sizes_come_in_their_order(words: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fitting, "_BYTES_AT_ONCE", 1)  # one frame at a time
    tiling = Tiling.of(64, words)
    frames = [noise(480, 640, 1), noise(240, 320, 2), noise(20, 30, 3), noise(480, 640, 4)]
    pictures = [(frame, tiling) for frame in frames]
    squares = fitted_on_device(pictures, HOST)
    assert squares.shape == (4 * tiling.count, 3, 64, 64)
    assert squares.is_contiguous(memory_format=torch.channels_last)
    expected = np.stack([square for picture in pictures for square in fitted(picture)])
    off = (squares.permute(0, 2, 3, 1).numpy() * 255.0 - expected).round()
    assert np.abs(off).max() <= 1.0 and (off != 0).mean() < 0.1
