"""Where CuPy computes, told by a module in its place: a machine without a GPU can't import it."""

from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType, SimpleNamespace

import pytest
import scipy.ndimage
import torch

from engine.xp import ArrayLibrary


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
