"""NumPy with SciPy, or CuPy: the only import of cupy. One function body elsewhere serves both.

On a CUDA device CuPy works on torch's memory (DLPack, no copy), on torch's current stream (no extra wait),
and allocates from torch's pool (one pool of device memory, not two that starve each other).
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np
import scipy.ndimage
import torch
from numpy.typing import NDArray

# An array of whichever library: neither has a common static type.
XpArray = Any


@dataclass(frozen=True, slots=True)
class ArrayLibrary:
    """`xp` is numpy or cupy, `ndimage` scipy.ndimage or cupyx.scipy.ndimage; `on_device` says which.

    `name` says so to people, and of NumPy beside a CUDA device why.
    """

    xp: ModuleType
    ndimage: ModuleType
    on_device: bool
    name: str = "NumPy"

    def worth_labelling(self, above: XpArray) -> list[int]:
        """Which maps of (N, h, w): those with a True on the host; on a device all, as a host that asks there
        waits, and labelling many costs no more than one."""
        if self.on_device:
            return list(range(len(above)))
        return [int(place) for place in np.flatnonzero(above.reshape(len(above), -1).any(axis=1))]

    def to_host(self, array: XpArray) -> NDArray[Any]:
        """The same array as NumPy; on a device this waits for it."""
        host: NDArray[Any] = array.get() if self.on_device else array
        return host

    def from_torch(self, tensor: torch.Tensor) -> XpArray:
        """The tensor's memory as an array of this library, without a copy where both live on the same
        device."""
        if self.on_device:
            return self.xp.from_dlpack(tensor.detach().contiguous())
        return tensor.detach().cpu().numpy()

    @contextmanager
    def on_stream(self, device: torch.device) -> Iterator[None]:
        """Run what is inside on torch's current stream of `device`."""
        if not self.on_device:
            yield
            return
        cuda, stream = self.xp.cuda, torch.cuda.current_stream(device)
        # In this order: a foreign stream doesn't say which device it is of, and CuPy means the current one.
        with cuda.Device(device.index or 0), cuda.Stream.from_external(stream):
            yield


def numpy_library(why: str = "") -> ArrayLibrary:
    return ArrayLibrary(np, scipy.ndimage, on_device=False, name=f"NumPy ({why})" if why else "NumPy")


def library_for(device: torch.device) -> ArrayLibrary:
    """CuPy for a CUDA device where it is installed and works, else NumPy (maps then travel to the host)."""
    if device.type != "cuda":
        return numpy_library()
    try:
        import cupy
        import cupyx.scipy.ndimage
    except ImportError:
        return numpy_library("CuPy is not installed")
    try:
        _share_pool(cupy)
        # It compiles at first use: one that was built for another CUDA can be imported, and no more.
        with cupy.cuda.Device(device.index or 0):
            int((cupy.arange(4) > 1).sum())
    except Exception as error:  # noqa: BLE001 (CuPy's errors have no common class; NumPy would do)
        return numpy_library(f"CuPy does not work here: {type(error).__name__}")
    return ArrayLibrary(cupy, cupyx.scipy.ndimage, on_device=True, name=f"CuPy {cupy.__version__}")


def _share_pool(cupy: ModuleType) -> None:
    """Let CuPy allocate from torch's caching allocator, on the stream that CuPy is on."""

    def allocate(size: int, device_index: int) -> int:
        stream = cupy.cuda.get_current_stream().ptr
        return int(torch.cuda.caching_allocator_alloc(size, device_index, stream))

    def free(pointer: int, device_index: int) -> None:
        torch.cuda.caching_allocator_delete(pointer)  # type: ignore[no-untyped-call]

    cupy.cuda.set_allocator(cupy.cuda.PythonFunctionAllocator(allocate, free).malloc)
