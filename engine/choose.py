"""Which device, which back end."""

import importlib.util
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import torch

from .backend import Backend
from .cores import usable_cores
from .errors import DeviceError
from .model.precision import without_tf32
from .torch_backend import TorchBackend

_NVIDIA_DRIVER = Path("/proc/driver/nvidia/version")


def choose_device(wish: str) -> torch.device:
    """auto, cpu, cuda or cuda:n to a device that exists. Raises DeviceError."""
    if wish == "auto":
        wish = "cuda" if torch.cuda.is_available() else "cpu"
    try:
        device = torch.device(wish)
    except RuntimeError as error:
        raise DeviceError(f"There is no device {wish!r}; choose auto, cpu, cuda or cuda:0.") from error
    if device.type == "cpu":
        return device
    if device.type != "cuda" or not torch.cuda.is_available():
        raise DeviceError(f"There is no {wish}: {why_no_cuda()}; or choose auto or cpu as the device.")
    index = device.index or 0
    if index >= torch.cuda.device_count():
        raise DeviceError(f"There is no {wish}: torch sees {torch.cuda.device_count()} CUDA devices.")
    without_tf32()
    return torch.device("cuda", index)


def why_no_cuda() -> str:
    """Why torch can't compute on a GPU here, and what to do, as part of a sentence."""
    if torch.version.cuda is None:
        return "this torch is a build for CPUs; install its CUDA build"
    if not _NVIDIA_DRIVER.exists():
        return "no NVIDIA driver is loaded; install it, or give the container its GPU (--gpus all)"
    return (
        f"the NVIDIA driver here does not serve CUDA {torch.version.cuda}, which this torch needs; "
        "update the driver, or let this process use /dev/nvidia*"
    )


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """What torch computes on a CPU inside, on this thread, it does with so many."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def open_backend(
    device: str = "auto",
    *,
    backend: str = "auto",
    precision: str = "auto",
    threads: int | None = None,
    cache_dir: Path | None = None,
    teacher_weights: Mapping[str, Path] | None = None,
) -> Backend:
    """CUDA: torch. CPU: OpenVINO where it is installed, else torch.

    A reduced `precision` ("bf16") is used for a model only if it agrees with float32; "auto" means so too.
    `cache_dir`, by default the user's cache folder, keeps what OpenVINO made for a faster next start.
    Raises DeviceError for a wish that can't be met.
    """
    if precision not in ("auto", "float32", "bf16"):
        raise DeviceError(
            f"There is no precision {precision!r} in this version; choose auto, float32 or bf16."
        )
    # OpenVINO is a wish for the CPU.
    place = choose_device("cpu" if (device, backend) == ("auto", "openvino") else device)
    bf16 = False if precision == "float32" else None
    if place.type == "cuda" and backend in ("auto", "torch"):
        return TorchBackend(place, teacher_weights=teacher_weights, bf16=bf16)
    cores = threads or usable_cores()
    if backend == "torch" or (backend == "auto" and not _has_openvino()):
        torch.set_num_threads(cores)
        return TorchBackend(place, teacher_weights=teacher_weights, bf16=bf16)
    if backend not in ("auto", "openvino") or place.type != "cpu" or not _has_openvino():
        raise DeviceError(f"The back end {backend!r} can't run here on {place}; choose auto.")
    # Only here: torch alone must do on a machine without OpenVINO.
    from .openvino_backend import OpenVinoBackend

    cache_dir = cache_dir or _default_cache_dir()
    return OpenVinoBackend(
        threads=cores, precision=precision, cache_dir=cache_dir, teacher_weights=teacher_weights
    )


def _default_cache_dir() -> Path | None:
    """~/.cache/linewatch or its like; None for a user without a home."""
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "linewatch"
    try:
        return Path.home() / ".cache" / "linewatch"
    except RuntimeError:
        return None


def _has_openvino() -> bool:
    return importlib.util.find_spec("openvino") is not None
