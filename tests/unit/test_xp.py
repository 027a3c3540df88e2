"""Where CuPy computes, told by a module in its place: a machine without a GPU can't import it."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import scipy.ndimage
import torch

from engine.xp import ArrayLibrary, library_for


def test_cupy_is_put_on_torchs_stream_within_the_device_that_the_stream_is_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    within: list[object] = []
    monkeypatch.setattr(torch.cuda, "current_stream", lambda device: f"torch's stream of {device}")

    @contextmanager
    def entered(what: object) -> Iterator[None]:
        within.append(what)
        yield
        within.remove(what)

    def from_external(stream: object) -> object:
        assert within == [1], "CuPy takes the stream to be of the current device"
        return entered(stream)

    cupy = ModuleType("cupy")
    cupy.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        Device=entered, Stream=SimpleNamespace(from_external=from_external)
    )
    with ArrayLibrary(cupy, scipy.ndimage, on_device=True).on_stream(torch.device("cuda", 1)):
        assert within == [1, "torch's stream of cuda:1"]
    assert within == []


def test_a_cupy_that_can_be_imported_and_can_not_compile_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that was built for another CUDA: without this the line didn't start, though NumPy would do."""

    class CompileException(Exception):
        pass

    def arange(count: int) -> object:
        raise CompileException("cannot open source file cuda_fp16.h")

    cupy, cupyx = ModuleType("cupy"), ModuleType("cupyx.scipy.ndimage")
    cupy.arange = arange  # type: ignore[attr-defined]
    cupy.cuda = SimpleNamespace(  # type: ignore[attr-defined]
        Device=nullcontext,
        PythonFunctionAllocator=lambda allocate, free: SimpleNamespace(malloc=allocate),
        set_allocator=lambda allocator: None,
    )
    for name, module in {"cupy": cupy, "cupyx": cupyx, "cupyx.scipy": cupyx, cupyx.__name__: cupyx}.items():
        monkeypatch.setitem(sys.modules, name, module)
    found = library_for(torch.device("cuda", 0))
    assert found.xp is np and not found.on_device
    assert found.name == "NumPy (CuPy does not work here: CompileException)"
