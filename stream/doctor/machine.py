"""What holds for the whole machine: the installation, the device, the codecs, the clock."""

import ctypes
import sys
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import packages_distributions, version
from pathlib import Path
from typing import Literal

from .findings import Finding, failed, ok, warning

OURS = ("config", "engine", "stream", "trainer")
DECODERS = ("h264", "hevc", "mjpeg")
_ENCODER = "libvpx"
_TIME_ERROR = 5
_TIMEX_BYTES = 512
# No clock is right that says it is before this program was written.
_WRITTEN_AT_S = 1_793_000_000.0
_GPU_FILES = ("/dev/nvidia0", "/proc/driver/nvidia/version")


def installation(owners: Mapping[str, Sequence[str]] | None = None) -> Finding:
    """Versions; and whether another package brings a module of one of our names (`owners` by module)."""
    owners = packages_distributions() if owners is None else owners
    foreign = {name: set(owners.get(name, ())) - {"linewatch"} for name in OURS}
    if clash := {name: sorted(who) for name, who in foreign.items() if who}:
        name, who = next(iter(clash.items()))
        return failed(
            "install",
            f"the package {who[0]} also brings a module {name}, and one of the two is hidden; "
            "install Linewatch into a virtual environment of its own",
        )
    python = ".".join(map(str, sys.version_info[:3]))
    return ok("install", f"linewatch {version('linewatch')}, Python {python}, torch {version('torch')}")


def device(wish: str = "auto") -> Finding:
    """What would inspect. Computes something on it: a driver may be there and not work."""
    import torch

    from engine.choose import choose_device, why_no_cuda
    from engine.cores import usable_cores
    from engine.errors import DeviceError
    from engine.xp import library_for

    try:
        place = choose_device(wish)
        if place.type == "cpu":
            if wish == "auto" and any(Path(name).exists() for name in _GPU_FILES):
                return warning("device", f"the CPU is used though there is a GPU: {why_no_cuda()}")
            return ok("device", f"CPU, {usable_cores()} cores, {_cpu_backend()}")
        float(torch.ones(8, device=place).sum())
    except (DeviceError, RuntimeError) as error:
        return failed("device", str(error).splitlines()[0])
    card, regions = torch.cuda.get_device_properties(place), library_for(place)
    found = f"{place}, {card.name}, {card.total_memory >> 20} MiB, CUDA {torch.version.cuda}"
    if not regions.on_device:
        extra = f"cuda{(torch.version.cuda or '').partition('.')[0]}"
        return warning("device", f"{found}, regions by {regions.name}, slower; install the extra {extra}")
    return ok("device", f"{found}, regions by {regions.name}")


def codecs() -> Finding:
    """What cameras send and browsers are sent."""
    import av
    from av.codec import Codec

    lacking = [name for name in DECODERS if not _has(name, "r")]
    if lacking:
        return failed("codecs", f"PyAV {av.__version__} can't decode {', '.join(lacking)}; install its wheel")
    if not _has(_ENCODER, "w"):
        return warning("codecs", f"PyAV can't encode VP8 ({_ENCODER}): the page falls back to MJPEG")
    return ok("codecs", f"decodes {', '.join(DECODERS)}; encodes {Codec(_ENCODER, 'w').name} (VP8)")


def clock(now_s: float | None = None, synchronised: bool | None = None) -> Finding:
    """Events are dated by this clock. `synchronised` None: the kernel is asked."""
    now_s = time.time() if now_s is None else now_s
    if now_s < _WRITTEN_AT_S:
        return failed("clock", "the clock is years behind; set it, and let chrony keep it")
    synchronised = _synchronised() if synchronised is None else synchronised
    if synchronised is None:
        return warning("clock", "the system does not say whether its clock follows a time server")
    if not synchronised:
        return warning(
            "clock", "the clock follows no time server; run chrony or systemd-timesyncd against the plant's"
        )
    return ok("clock", "follows a time server")


def _cpu_backend() -> str:
    try:
        return f"OpenVINO {version('openvino')}"
    except ModuleNotFoundError:
        return "torch (OpenVINO, which is faster, is not installed)"


def _has(name: str, mode: Literal["r", "w"]) -> bool:
    from av.codec import Codec
    from av.codec.codec import UnknownCodecError

    try:
        Codec(name, mode)
    except UnknownCodecError:
        return False
    return True


def _synchronised() -> bool | None:
    """What adjtimex(2) says when only asked: its answer is TIME_ERROR for a clock that follows nobody."""
    if sys.platform != "linux":
        return None
    answer = ctypes.CDLL(None).adjtimex(ctypes.create_string_buffer(_TIMEX_BYTES))
    return None if answer < 0 else answer != _TIME_ERROR
