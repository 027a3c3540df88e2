"""What a runner needs of whatever multiplies the matrices."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from .artifact import Artifact
from .fitting import Picture

# Pictures and features on the device belong to the back end that made them; nobody else looks inside.
Images = Any
Features = Any


@dataclass(frozen=True, slots=True, eq=False)
class Prepared:
    """One camera's network, ready to run.

    `teacher` names the features it wants: cameras with the same one share a teacher forward. `network` is
    the back end's own; `note` says in words how it runs, and why not faster, for `linewatch doctor` and logs.
    """

    teacher: str
    network: Any
    note: str = ""


class Backend(Protocol):
    """One way to run teachers and camera networks on one device.

    `prepare` may be called from any thread and may be slow; the other methods only from the device thread,
    and `features` and `raw_maps` from one other thread where it `works_beside`, never from both at once.
    """

    @property
    def name(self) -> str:
        """What computes, on what, in which precision."""

    device: torch.device
    # Whether a thread of its own may compute the networks beside the NumPy and torch of the device thread.
    works_beside: bool

    def prepare(self, artifact: Artifact) -> Prepared:
        """Get a model ready. Raises ArtifactError or TeacherError for one that doesn't fit."""

    def upload(self, pictures: Sequence[Picture]) -> Images:
        """Frames (H, W, 3) uint8 RGB to the device, as squares of network size; N of them in all.

        They can be indexed by a slice.
        """

    def features(self, teacher: str, images: Images) -> Features:
        """That teacher's features of all N pictures."""

    def raw_maps(
        self, networks: Sequence[tuple[Prepared, slice]], images: Images, features: Features
    ) -> torch.Tensor:
        """(N, P, P) float32 on `device`: each network looks at its own slice; the slices cover 0…N in
        order.
        """

    def settle(self, networks: Sequence[tuple[Prepared, slice]], images: Images, most: int) -> None:
        """Measure the ways to run these networks together, for at most so many pictures at once, and keep to
        the fastest; while warming up. They share a teacher; of `images` only the size matters."""

    @property
    def together(self) -> str:
        """In words, how the networks of several cameras run."""

    def student_share(self, prepared: Prepared, images: Images, features: Features) -> float:
        """How much of a network's time its student takes; the rest goes to distances, head and join."""
