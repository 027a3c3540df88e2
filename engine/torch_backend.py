"""Teacher and camera networks in torch, on a CPU or a CUDA device."""

import copy
import threading
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

import torch
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from .artifact import Artifact
from .backend import Prepared
from .errors import ArtifactError
from .fitting import Picture, fitted, fitted_on_device
from .images import to_device
from .model.dmdd import build_network
from .model.precision import cpu_has_bf16, without_tf32
from .model.teacher import build_teacher
from .parity import Gap, probe_pictures
from .recorded import Capture, CudaGraphs
from .stacked import reducible
from .together import Together, quickest_s

TensorFeatures = tuple[torch.Tensor, ...]
BuildTeacher = Callable[[str, Path | None], nn.Module]
BuildNetwork = Callable[[str], nn.Module]
_IN_BF16, _IN_FLOAT32 = "bf16", "float32"


class TorchBackend:
    """Channels-last, batch norms folded, bfloat16 where the device computes in it and the answers agree.

    `teacher_weights` names files of teachers that don't come from a package. `bf16` None means: where it
    pays. `capture` None means: CUDA graphs on a CUDA device, nothing recorded elsewhere.
    """

    # On a CPU torch's threads for both would wait for each other; a CUDA device works by itself.
    works_beside = False

    def __init__(
        self,
        device: torch.device,
        *,
        teacher_weights: Mapping[str, Path] | None = None,
        bf16: bool | None = None,
        make_teacher: BuildTeacher = build_teacher,
        make_network: BuildNetwork = build_network,
        capture: Capture | None = None,
    ) -> None:
        self.device = device
        self._weights = dict(teacher_weights or {})
        self._make_teacher, self._make_network = make_teacher, make_network
        self._teachers: dict[str, nn.Module] = {}
        # Copies of them, as a model may still want the same teacher in float32.
        self._reduced: dict[str, nn.Module] = {}
        self._loading = threading.Lock()
        self._bf16 = bf16 if bf16 is not None else device.type == "cuda" or cpu_has_bf16()
        if device.type == "cuda":
            without_tf32()
            capture = capture or CudaGraphs(device)
        # Not bound methods: they and this object would hold each other, and a replaced one stay in memory.
        teach = partial(_teach, self._teachers, self._reduced)
        self._together = Together(device, teach, _one_by_one, capture)

    @property
    def name(self) -> str:
        return f"torch {self.device.type} {_IN_BF16 if self._bf16 else _IN_FLOAT32}"

    def teacher(self, name: str) -> nn.Module:
        """The teacher on the device, loaded once; any thread. Raises TeacherError."""
        with self._loading:
            if name not in self._teachers:
                teacher = self._make_teacher(name, self._weights.get(name)).eval().requires_grad_(False)
                self._teachers[name] = _placed(teacher, self.device)
            return self._teachers[name]

    def network(self, artifact: Artifact) -> nn.Module:
        """The camera's network on the device, batch norms folded. Raises ArtifactError, TeacherError."""
        _check_teacher(artifact, self.teacher(artifact.teacher))
        network = self._make_network(artifact.size).requires_grad_(False).eval()
        try:
            network.load_state_dict(dict(artifact.state))
        except RuntimeError as error:
            raise ArtifactError(
                f"The weights of {artifact.name}@{artifact.version} don't fit the size {artifact.size}."
            ) from error
        fold_batch_norms(network)
        return _placed(network, self.device)

    def unfilled_network(self, size: str) -> nn.Module:
        """A network of that size in the form of `network`, with weights of no meaning."""
        network = self._make_network(size).requires_grad_(False).eval()
        fold_batch_norms(network)
        return network

    def prepare(self, artifact: Artifact) -> Prepared:
        """A model that disagrees with itself in bfloat16 runs in float32, with a teacher forward of its
        own. Raises ArtifactError for one whose answers are no numbers.
        """
        network = self.network(artifact)
        if not self._bf16:
            self.reference(artifact, network)
            return Prepared(_key(artifact.teacher, _IN_FLOAT32), network, self.name)
        gap = self._gap(artifact, network)
        precision = _IN_FLOAT32 if gap.is_wide else _IN_BF16
        if precision == _IN_BF16:
            network = _reduced(network)
            self._reduce_teacher(artifact.teacher)
        return Prepared(
            _key(artifact.teacher, precision), network, f"torch {self.device.type} {precision} ({gap})"
        )

    def _reduce_teacher(self, name: str) -> None:
        teacher = self.teacher(name)
        with self._loading:
            if name not in self._reduced:
                self._reduced[name] = _reduced(copy.deepcopy(teacher))

    def upload(self, pictures: Sequence[Picture]) -> torch.Tensor:
        if self.device.type == "cuda":
            return fitted_on_device(pictures, self.device)
        return to_device([square for picture in pictures for square in fitted(picture)], self.device)

    def features(self, teacher: str, images: torch.Tensor) -> TensorFeatures:
        with torch.inference_mode():
            return self._together.features(teacher, images)

    def raw_maps(
        self, networks: Sequence[tuple[Prepared, slice]], images: torch.Tensor, features: TensorFeatures
    ) -> torch.Tensor:
        with torch.inference_mode():
            return self._together.raw_maps(networks, images, features)

    def settle(self, networks: Sequence[tuple[Prepared, slice]], images: torch.Tensor, most: int) -> None:
        with torch.inference_mode():
            self._together.settle([prepared for prepared, _ in networks], images, most)

    @property
    def together(self) -> str:
        return str(self._together)

    def student_share(self, prepared: Prepared, images: torch.Tensor, features: TensorFeatures) -> float:
        student = getattr(prepared.network, "student", None)
        if student is None:
            return 1.0
        _, _, precision = prepared.teacher.partition("/")
        with torch.inference_mode(), _autocast(self.device, precision):
            alone = whole = float("inf")
            for _ in range(5):  # in turns, so that what else the machine does meets both
                alone = min(alone, quickest_s(lambda: student(features[0]), self.device, times=1))
                whole = min(
                    whole, quickest_s(lambda: prepared.network(images, features), self.device, times=1)
                )
        return min(alone / whole, 1.0)

    def reference(self, artifact: Artifact, network: nn.Module) -> torch.Tensor:
        """Float32 raw maps (4, P, P) of the probe pictures, on the host: what every faster way must agree
        with. Raises ArtifactError if they are no numbers, as finite weights don't promise.
        """
        maps = self._answer(artifact, network, _IN_FLOAT32)
        if not bool(maps.isfinite().all()):
            raise ArtifactError(
                f"The model {artifact.name}@{artifact.version} answers with values that are not numbers; "
                "train it again or go back to an earlier version."
            )
        return maps

    def _gap(self, artifact: Artifact, network: nn.Module) -> Gap:
        exact = self.reference(artifact, network)
        return Gap.between(exact, self._answer(artifact, network, _IN_BF16), artifact)

    def _answer(self, artifact: Artifact, network: nn.Module, precision: str) -> torch.Tensor:
        teacher = self.teacher(artifact.teacher)
        images = to_device(probe_pictures(artifact.input_px), self.device)
        with torch.inference_mode(), _autocast(self.device, precision):
            raw: torch.Tensor = network(images, tuple(teacher(images)))
        return raw.float().cpu()


def _teach(
    exact: Mapping[str, nn.Module], reduced: Mapping[str, nn.Module], teacher: str, images: torch.Tensor
) -> TensorFeatures:
    name, _, precision = teacher.partition("/")
    with _autocast(images.device, precision):
        return tuple((reduced if precision == _IN_BF16 else exact)[name](images))


def _one_by_one(
    networks: Sequence[tuple[Prepared, slice]], images: torch.Tensor, features: TensorFeatures
) -> torch.Tensor:
    _, _, precision = networks[0][0].teacher.partition("/")
    with _autocast(images.device, precision):
        maps = [p.network(images[part], tuple(f[part] for f in features)) for p, part in networks]
    return torch.cat(maps).float()


def _autocast(device: torch.device, precision: str) -> torch.autocast:
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == _IN_BF16)


def _key(teacher: str, precision: str) -> str:
    return f"{teacher}/{precision}"


def _placed(module: nn.Module, device: torch.device) -> nn.Module:
    placed: nn.Module = module.to(device, memory_format=torch.channels_last)  # type: ignore[call-overload]
    return placed


def _reduced(module: nn.Module) -> nn.Module:
    """The same module, the weights that it multiplies with in bfloat16. Autocast gives the same answers with
    float32 ones, but casts them anew in every forward: it remembers only weights that are being trained.
    """
    for _, layer in reducible(module):
        layer.to(torch.bfloat16)
    return module


def _check_teacher(artifact: Artifact, teacher: nn.Module) -> None:
    if artifact.teacher_sha256 != teacher.sha256:
        raise ArtifactError(
            f"{artifact.name}@{artifact.version} was trained with another {artifact.teacher} "
            f"({artifact.teacher_sha256[:12]}…) than the one here ({str(teacher.sha256)[:12]}…); "
            "train it again or bring its teacher's file."
        )


def fold_batch_norms(module: nn.Module) -> None:
    """Fold each batch norm into the convolution before it, where they follow each other in an
    nn.Sequential.
    """
    for child in module.children():
        fold_batch_norms(child)
    if not isinstance(module, nn.Sequential):
        return
    for index in range(len(module) - 1):
        conv, norm = module[index], module[index + 1]
        if isinstance(conv, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
            module[index], module[index + 1] = fuse_conv_bn_eval(conv, norm), nn.Identity()
