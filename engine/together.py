"""How the pictures of several cameras go through torch together, as measured while warming up: networks one
by one or stacked, calls recorded or not.

Pictures are looked at in one of the few numbers of places that were settled, empty places included: so a few
recordings serve every batch, whichever cameras are in it. The teacher takes the smallest number that has
room, stacked networks the one that needs the least time.
"""

import math
import time
from collections.abc import Callable, Hashable, Sequence
from itertools import accumulate, cycle, islice

import torch
from torch import Tensor

from .backend import Prepared
from .recorded import Call, Capture, Recorded, Tensors, why_not
from .stacked import Stack, Stacks

Networks = Sequence[tuple[Prepared, slice]]
Teach = Callable[[str, Tensor], Tensors]
OneByOne = Callable[[Networks, Tensor, Tensors], Tensor]

# Where stacking lost with so many, more are not tried on a CPU: it takes seconds and wins nothing there.
_TRIED_ON_CPU = 2
_TIMES = 3
# Of the largest feature: what a recording may be off. It runs the same kernels on other memory.
_SAME = 0.01


class Together:
    """Belongs to the device thread, which calls it in inference mode.

    `teach` and `one_by_one` are the plain ways. With `capture` calls are recorded where that is faster.
    """

    def __init__(
        self, device: torch.device, teach: Teach, one_by_one: OneByOne, capture: Capture | None
    ) -> None:
        self._device, self._capture = device, capture
        self._teach, self._one_by_one = teach, one_by_one
        self._stacks = Stacks()
        self._stack: dict[str, Stack] = {}
        self._stacked: dict[tuple[str, int], Call] = {}
        # By teacher and size of picture; by number of pictures. None: it doesn't pay.
        self._teachers: dict[Hashable, dict[int, Recorded | None]] = {}
        self._why_not: str | None = None

    def __str__(self) -> str:
        taught = any(call for known in self._teachers.values() for call in known.values())
        stacked = any(isinstance(call, Recorded) for call in self._stacked.values())
        why = f", not recorded: {self._why_not}" if self._why_not else ""
        return f"{self._stacks}{', recorded' if taught or stacked else why}"

    def features(self, teacher: str, images: Tensor) -> Tensors:
        """The teacher's features of N pictures."""
        known = self._teachers.get((teacher, images.shape[1:]), {})
        enough = [count for count, call in known.items() if call is not None and count >= len(images)]
        recorded = known[min(enough)] if enough else None
        return self._teach(teacher, images) if recorded is None else recorded(images)

    def raw_maps(self, networks: Networks, images: Tensor, features: Tensors) -> Tensor:
        """(N, P, P) float32: each network looks at its own slice."""
        alike: dict[str | None, list[tuple[Prepared, slice]]] = {}
        for model, part in networks:
            alike.setdefault(_form_of(model, images), []).append((model, part))
        if len(alike) == 1:
            return self._maps_of(next(iter(alike)), networks, images, features)
        maps = images.new_empty((len(images), *images.shape[2:]), dtype=torch.float32)
        for form, mine in alike.items():
            # Slices, as the host waits for the device when a list of places is sent there.
            shown, *levels = (torch.cat([level[part] for _, part in mine]) for level in (images, *features))
            side_by_side = _side_by_side(mine)
            found = self._maps_of(form, side_by_side, shown, tuple(levels))
            for (_, part), (_, there) in zip(mine, side_by_side, strict=True):
                maps[part] = found[there]
        return maps

    def _maps_of(self, form: str | None, networks: Networks, images: Tensor, features: Tensors) -> Tensor:
        slots = None if form is None else self._stacks.slots_for(form, len(images), len(networks))
        if form is None or slots is None:
            return self._one_by_one(networks, images, features)
        owners = [model.network for model, part in networks for _ in range(part.stop - part.start)]
        maps: list[Tensor] = []
        for start in range(0, len(images), slots):
            part = slice(start, start + slots)
            self._stack[form].load(owners[part])
            maps += self._stacked[form, slots](images[part], *(level[part] for level in features))
        return maps[0] if len(maps) == 1 else torch.cat(maps)

    def settle(self, models: Sequence[Prepared], images: Tensor, most: int) -> None:
        """Find out what is fastest for up to `most` pictures like `images`, seen by these models."""
        counts = sorted({most, *(2**power for power in range(most.bit_length()))})
        if self._capture is not None:
            for count in counts:
                self._settle_teacher(models[0].teacher, images, count)
        alike: dict[str | None, list[Prepared]] = {}
        for model in models:
            alike.setdefault(_form_of(model, images), []).append(model)
        for form, mine in alike.items():
            tried = counts
            if self._device.type == "cpu" and self._capture is None:
                tried = [_TRIED_ON_CPU] if len(mine) > 1 else []
            for slots in tried:
                if form is not None and not self._stacks.knows(form, slots):
                    self._settle_stack(form, list(islice(cycle(mine), slots)), images, tried[-1])

    def _settle_teacher(self, teacher: str, images: Tensor, count: int) -> None:
        known = self._teachers.setdefault((teacher, images.shape[1:]), {})
        if count in known:
            return

        def teach(pictures: Tensor) -> Tensors:
            return self._teach(teacher, pictures)

        shown, others = _random_pictures(count, images), _random_pictures(count, images, seed=2)
        known[count] = None
        recorded = self._recorded(teach, [shown])
        if recorded is None:
            return
        apart = max(map(_apart, teach(others), recorded(others)))
        plain_s = quickest_s(lambda: teach(others), self._device, _TIMES)
        if apart < _SAME and quickest_s(lambda: recorded(others), self._device, _TIMES) < plain_s:
            known[count] = recorded

    def _settle_stack(self, form: str, models: Sequence[Prepared], images: Tensor, most: int) -> None:
        count, teacher = len(models), models[0].teacher
        shown, others = _random_pictures(count, images), _random_pictures(count, images, seed=2)
        alone = [(prepared, slice(place, place + 1)) for place, prepared in enumerate(models)]
        features = self.features(teacher, others)
        alone_s = quickest_s(lambda: self._one_by_one(alone, others, features), self._device, _TIMES)
        try:
            stack = self._stack.get(form) or Stack(models[0].network, most)
            stack.load([prepared.network for prepared in models])
            call = self._recorded(stack, [shown, *self.features(teacher, shown)]) or stack
            apart = _apart(self._one_by_one(alone, others, features), *call(others, *features))
            stacked_s = quickest_s(lambda: call(others, *features), self._device, _TIMES)
        except RuntimeError as error:
            # No memory for both, or a layer that can't be stacked here: one by one is no failure.
            if why_not(error) is None:
                raise
            stacked_s = apart = math.inf
        if self._stacks.judge(form, count, alone_s, stacked_s, apart):
            self._stack[form], self._stacked[form, count] = stack, call

    def _recorded(self, call: Call, inputs: Sequence[Tensor]) -> Recorded | None:
        """None where it can't be."""
        if self._capture is None:
            return None
        try:
            return Recorded(call, inputs, self._capture)
        except RuntimeError as error:
            self._why_not = why_not(error)
            if self._why_not is None:
                raise
            return None


def quickest_s(call: Callable[[], object], device: torch.device, times: int) -> float:
    """Seconds of the quickest of a few calls, after one that doesn't count."""
    spent = []
    for _ in range(times + 1):
        started = time.perf_counter()
        call()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        spent.append(time.perf_counter() - started)
    return min(spent[1:])


def _form_of(model: Prepared, images: Tensor) -> str | None:
    """What networks must have in common to be stacked; None if this one can't be."""
    spec = getattr(model.network, "spec", None)
    return None if spec is None else f"{model.teacher} {spec.name} {images.shape[-1]}"


def _side_by_side(networks: Networks) -> list[tuple[Prepared, slice]]:
    """The same when what they look at is put together without what lay between."""
    ends = accumulate(part.stop - part.start for _, part in networks)
    return [
        (model, slice(end - (part.stop - part.start), end))
        for (model, part), end in zip(networks, ends, strict=True)
    ]


def _apart(one: Tensor, other: Tensor) -> float:
    """The largest difference, in parts of the largest value."""
    largest = one.float().abs().max().clamp(min=1e-6)
    return float((one.float() - other.float()).abs().max() / largest)


def _random_pictures(count: int, like: Tensor, seed: int = 1) -> Tensor:
    """Not blank ones, on which a recording that ignores its input would look right."""
    dice = torch.Generator().manual_seed(seed)
    pictures = torch.rand((count, *like.shape[1:]), generator=dice)
    return pictures.to(like.device, like.dtype, memory_format=torch.channels_last)
