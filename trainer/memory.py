"""Memory that runs out is no bug: the pictures, the size or another program ask for more than there is."""

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

from .errors import TrainerError


@contextmanager
def enough_memory(work: str, instead: str) -> Iterator[None]:
    """Raises TrainerError where it runs out inside, on the machine or on the device; what else is raised
    passes. `work` is what it was wanted for, `instead` what to try, both as parts of one sentence.
    """
    try:
        yield
    except (MemoryError, RuntimeError, cv2.error) as error:
        if not _is_of_memory(error):
            raise
        # OpenCV's whole text begins with a place in its sources.
        told = error.err if isinstance(error, cv2.error) else str(error).partition("\n")[0]
        why = f" ({told})" if told else ""
        raise TrainerError(
            f"There is no memory left to {work}{why}: {instead}, or end what else uses it."
        ) from error


def _is_of_memory(error: Exception) -> bool:
    if isinstance(error, cv2.error):
        return bool(error.code == cv2.Error.StsNoMem)
    # On a CPU torch says so in words alone.
    return isinstance(error, (MemoryError, torch.OutOfMemoryError)) or "DefaultCPUAllocator" in str(error)
