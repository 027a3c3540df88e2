"""Whole pictures as the squares that the network learns from: one each, or all their tiles."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from engine.tiles import Tiling

from .foreground import Foregrounds


@dataclass(frozen=True, slots=True, eq=False)
class Squares:
    """`pixels` (K, P, P, 3) uint8 and the foreground of each."""

    pixels: NDArray[np.uint8]
    foregrounds: Foregrounds


def squares_of(
    pictures: NDArray[np.uint8], foregrounds: Foregrounds, tiling: Tiling, most: int, seed: int
) -> Squares:
    """The tiles of pictures (N, h, w, 3) with their parts of the foregrounds, which were found in the whole.

    In an order drawn from `seed`, so that any number of the first ones is of all places of all pictures; no
    more than `most`, unless there are more pictures than that. Pictures in one tile stay as they are.
    """
    if tiling.count == 1:
        return Squares(pictures, foregrounds)
    count = len(pictures) * tiling.count
    order = np.random.default_rng((seed, count)).permutation(count)[: max(most, len(pictures))]
    chosen = [divmod(int(index), tiling.count) for index in order]
    pixels = np.stack([tiling.cut(pictures[picture])[tile] for picture, tile in chosen])
    if foregrounds.masks is None:
        return Squares(pixels, foregrounds)
    masks = np.stack([tiling.cut(foregrounds.masks[picture])[tile] for picture, tile in chosen])
    return Squares(pixels, Foregrounds(masks, foregrounds.why, foregrounds.mode))
