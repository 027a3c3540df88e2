"""Frames of any size to the squares that a network looks at: on the host, or where it computes."""

from collections.abc import Sequence

import torch
from torch import Tensor

from .images import Pixels, bytes_on, shrunk, to_device
from .tiles import Tiling

# A frame and the tiling of its model.
Picture = tuple[Pixels, Tiling]


def fitted(picture: Picture) -> list[Pixels]:
    """The squares of one picture (H, W, 3) uint8, on the host."""
    pixels, tiling = picture
    return tiling.cut(tiling.fit(pixels))


def fitted_on_device(pictures: Sequence[Picture], device: torch.device) -> Tensor:
    """The squares of all pictures, in their order: (N, 3, P, P) float32 in [0, 1] on `device`, channels last.

    Frames of one size travel together, as bytes, and are brought to size there. A frame that is smaller than
    its canvas on either side is brought to size on the host: enlarging is rare, and cheap to send.
    """
    alike: dict[tuple[tuple[int, ...], Tiling], list[int]] = {}
    for index, (pixels, tiling) in enumerate(pictures):
        alike.setdefault((pixels.shape, tiling), []).append(index)
    squares: list[Tensor] = [torch.empty(0)] * len(pictures)
    for (shape, tiling), places in alike.items():
        if shape[0] >= tiling.canvas[0] and shape[1] >= tiling.canvas[1]:
            frames = bytes_on([pictures[place][0] for place in places], device)
            cut = tiling.cut_batch(shrunk(frames, tiling.canvas).div_(255.0))
        else:
            cut = to_device([square for place in places for square in fitted(pictures[place])], device)
        for place, mine in zip(places, torch.split(cut, tiling.count), strict=True):
            squares[place] = mine
    return torch.cat(squares).contiguous(memory_format=torch.channels_last)
