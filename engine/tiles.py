"""Large pictures in tiles: cut into squares for the network, and its maps stitched to one map of the whole.

A picture is brought to the size of its *canvas*, which the tiles cover in rows and columns, each an eighth
of its side over its neighbours. So the canvas depends on the model alone, cutting and stitching count whole
cells, and with 1x1 the one tile is the picture as ever. In the overlaps both maps count, each the less the
nearer its own edge is, where a network sees only half of the surroundings.
"""

import re
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from numpy.typing import NDArray
from torch import Tensor

from .images import Pixels, resized

ONE = "1x1"
_WORDS = re.compile(r"([1-8])x([1-8])")
_OVERLAP_PARTS = 8


@dataclass(frozen=True, slots=True)
class Tiling:
    """`rows` x `columns` tiles of `side_px` x `side_px`, the network's input. str() is "2x3", rows first."""

    side_px: int
    rows: int = 1
    columns: int = 1

    @classmethod
    # Asked for several times with each picture.
    @lru_cache(maxsize=64)
    def of(cls, side_px: int, words: str) -> "Tiling":
        """From "2x3", 1 to 8 of each. Raises ValueError."""
        found = _WORDS.fullmatch(words)
        if found is None:
            raise ValueError(f"{words!r} is no ROWSxCOLUMNS of 1 to 8 each, such as 2x3")
        return cls(side_px, int(found[1]), int(found[2]))

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"

    @property
    def count(self) -> int:
        """Tiles of one picture."""
        return self.rows * self.columns

    @property
    def longest(self) -> int:
        """Tiles along the side that has more of them."""
        return max(self.rows, self.columns)

    @property
    def overlap_px(self) -> int:
        return self.side_px // _OVERLAP_PARTS

    @property
    def canvas(self) -> tuple[int, int]:
        """(height, width) of picture and map, in cells."""
        step = self.side_px - self.overlap_px
        return step * (self.rows - 1) + self.side_px, step * (self.columns - 1) + self.side_px

    def fit(self, pixels: Pixels) -> Pixels:
        """A picture (H, W, 3) uint8 of any size at the size of the canvas; the aspect is not kept."""
        return resized(pixels, self.canvas)

    def cut(self, on_canvas: NDArray[Any]) -> list[NDArray[Any]]:
        """The tiles of a picture or mask (h, w, …) of the canvas's size, row by row; views, no copies."""
        if on_canvas.shape[:2] != self.canvas:
            raise ValueError(f"{on_canvas.shape[:2]} is not the canvas {self.canvas}")
        side = self.side_px
        return [on_canvas[y : y + side, x : x + side] for y, x in self._corners()]

    def cut_batch(self, on_canvas: Tensor) -> Tensor:
        """The tiles of pictures (N, C, h, w) of the canvas's size → (N * count, C, side, side)."""
        side = self.side_px
        tiles = [on_canvas[..., y : y + side, x : x + side] for y, x in self._corners()]
        return tiles[0] if self.count == 1 else torch.stack(tiles, dim=1).flatten(0, 1)

    def stitch(self, maps: Tensor) -> Tensor:
        """Maps (N * count, side, side) of the tiles of N pictures, in the order of `cut` → (N, h, w)."""
        if self.count == 1:
            return maps
        side = self.side_px
        tiles = maps.view(-1, self.count, side, side) * _weights(self, maps.device)
        whole = maps.new_zeros((len(tiles), *self.canvas))
        for index, (y, x) in enumerate(self._corners()):
            whole[:, y : y + side, x : x + side] += tiles[:, index]
        return whole

    def _corners(self) -> list[tuple[int, int]]:
        step = self.side_px - self.overlap_px
        return [(row * step, column * step) for row in range(self.rows) for column in range(self.columns)]


@lru_cache(maxsize=16)
def _weights(tiling: Tiling, device: torch.device) -> Tensor:
    """(count, side, side): how much each cell of each tile counts; over the canvas they add up to 1."""
    rows = [_line(tiling, row, tiling.rows) for row in range(tiling.rows)]
    columns = [_line(tiling, column, tiling.columns) for column in range(tiling.columns)]
    return torch.stack([torch.outer(down, across) for down in rows for across in columns]).to(device)


def _line(tiling: Tiling, index: int, count: int) -> Tensor:
    """Along one side: 1 in the middle, a ramp where a neighbour overlaps."""
    overlap = tiling.overlap_px
    ramp = torch.arange(1, overlap + 1) / (overlap + 1)
    line = torch.ones(tiling.side_px)
    if index > 0:
        line[:overlap] = ramp
    if index < count - 1:
        line[tiling.side_px - overlap :] = ramp.flip(0)
    return line
