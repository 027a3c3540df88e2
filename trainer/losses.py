"""The three losses, after DMDD (Liu et al., 2024), with our choices where the paper's equations could not be
read.

All in float32. Teacher features T_l come without gradient; they and the linear N_l and A_l are signed, so
the distance d = 1 - cosine reaches 2, and is cut at 1 where it is compared with a mask. Features are neither
centred nor scaled per channel: tried, and every map got worse, as it blows up the noise of plain surfaces.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

_FLAT_WEIGHT = 0.5
_HARD_SHARE = 0.1
_FOCUS = 4.0
_DICE_EPS = 1e-4


def distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - cosine over channels: (N, C, h, w) twice → (N, h, w)."""
    return 1.0 - functional.cosine_similarity(x.float(), y.float(), dim=1, eps=1e-8)


def flat_distance(x: Tensor, y: Tensor) -> Tensor:
    """1 - cosine over the whole picture: (N,). It ties the scale of positions together (after RD4AD)."""
    return 1.0 - functional.cosine_similarity(x.float().flatten(1), y.float().flatten(1), dim=1, eps=1e-8)


def normality(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """Normality Guidance Modeling: N of whatever picture fits the teacher of the *unchanged* one. Scalar."""
    terms = [
        _with_hardest(distance(n, t)) + _FLAT_WEIGHT * flat_distance(n, t).mean()
        for n, t in zip(students, teachers, strict=True)
    ]
    return torch.stack(terms).sum()


def abnormality(
    students: Sequence[Tensor], teachers: Sequence[Tensor], mask: Tensor, *, soft: bool = True
) -> Tensor:
    """Abnormality Inverse Mimicking: A's distance to the teacher follows the share of anomalous pixels in a
    cell.

    `teachers` of the changed picture (variant A, as at test) or of the unchanged one (variant B, after URD).
    `mask` (N, 1, H, W) float 0 or 1, pooled from full size for every level, so that small anomalies survive
    (the share is what an edge cell's receptive field holds; not `soft`: 1 from one half). Cells above and
    below one half weigh the same. Scalar.
    """
    terms = []
    for a, t in zip(students, teachers, strict=True):
        share = functional.adaptive_avg_pool2d(mask, (a.shape[2], a.shape[3]))[:, 0]
        error = (distance(a, t).clamp(max=1.0) - (share if soft else (share >= 0.5).float())).abs()
        terms.append(_balanced(error, share >= 0.5))
    return torch.stack(terms).sum()


def clean_abnormality(students: Sequence[Tensor], teachers: Sequence[Tensor]) -> Tensor:
    """On unchanged pictures A fits the teacher everywhere. Scalar."""
    terms = [_with_hardest(distance(a, t)) for a, t in zip(students, teachers, strict=True)]
    return torch.stack(terms).sum()


def segmentation(logits: Tensor, mask: Tensor) -> Tensor:
    """Focal loss (Lin et al. 2017) plus L1, as DeSTSeg joins them, plus dice. Scalar.

    `logits` (N, 1, h, w); `mask` (N, 1, H, W) float, average-pooled to (h, w). A cell counts as anomalous
    from one quarter, so that lines thinner than a cell are not erased.
    """
    target = (functional.adaptive_avg_pool2d(mask, (logits.shape[2], logits.shape[3])) >= 0.25).float()
    logits = logits.float()
    chance = torch.sigmoid(logits)
    plain = functional.binary_cross_entropy_with_logits(logits, target, reduction="none")
    right = torch.where(target > 0, chance, 1.0 - chance)
    focal = ((1.0 - right) ** _FOCUS * plain).mean()
    overlap = (chance * target).sum()
    dice = 1.0 - (2 * overlap + _DICE_EPS) / (chance.sum() + target.sum() + _DICE_EPS)
    return focal + (chance - target).abs().mean() + 0.1 * dice


def _with_hardest(d: Tensor) -> Tensor:
    """Half the mean, half the mean of the hardest tenth of all cells: the worst good cells set the alarm
    level.

    After the hard feature loss of EfficientAD (Batzner et al. 2024); share and mix are ours.
    """
    flat = d.flatten()
    hardest = flat.topk(max(1, round(flat.numel() * _HARD_SHARE))).values
    return 0.5 * (flat.mean() + hardest.mean())


def _balanced(error: Tensor, above: Tensor) -> Tensor:
    """Half the mean over anomalous cells and half over the others; a class without cells drops out."""
    picked = [error[cells] for cells in (above, ~above)]
    means = [p.mean() for p in picked if p.numel()]
    return torch.stack(means).sum() / 2
