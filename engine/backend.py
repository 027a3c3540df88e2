"""What a runner needs of whatever multiplies the matrices."""

from typing import Any, Protocol

import torch

from .artifact import Artifact

# Teacher features and prepared networks belong to the back end that made them; nobody else looks inside.
Features = Any
Network = Any


class Backend(Protocol):
    """One way to run teachers and camera networks on one device.

    `prepare` may be called from any thread and may be slow; the other methods only from the device thread.
    """

    name: str
    device: torch.device

    def prepare(self, artifact: Artifact) -> Network:
        """Get a model ready; refuses (ArtifactError, TeacherError) one that doesn't fit or doesn't agree."""

    def features(self, teacher: str, images: torch.Tensor) -> Features:
        """Images (N, 3, P, P) float32 in [0, 1] to that teacher's features of all N."""

    def raw_maps(
        self, networks: list[tuple[Network, slice]], images: torch.Tensor, features: Features
    ) -> torch.Tensor:
        """(N, P, P) float32: each network looks at its own slice; the slices cover 0…N in order."""
