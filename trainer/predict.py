"""A saved model as a function from pictures to raw maps, for measuring it."""

from pathlib import Path

import torch

from engine.artifact import Artifact
from engine.errors import ArtifactError
from engine.model.dmdd import build_network
from engine.model.teacher import build_teacher

from .calibrate import Predict, within
from .recipe import predictor


def model_of(artifact: Artifact, device: torch.device, teacher_weights: Path | None = None) -> Predict:
    """Build network and teacher as the manifest names them, in the runner's precision; what lies outside the
    areas that the alarm level was set for counts as nothing.

    Raises ArtifactError if the weights don't fit the size, TeacherError if the teacher isn't the one of
    training.
    """
    teacher = build_teacher(artifact.teacher, teacher_weights, artifact.teacher_sha256).to(device)
    network = build_network(artifact.size)
    try:
        network.load_state_dict(dict(artifact.state))
    except RuntimeError as error:
        raise ArtifactError(
            f"The weights of {artifact.name}@{artifact.version} don't fit the size {artifact.size}."
        ) from error
    return within(predictor(network.to(device), teacher, device, artifact.tiling), artifact.areas)
