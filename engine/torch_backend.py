"""Teacher and camera networks in torch, on a CPU or a CUDA device."""

import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .artifact import Artifact
from .errors import ArtifactError
from .model.dmdd import build_network
from .model.precision import cpu_has_bf16
from .model.teacher import build_teacher
from .parity import Gap, probe_pictures

TensorFeatures = tuple[torch.Tensor, ...]
BuildTeacher = Callable[[str, Path | None], nn.Module]
BuildNetwork = Callable[[str], nn.Module]


class TorchBackend:
    """Channels-last, batch norms folded, bfloat16 where the device computes in it and the answers agree.

    `teacher_weights` names files of teachers that don't come from a package.
    """

    def __init__(
        self,
        device: torch.device,
        *,
        teacher_weights: Mapping[str, Path] | None = None,
        bf16: bool | None = None,
        make_teacher: BuildTeacher = build_teacher,
        make_network: BuildNetwork = build_network,
    ) -> None:
        self.device = device
        self._weights = dict(teacher_weights or {})
        self._make_teacher, self._make_network = make_teacher, make_network
        self._teachers: dict[str, nn.Module] = {}
        self._loading = threading.Lock()
        self.bf16 = bf16 if bf16 is not None else device.type == "cuda" or cpu_has_bf16()

    @property
    def name(self) -> str:
        return f"torch {self.device.type} {'bf16' if self.bf16 else 'float32'}"

    def prepare(self, artifact: Artifact) -> nn.Module:
        """Build, load and fold the network; if it disagrees with itself in bfloat16, all run in float32 from
        now on."""
        teacher = self._teacher(artifact.teacher)
        _check_teacher(artifact, teacher)
        network = self._make_network(artifact.size)
        try:
            network.load_state_dict(dict(artifact.state))
        except RuntimeError as error:
            raise ArtifactError(
                f"The weights of {artifact.name}@{artifact.version} don't fit the size {artifact.size}."
            ) from error
        network.requires_grad_(False).eval()
        fold_batch_norms(network)
        network = _placed(network, self.device)
        if self.bf16 and not self._agrees_in_bf16(artifact, teacher, network):
            # For everybody: the teacher runs once for all cameras, in one precision.
            self.bf16 = False
        return network

    def features(self, teacher: str, images: torch.Tensor) -> TensorFeatures:
        with torch.inference_mode(), self._precision(self.bf16):
            return tuple(self._teachers[teacher](images))

    def raw_maps(
        self, networks: list[tuple[nn.Module, slice]], images: torch.Tensor, features: TensorFeatures
    ) -> torch.Tensor:
        with torch.inference_mode(), self._precision(self.bf16):
            maps = [network(images[part], tuple(f[part] for f in features)) for network, part in networks]
        return torch.cat(maps).float() if len(maps) > 1 else maps[0].float()

    def _precision(self, bf16: bool) -> torch.autocast:
        return torch.autocast(self.device.type, dtype=torch.bfloat16, enabled=bf16)

    def _teacher(self, name: str) -> nn.Module:
        with self._loading:
            if name not in self._teachers:
                teacher = self._make_teacher(name, self._weights.get(name)).eval().requires_grad_(False)
                self._teachers[name] = _placed(teacher, self.device)
            return self._teachers[name]

    def _agrees_in_bf16(self, artifact: Artifact, teacher: nn.Module, network: nn.Module) -> bool:
        images = probe_pictures(artifact.input_px).to(self.device)
        answers = []
        for bf16 in (False, True):
            with torch.inference_mode(), self._precision(bf16):
                answers.append(network(images, tuple(teacher(images))).float().cpu())
        return not Gap.between(answers[0], answers[1], artifact).is_wide


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    placed: nn.Module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _check_teacher(artifact: Artifact, teacher: nn.Module) -> None:
    if artifact.teacher_sha256 != teacher.sha256:
        raise ArtifactError(
            f"{artifact.name}@{artifact.version} was trained with another {artifact.teacher} "
            f"({artifact.teacher_sha256[:12]}…) than the one here ({str(teacher.sha256)[:12]}…); "
            "train it again or bring its teacher's file."
        )


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, wherever they follow each other in an
    nn.Sequential."""
    for child in module.children():
        fold_batch_norms(child)
    if not isinstance(module, nn.Sequential):
        return
    for index in range(len(module) - 1):
        conv, norm = module[index], module[index + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module[index], module[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
