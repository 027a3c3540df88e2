"""Networks of equal shape, with weights of their own, as one call: their weights stacked, each convolution
grouped.

On a GPU a network of one camera is many small kernels, and so many times as many for so many cameras; stacked
it is as many as for one. On a CPU grouped convolutions are slower. So it is tried, not assumed.
"""

import copy
from collections import OrderedDict
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn
from torch.func import functional_call, stack_module_state, vmap

Members = tuple[nn.Module, ...]
# Sets of cameras whose stack is kept: so many batches of 16 serve 64 cameras in turn.
_KEPT = 4
# Of the time one by one: what a stack must stay under to be worth its memory.
_WINS = 0.9
# In raw map values, which are in standard deviations of good pictures: as far as orders of addition matter.
_SAME = 0.05
# Takes small differences of large numbers: float32 whatever the rest has, as autocast has it elsewhere.
_EXACT = "logit"
_MULTIPLIES = (nn.Conv2d, nn.Linear)


def reducible(network: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The layers, with their names, whose weights may be in bfloat16 where the rest computes in it."""
    for name, layer in network.named_modules():
        if isinstance(layer, _MULTIPLIES) and not name.endswith(_EXACT):
            yield name, layer


class Stack:
    """A copy of the weights of `networks`, in `dtype` where they multiply matrices."""

    def __init__(self, networks: Members, dtype: torch.dtype) -> None:
        weights, self._buffers = stack_module_state(list(networks))
        self._form = copy.deepcopy(networks[0]).to("meta")
        reduced = {
            f"{name}.{weight}"
            for name, layer in reducible(self._form)
            for weight, _ in layer.named_parameters(recurse=False)
        }
        self._weights = {k: v.to(dtype) if k in reduced else v for k, v in weights.items()}
        for layer in self._form.modules():
            if isinstance(layer, _MULTIPLIES):
                # Autocast doesn't reach what is mapped.
                layer.register_forward_pre_hook(_as_weights)

    def __call__(self, images: Tensor, features: Sequence[Tensor]) -> Tensor:
        """(K * n, 3, P, P) and features alike → raw maps (K * n, P, P): network k looks at n pictures of its
        own."""
        count = next(iter(self._weights.values())).shape[0]
        own = [tensor.reshape(count, -1, *tensor.shape[1:]) for tensor in (images, *features)]
        maps: Tensor = vmap(self._one)(self._weights, self._buffers, own[0], *own[1:])
        return maps.flatten(0, 1)

    def _one(
        self, weights: dict[str, Tensor], buffers: dict[str, Tensor], images: Tensor, *own: Tensor
    ) -> Tensor:
        maps: Tensor = functional_call(self._form, (weights, buffers), (images, own))
        return maps


def _as_weights(layer: nn.Module, inputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    weight = layer.weight
    assert isinstance(weight, Tensor)
    return (inputs[0].to(weight.dtype), *inputs[1:])


class Stacks:
    """Which numbers of networks run faster stacked, and the stacks that are in use. For one thread.

    `form` names what networks must have in common to be stacked: size and precision.
    """

    def __init__(self) -> None:
        self._wins: dict[tuple[str, int], bool] = {}
        self._kept: OrderedDict[Members, Stack | None] = OrderedDict()

    def knows(self, form: str, count: int) -> bool:
        return (form, count) in self._wins

    def judge(self, form: str, count: int, alone_s: float, stacked_s: float, apart: float) -> None:
        """So many are stacked from now on if that is faster by a tenth and answers the same."""
        self._wins[form, count] = stacked_s < _WINS * alone_s and apart < _SAME

    def find(self, form: str, members: Members, dtype: torch.dtype) -> Stack | None:
        """The stack of these networks if the largest number tried that isn't above theirs was faster stacked.

        From the second time on that they come together: making one for a chance meeting costs more than it
        saves. Where there is no memory for one, nothing is stacked any more.
        """
        tried = [count for known, count in self._wins if known == form and count <= len(members)]
        if not tried or not self._wins[form, max(tried)]:
            return None
        met = members in self._kept
        stack = self._kept.pop(members, None)
        if stack is None and met:
            try:
                stack = Stack(members, dtype)
            except torch.OutOfMemoryError:
                self._wins = dict.fromkeys(self._wins, False)
                self._kept.clear()
                return None
        self._kept[members] = stack
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)
        return self._kept[members]

    def __str__(self) -> str:
        won = sorted(count for (_, count), wins in self._wins.items() if wins)
        return f"stacked at {', '.join(map(str, won))}" if won else "one by one"
