"""Frames of any size to the squares that a network looks at: on the host, or where it computes."""

from collections.abc import Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

from .images import Pixels, bytes_on, shrunk, to_device
from .tiles import Tiling

# A frame and the tiling of its model.
Picture = tuple[Pixels, Tiling]
# Of frames on the device; as numbers they take four times as much, and twice that for a moment.
_BYTES_AT_ONCE = 32 * 2**20


def fitted(picture: Picture) -> list[Pixels]:
    """The squares of one picture (H, W, 3) uint8, on the host."""
    pixels, tiling = picture
    return tiling.cut(tiling.fit(pixels))


def fitted_on_device(pictures: Sequence[Picture], device: torch.device) -> Tensor:
    """The squares of all pictures, in their order: (N, 3, P, P) float32 in [0, 1] on `device`, channels last.

    Frames of one size travel together, as bytes, and are brought to size there, so many at a time that the
    device's memory stays bounded. A frame that is smaller than its canvas on either side is brought to size
    on the host: enlarging is rare, and cheap to send. One that fits is only cut there.
    """
    starts = [0, *accumulate(tiling.count for _, tiling in pictures)]
    side = pictures[0][1].side_px
    squares = torch.empty((starts[-1], 3, side, side), device=device, memory_format=torch.channels_last)
    for tiling, places in _alike(pictures):
        frames = [pictures[place][0] for place in places]
        size = frames[0].shape[:2]
        if size != tiling.canvas and size[0] >= tiling.canvas[0] and size[1] >= tiling.canvas[1]:
            cut = tiling.cut_batch(shrunk(bytes_on(frames, device), tiling.canvas).div_(255.0))
        else:
            cut = to_device([square for frame in frames for square in fitted((frame, tiling))], device)
        for place, mine in zip(places, torch.split(cut, tiling.count), strict=True):
            squares[starts[place] : starts[place + 1]] = mine
    return squares


def _alike(pictures: Sequence[Picture]) -> Iterator[tuple[Tiling, list[int]]]:
    """The places of pictures of one size and one tiling, few enough to be on the device at once."""
    places: dict[tuple[tuple[int, ...], Tiling], list[int]] = {}
    for place, (pixels, tiling) in enumerate(pictures):
        places.setdefault((pixels.shape, tiling), []).append(place)
    for (_, tiling), found in places.items():
        at_once = max(1, _BYTES_AT_ONCE // pictures[found[0]][0].nbytes)
        for start in range(0, len(found), at_once):
            yield tiling, found[start : start + at_once]
