"""Networks of equal shape, with weights of their own, as one call: their weights stacked, each convolution
grouped.

On a GPU a network of one camera is many small kernels, and so many times as many for so many cameras; stacked
it is as many as for one. On a CPU grouped convolutions are slower. So it is tried, not assumed.
"""

import copy
import math
import weakref
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

# Of the time one by one: what a stack must stay under to be worth its memory.
_WINS = 0.9
# Of the largest raw value: as far as orders of addition matter. Three trained models in bfloat16, on a CPU:
# 0.001 to 0.003.
_SAME = 0.01
# Takes small differences of large numbers: float32 whatever the rest has, as autocast has it elsewhere.
_EXACT = "logit"
_MULTIPLIES = (nn.Conv2d, nn.Linear)


def reducible(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers, with their names, whose weights may be in bfloat16 where the rest computes in it."""
    for name, layer in network.named_modules():
        if isinstance(layer, _MULTIPLIES) and not name.endswith(_EXACT):
            yield name, layer


class Stack:
    """Room for the weights of `slots` networks shaped like `like`; slot k's network looks at picture k.

    A camera with several pictures has as many slots. `load` copies only what a slot doesn't hold yet, so
    cameras that come in the same order cost nothing, and the memory stays that of `slots` networks however
    many cameras there are. For one thread.
    """

    def __init__(self, like: nn.Module, slots: int) -> None:
        self._form = copy.deepcopy(like).to("meta")
        for layer in self._form.modules():
            if isinstance(layer, _MULTIPLIES):
                # Autocast doesn't reach what is mapped.
                layer.register_forward_pre_hook(_as_weights)
        self._weights = {name: _slots_of(tensor.detach(), slots) for name, tensor in _state(like)}
        self._rows = [[rows[slot] for rows in self._weights.values()] for slot in range(slots)]
        # Not the networks: a camera that is gone must not stay in memory.
        self._holds: list[weakref.ref[nn.Module] | None] = [weakref.ref(like)] * slots
        self._known = weakref.WeakKeyDictionary[nn.Module, list[Tensor]]()

    @property
    def slots(self) -> int:
        return len(self._rows)

    def load(self, networks: Sequence[nn.Module]) -> None:
        """Network k into slot k, for as many as there are. What the device fails to copy is copied anew."""
        anew: dict[int, nn.Module] = {}
        copies: dict[torch.dtype, tuple[list[Tensor], list[Tensor]]] = {}
        for slot, network in enumerate(networks):
            held = self._holds[slot]
            if held is not None and held() is network:
                continue
            # Neither the old one nor the new one, until all of it is copied.
            self._holds[slot], anew[slot] = None, network
            for row, tensor in zip(self._rows[slot], self._weights_of(network), strict=True):
                into, weights = copies.setdefault(row.dtype, ([], []))
                into.append(row)
                weights.append(tensor)
        for into, weights in copies.values():
            # A few launches for some hundred tensors, as optimizers do it: where all are of one type and lie
            # in memory as their rows do.
            torch._foreach_copy_(into, weights)
        for slot, network in anew.items():
            self._holds[slot] = weakref.ref(network)

    def __call__(self, images: Tensor, *features: Tensor) -> tuple[Tensor]:
        """(k, 3, P, P) and features alike → raw maps (k, P, P) float32 of the first k slots."""
        used = {name: rows[: len(images)] for name, rows in self._weights.items()}
        own = [tensor.unsqueeze(1) for tensor in (images, *features)]
        maps: Tensor = vmap(self._one)(used, *own)
        return (maps[:, 0].float(),)

    def _one(self, weights: dict[str, Tensor], images: Tensor, *features: Tensor) -> Tensor:
        maps: Tensor = functional_call(self._form, weights, (images, features))
        return maps

    def _weights_of(self, network: nn.Module) -> list[Tensor]:
        if network not in self._known:
            self._known[network] = [tensor.detach() for _, tensor in _state(network)]
        return self._known[network]


def _slots_of(tensor: Tensor, slots: int) -> Tensor:
    """(slots, …): copies of it, each of which lies in memory as it does."""
    rows = tensor.new_empty_strided((slots, *tensor.shape), (tensor.numel(), *tensor.stride()))
    return rows.copy_(tensor.expand(slots, *tensor.shape))


def _state(network: nn.Module) -> Iterator[tuple[str, Tensor]]:
    return chain(network.named_parameters(), network.named_buffers())


def _as_weights(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return (inputs[0].to(weight.dtype), *inputs[1:])


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds of one network for one picture by itself, and of a stack with all its slots."""

    alone_s: float
    stacked_s: float


class Stacks:
    """Which sizes of stacks pay, by measurement. For one thread.

    `form` names what networks must have in common to be stacked: size, precision, size of picture.
    """

    def __init__(self) -> None:
        self._measured: dict[tuple[str, int], _Measured | None] = {}

    def knows(self, form: str, slots: int) -> bool:
        return (form, slots) in self._measured

    def judge(self, form: str, slots: int, alone_s: float, stacked_s: float, apart: float) -> bool:
        """Whether it pays that so many networks, which took `alone_s` one by one, go stacked: it does if
        that is faster by a tenth and answers the same, at worst `apart` of the largest value."""
        # Written so that an `apart` that is no number doesn't agree.
        pays = stacked_s < _WINS * alone_s and apart < _SAME
        self._measured[form, slots] = _Measured(alone_s / slots, stacked_s) if pays else None
        return pays

    def slots_for(self, form: str, pictures: int, networks: int) -> int | None:
        """The stack that looks at so many pictures of so many networks in the least time; more pictures than
        it has slots take turns. None where one by one is about as fast.

        A network alone is taken to need the same time for several pictures as for one: so it is on a device
        that waits for launches, and where it isn't stacks are used too seldom rather than too often.
        """
        found = None
        least_s = math.inf
        for (known, slots), measured in sorted(self._measured.items()):
            if known == form and measured is not None:
                cost_s = measured.stacked_s * math.ceil(pictures / slots)
                if cost_s < least_s and cost_s < _WINS * measured.alone_s * networks:
                    found, least_s = slots, cost_s
        return found

    def __str__(self) -> str:
        won = sorted({slots for (_, slots), measured in self._measured.items() if measured is not None})
        return f"stacked at {', '.join(map(str, won))}" if won else "one by one"
