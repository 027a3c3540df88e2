"""A device that fails already at the start: the CPU takes over, or the line ends, as configured."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

import stream.device
from config.load import load
from config.settings import Settings
from engine.backend import Prepared
from engine.core import Batch
from engine.errors import DeviceError, EngineError
from engine.library import Library
from engine.runner import Runner
from stream.device import warm_runner
from tests.fake_device import frame
from tests.models import tiny_artifact, tiny_backend

CONFIG = """
version: 1
cameras: {top: {source: {type: pattern}}, side: {source: {type: pattern}}}
"""


def settings(tmp_path: Path, on_device_error: str = "cpu") -> Settings:
    (tmp_path / "cameras.yaml").write_text(f"{CONFIG}engine: {{on_device_error: {on_device_error}}}\n")
    return load(tmp_path / "cameras.yaml")


def filled() -> Library:
    library = Library()
    for camera in ("top", "side"):
        library.put(camera, tiny_artifact(name=camera))
    return library


class Gpu(Runner):
    """On the CPU in truth, and called a GPU; takes no model, or no frame."""

    def __init__(self, library: Library, fails_at: str) -> None:
        backend = tiny_backend()
        if fails_at == "prepare":
            backend.prepare = self._lost  # type: ignore[method-assign, assignment]
        super().__init__(library, backend=backend)
        if fails_at == "frame":
            backend.upload = self._lost  # type: ignore[method-assign, assignment]
        self.device = torch.device("cuda")

    def _lost(self, *_: object) -> Prepared:
        raise RuntimeError("CUDA error: unspecified launch failure")

    def _warm_up_regions(self) -> None:
        pass


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> list[str]:
    """Which devices were asked for; the first one is a GPU that fails at what the test says."""
    asked: list[str] = []

    def make(library: Library, _: Settings, device: str = "cuda") -> Runner:
        asked.append(device)
        if device == "cpu":
            return Runner(library, backend=tiny_backend())
        return Gpu(library, fails_at=request.param)

    monkeypatch.setattr(stream.device, "make_runner", make)
    return asked


@pytest.mark.parametrize("made", ["prepare", "frame"], indirect=True)
def test_the_cpu_inspects_all_cameras_of_a_gpu_that_fails_from_the_start(
    tmp_path: Path, made: list[str]
) -> None:
    library, said = filled(), list[EngineError]()
    runner, refused = warm_runner(library, settings(tmp_path), said.append)
    assert made == ["cuda", "cpu"] and refused == []
    assert [one.frame.camera for one in runner.run(Batch((frame("top"), frame("side"))))] == ["top", "side"]
    [error] = said
    assert "unspecified launch failure" in str(error) and "the CPU inspects" in str(error)


@pytest.mark.parametrize("made", ["prepare", "frame"], indirect=True)
def test_a_line_that_shall_stop_then_does_not_start(tmp_path: Path, made: list[str]) -> None:
    with pytest.raises(DeviceError, match="unspecified launch failure"):
        warm_runner(filled(), settings(tmp_path, "stop"), lambda error: None)
    assert made == ["cuda"]


@pytest.mark.parametrize("made", ["nothing"], indirect=True)
def test_a_gpu_that_refuses_one_model_is_not_lost(tmp_path: Path, made: list[str]) -> None:
    library = filled()
    library.put("odd", replace(tiny_artifact(name="odd"), teacher_sha256="0" * 64))
    _, refused = warm_runner(library, settings(tmp_path), lambda error: None)
    assert made == ["cuda"] and [camera for camera, _ in refused] == ["odd"]


@pytest.mark.parametrize("made", ["prepare"], indirect=True)
def test_a_model_that_runs_nowhere_keeps_the_others_from_no_cpu(tmp_path: Path, made: list[str]) -> None:
    library = filled()
    library.put("odd", replace(tiny_artifact(name="odd"), teacher_sha256="0" * 64))
    runner, refused = warm_runner(library, settings(tmp_path), lambda error: None)
    assert made == ["cuda", "cpu"] and [camera for camera, _ in refused] == ["odd"]
    assert set(runner.library.snapshot()) == {"top", "side"}
