"""What a model size costs: parameters and multiply-accumulates, counted layer by layer on torch's meta
device."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from .dmdd import MAPS, SIZES, build_network
from .teacher import build_trunk


@dataclass(frozen=True, slots=True)
class Cost:
    """Millions of parameters, and 10^9 multiply-accumulates a picture; convolutions and linear layers
    only."""

    parameters_m: float
    gmacs: float


def costs(size: str, input_px: int = 256) -> dict[str, Cost]:
    """Cost of a size's teacher, student and head. Nothing is computed and no weights are needed."""
    spec = SIZES[size]
    with torch.device("meta"):
        network, trunk = build_network(size).eval(), build_trunk(spec.teacher).eval()
        images = torch.empty(1, 3, input_px, input_px)
        joined = torch.empty(1, MAPS * (spec.head.embed + 1), input_px // 4, input_px // 4)
    features = trunk(images)
    normal, abnormal = network.student(features[0])

    def look_with_head() -> None:
        # The head's convolutions alone: autocast, which the network steps out of, knows no meta device.
        for embed, product in zip(network.head.embed, (*normal, *abnormal), strict=True):
            embed(product)
        network.head.logit(network.head.fuse(joined))

    return {
        "teacher": _cost(trunk, lambda: trunk(images)),
        "student": _cost(network.student, lambda: network.student(features[0])),
        "head": _cost(network.head, look_with_head),
    }


def _cost(part: nn.Module, look: Callable[[], object]) -> Cost:
    with FlopCounterMode(display=False) as counter:
        look()
    parameters = sum(weight.numel() for weight in part.parameters())
    # An operation is a multiplication or an addition.
    return Cost(parameters / 1e6, counter.get_total_flops() / 2e9)
