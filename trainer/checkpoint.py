"""Where a training stood, so that a killed one goes on instead of starting again.

One safetensors file, replaced whole: network, optimiser moments, stage and step, and a fingerprint of the
wish, so that another wish never goes on from it. As everything random is drawn from (seed, stage, step), a
resumed run with as many threads ends with the same weights as one that was never interrupted; their number is
kept too.
"""

import hashlib
import json
import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor

from engine.model.dmdd import ARCHITECTURE, CameraNetwork

EVERY_S = 60.0
# Another number for another content of the file, or another meaning of its steps.
_FORMAT = 2
_ANEW = (
    "What was kept of an interrupted training is of other pictures, other options or another version of "
    "Linewatch: it is discarded, and this training starts anew."
)


@dataclass(slots=True, eq=False)
class Checkpoint:
    """`path` None keeps nothing. `stage` and `step` are how far the kept run was; stage 0 = nothing was kept.
    `threads` is how many it had on a CPU; 0 = not known yet.

    A file that can't be written (full disk) is given up silently: it only saves time.
    """

    path: Path | None
    fingerprint: str
    stage: int = 0
    step: int = 0
    threads: int = 0
    _moments: dict[str, Tensor] = field(default_factory=dict)
    _written_at: float = field(default_factory=time.monotonic)

    def resume(self, network: CameraNetwork) -> str:
        """Load the kept weights if they are of this very wish and network.

        What was done, for the person; "" if nothing was kept. Kept weights that don't fit change nothing.
        """
        if self.path is None or not self.path.is_file():
            return ""
        try:
            with safe_open(self.path, framework="pt") as file:
                said = file.metadata() or {}
                if said.get("fingerprint") != self.fingerprint:
                    return _ANEW
                kept = {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        except (OSError, SafetensorError):
            return _ANEW
        weights = {k.removeprefix("network."): v for k, v in kept.items() if k.startswith("network.")}
        # Looked at before loading: load_state_dict fills what fits and only then raises.
        if _shapes(weights) != _shapes(network.state_dict()):
            return _ANEW
        network.load_state_dict(weights)
        self._moments = {k: v for k, v in kept.items() if k.startswith("moment.")}
        self.stage, self.step, self.threads = (int(said[name]) for name in ("stage", "step", "threads"))
        with suppress(OSError):  # for `stamp`
            os.utime(self.path)
        return "Going on with the training that was interrupted."

    def start(self, stage: int, optimiser: torch.optim.Optimizer) -> int:
        """The step to begin `stage` with, its optimiser brought to where it was; -1 if it was done."""
        if stage < self.stage:
            return -1
        if stage > self.stage:
            return 0
        _give_moments(optimiser, self._moments)
        return self.step

    def keep(self, stage: int, done: int, network: CameraNetwork, optimiser: torch.optim.Optimizer) -> None:
        """Write the file if the last time is a minute ago; `done` steps of `stage` are behind us."""
        if self.path is None or time.monotonic() - self._written_at < EVERY_S:
            return
        tensors = {f"network.{k}": v for k, v in network.state_dict().items()} | _take_moments(optimiser)
        said = {"fingerprint": self.fingerprint, "stage": str(stage), "step": str(done)}
        said["threads"] = str(self.threads)
        _replace(self.path, {k: v.detach().cpu().contiguous() for k, v in tensors.items()}, said)
        self._written_at = time.monotonic()


def stamp(path: Path) -> int:
    """Another number once a training has gone on from the file or written it; 0: nothing is kept.

    That the file is there says little: it may be of another wish, which this training doesn't go on from.
    """
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


def fingerprint(pixels: Iterable[NDArray[np.uint8]], **wish: object) -> str:
    """The wish in words that compare; `pixels` is all that is learnt from: others under the same names are
    another wish."""
    pictures = hashlib.sha256()
    for some in pixels:
        pictures.update(some.tobytes())
    return json.dumps(
        {"format": _FORMAT, "architecture": ARCHITECTURE, "pictures": pictures.hexdigest(), **wish},
        sort_keys=True,
        default=str,
    )


def _shapes(state: Mapping[str, Tensor]) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in state.items()}


def _take_moments(optimiser: torch.optim.Optimizer) -> dict[str, Tensor]:
    states: Mapping[int, Mapping[str, Tensor]] = optimiser.state_dict()["state"]
    return {f"moment.{i}.{name}": value for i, state in states.items() for name, value in state.items()}


def _give_moments(optimiser: torch.optim.Optimizer, moments: Mapping[str, Tensor]) -> None:
    whole = optimiser.state_dict()
    for key, value in moments.items():
        _, index, name = key.split(".")
        whole["state"].setdefault(int(index), {})[name] = value
    optimiser.load_state_dict(whole)


def _replace(path: Path, tensors: dict[str, Tensor], said: dict[str, str]) -> None:
    draft = path.with_suffix(f".{os.getpid()}.draft")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        draft.write_bytes(save(tensors, said))
        draft.replace(path)
    except OSError:
        with suppress(OSError):
            draft.unlink()
