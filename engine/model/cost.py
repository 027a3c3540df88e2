"""What a model size costs: parameters and multiply-accumulates, counted layer by layer on torch's meta
device."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

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
        with _Counter({"teacher": trunk, "student": network.student, "head": network.head}) as counter:
            normal, abnormal = network.student(trunk(images)[0])
            # The head's convolutions alone: autocast, which the network steps out of, knows no meta device.
            for embed, product in zip(network.head.embed, (*normal, *abnormal), strict=True):
                embed(product)
            finest = (input_px // 4, input_px // 4)
            fused = network.head.fuse(torch.empty(1, MAPS * (spec.head.embed + 1), *finest))
            network.head.logit(fused)
    return counter.costs()


class _Counter:
    def __init__(self, modules: dict[str, nn.Module]) -> None:
        self._modules = modules
        self._macs = dict.fromkeys(modules, 0)
        self._hooks: list[Any] = []

    def __enter__(self) -> "_Counter":
        for name, module in self._modules.items():
            for layer in module.modules():
                if isinstance(layer, (nn.Conv2d, nn.Linear)):
                    self._hooks.append(layer.register_forward_hook(self._counting(name)))
        return self

    def __exit__(self, *_: object) -> None:
        for hook in self._hooks:
            hook.remove()

    def _counting(self, name: str) -> Any:
        def count(layer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> None:
            weight = layer.get_parameter("weight")
            self._macs[name] += output.numel() * weight[0].numel()

        return count

    def costs(self) -> dict[str, Cost]:
        return {
            name: Cost(sum(p.numel() for p in module.parameters()) / 1e6, self._macs[name] / 1e9)
            for name, module in self._modules.items()
        }
