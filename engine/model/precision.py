"""Where bfloat16 pays: on CUDA always, on a CPU only if it computes in it (slower than float32 otherwise)."""

from functools import lru_cache
from pathlib import Path

import torch


@lru_cache(maxsize=1)
def cpu_has_bf16() -> bool:
    """Whether this CPU multiplies bfloat16 matrices itself (AMX or AVX-512 BF16; Linux only knows)."""
    flags = _cpuinfo()
    return "amx_bf16" in flags or "avx512_bf16" in flags


def cpu_name() -> str:
    """The model of this CPU, "" where nobody says: what was measured on one doesn't hold for another."""
    names = [line for line in _cpuinfo().splitlines() if line.startswith("model name")]
    return names[0].partition(":")[2].strip() if names else ""


def _cpuinfo() -> str:
    try:
        return Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace")
    except OSError:
        return ""


def without_tf32() -> None:
    """For the whole process. cuDNN's convolutions on CUDA otherwise round what they multiply to 10 bits, and
    float32, by which every faster way is judged, would be nearly as coarse as what it judges."""
    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False


def autocast(device: torch.device) -> torch.autocast:
    """The precision to run the network in on `device`; losses, joins and logits step out of it to float32."""
    pays = device.type == "cuda" or (device.type == "cpu" and cpu_has_bf16())
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=pays)
