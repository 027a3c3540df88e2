"""What torch, CuPy and OpenVINO raise when a device fails, in our words."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch

from .errors import DeviceError, OutOfMemory

# The words by which an error of the device is known that comes as a plain RuntimeError: of cuBLAS and cuDNN,
# and of a kernel that failed long before the call that says so.
CUDA_SIGNS = ("CUDA error", "CUDA driver error", "cuDNN error", "CUBLAS_STATUS")
# cudaErrorMemoryAllocation: of what doesn't come from torch's pool, such as pinned memory or a kernel's code.
_CUDA_NO_MEMORY = 2
# What cuDNN says when none of its ways to convolve found memory to work in.
_CUDNN_NO_MEMORY = "unable to find an engine to execute this computation"
_OPENVINO_SIGN = "Exception from src/"


@contextmanager
def device_errors(
    what: str = "this batch", signs: tuple[str, ...] = (*CUDA_SIGNS, _OPENVINO_SIGN)
) -> Iterator[None]:
    """Say in our words that memory ran out or the device is gone; anything else passes as the bug it is.

    `signs` are the words by which a RuntimeError is of the device; CuPy's are, whatever they say.
    """
    try:
        yield
    except (torch.OutOfMemoryError, MemoryError) as error:
        raise OutOfMemory(f"The device has no memory left for {what} ({first_line(error)}).") from error
    except torch.AcceleratorError as error:
        if getattr(error, "error_code", None) == _CUDA_NO_MEMORY:
            raise OutOfMemory(f"The device has no memory left for {what} ({first_line(error)}).") from error
        raise DeviceError(f"The device failed ({first_line(error)}).") from error
    except RuntimeError as error:
        if "DefaultCPUAllocator" in str(error):
            raise OutOfMemory(f"The machine has no memory left for {what} ({first_line(error)}).") from error
        if _CUDNN_NO_MEMORY in str(error):
            raise OutOfMemory(f"The device has no memory left for {what} ({first_line(error)}).") from error
        if type(error).__module__.startswith("cupy") or any(sign in str(error) for sign in signs):
            raise DeviceError(f"The device failed ({first_line(error)}).") from error
        raise


def first_line(error: BaseException) -> str:
    """The first that says something: OpenVINO begins with places in its sources."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if not line.startswith(_OPENVINO_SIGN)]
    return (telling or lines or [type(error).__name__])[0]
