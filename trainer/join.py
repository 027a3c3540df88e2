"""How the parts become one map: each scaled by what held-out good pictures show of it, then one mix for all.

How well it finds synthetic anomalies whose sources training never saw is measured and told, and decides
nothing; real defects take no part (there is no argument through which they could).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from engine.images import Pixels, to_device
from engine.model.blocks import resize
from engine.model.dmdd import CameraNetwork
from engine.model.precision import autocast
from engine.model.teacher import Teacher

from .foreground import Foregrounds
from .metrics import Pixels as Ranked
from .metrics import average_precision, pro
from .synthesis import Synthesis

_CHUNK = 8
_VALIDATION_PICTURES = 48
_STREAM = 3
# Of strides 4, 8, 16: the finest level is the noisiest on plain surfaces; what it sees, the head sees too.
_LEVEL_SHARES = (1 / 6, 2 / 6, 3 / 6)


@dataclass(frozen=True, slots=True)
class Mix:
    """Weights of the N maps together, of the A maps together, and of the head."""

    normality: float
    abnormality: float
    head: float

    def weights(self) -> Tensor:
        """One weight a part (7,)."""
        normal = [self.normality * share for share in _LEVEL_SHARES]
        abnormal = [self.abnormality * share for share in _LEVEL_SHARES]
        return torch.tensor([*normal, *abnormal, self.head], dtype=torch.float32)


# The same for every model: the one that does best on synthetic anomalies, even of unseen kinds, lets the head
# rule, which has learnt what synthetic looks like; real defects and alarm levels want more of the distances.
MIX = Mix(2, 2, 1)


@dataclass(frozen=True, slots=True)
class Joined:
    """What the parts together reach on synthetic anomalies of unseen kinds."""

    validation_ap: float
    validation_pro: float


def fit_join(
    network: CameraNetwork,
    teacher: Teacher,
    held_out: NDArray[np.uint8],
    foregrounds: Foregrounds,
    synthesis: Synthesis,
    device: torch.device,
    seed: int,
) -> Joined:
    """Write mean, deviation and weight of every part into the network's buffers.

    `held_out` (N, P, P, 3) uint8, `foregrounds` of the same pictures, `synthesis` with unseen textures.
    """
    good = torch.cat(list(parts_of(network, teacher, held_out, device)))
    network.part_mean.copy_(good.mean((0, 2, 3)))
    network.part_std.copy_(good.std((0, 2, 3)).clamp(min=1e-6))
    network.part_weight.copy_(MIX.weights())
    changed, masks = _validation(held_out, foregrounds, synthesis, seed)
    parts = torch.cat([*parts_of(network, teacher, changed, device), good])
    clean = np.zeros((len(good), *masks.shape[1:]), dtype=np.bool_)
    masks = np.concatenate([masks, clean])
    with torch.inference_mode():
        maps = resize(network.join(parts)[:, None], (masks.shape[1], masks.shape[2]))[:, 0].cpu().numpy()
    ranked = Ranked.of(zip(maps, masks, strict=True))
    return Joined(average_precision(ranked) or 0.0, pro(ranked) or 0.0)


@torch.inference_mode()
def parts_of(
    network: CameraNetwork,
    teacher: Teacher,
    pictures: Sequence[Pixels] | NDArray[np.uint8],
    device: torch.device,
) -> Iterator[Tensor]:
    """The raw parts of pictures (P, P, 3), (n, 7, h, w) float32 at a time."""
    network.eval()
    for start in range(0, len(pictures), _CHUNK):
        images = to_device(list(pictures[start : start + _CHUNK]), device)
        with autocast(device):
            yield network.parts(images, teacher(images)).float()


def _validation(
    held_out: NDArray[np.uint8], foregrounds: Foregrounds, synthesis: Synthesis, seed: int
) -> tuple[NDArray[np.uint8], NDArray[np.bool_]]:
    rng = np.random.default_rng((seed, _STREAM))
    drawn = []
    for index in range(_VALIDATION_PICTURES):
        which = index % len(held_out)
        drawn.append(synthesis.draw(held_out[which], foregrounds.of(which, held_out.shape[1]), rng))
    return np.stack([image for image, _ in drawn]), np.stack([mask for _, mask in drawn])
