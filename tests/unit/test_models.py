"""Which model a camera uses while its settings change."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import CameraSettings
from engine.artifact import save
from engine.core import ModelInfo
from engine.errors import EngineError
from engine.library import Library
from engine.runner import Runner
from stream.models import Models
from tests.models import tiny_artifact, tiny_backend


def camera(**more: object) -> CameraSettings:
    return CameraSettings.model_validate({"source": {"type": "pattern"}, "model": "top@latest"} | more)


class Loaded:
    """Models of a camera `top`, with one version on disk."""

    def __init__(self, folder: Path) -> None:
        save(tiny_artifact(name="top"), folder)
        self.library = Library()
        self.told: list[ModelInfo] = []
        self.models = Models(self.library, folder, {"top": camera()}, self._on_model)

    async def _on_model(self, name: str, info: ModelInfo) -> None:
        self.told.append(info)

    @property
    def level(self) -> float:
        entry = self.library.get("top")
        assert entry is not None
        return entry.info.threshold


async def test_a_level_in_the_file_holds_from_then_on(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    own = it.level
    await it.models.watch("top", camera(detect={"threshold": own + 1}))
    assert it.level == own + 1 and it.told[-1].threshold == own + 1


async def test_a_level_set_by_hand_outlives_another_zone_but_not_another_level(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    own = it.level
    await it.models.set_threshold("top", own + 1)
    zone = [[0, 0], [1, 0], [1, 1]]
    await it.models.watch("top", camera(roi=zone))
    assert it.level == own + 1
    await it.models.watch("top", camera(roi=zone, detect={"threshold": own + 2}))
    assert it.level == own + 2


async def test_a_zone_that_leaves_nothing_is_found_before_it_is_carried_out(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    nothing = camera(masks={"all": {"polygon": [[0, 0], [1, 0], [1, 1], [0, 1]]}})
    with pytest.raises(EngineError, match="leaves nothing"):
        it.models.check("top", nothing)
    it.models.check("new", nothing)


async def test_other_tiles_are_for_the_next_model_and_the_one_that_runs_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    own = it.level
    wish = camera(tiles="2x2", detect={"threshold": own + 1})
    it.models.check("top", wish)
    await it.models.watch("top", wish)
    assert it.level == own + 1
    assert "set to tiles 2x2" in caplog.text
    save(replace(tiny_artifact(name="top"), tiles="2x2"), tmp_path)
    await it.models.look()
    entry = it.library.get("top")
    assert entry is not None and entry.info.version == 2


async def test_a_model_of_another_name_waits_until_there_is_one(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    await it.models.watch("top", camera(model="other@latest"))
    await it.models.look()
    assert it.told[-1].name == "top"
    save(tiny_artifact(name="other"), tmp_path)
    await it.models.look()
    assert it.told[-1].name == "other"


async def test_a_model_that_can_not_be_loaded_is_said_and_the_old_one_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    manifest = save(tiny_artifact(name="top"), tmp_path) / "manifest.json"
    manifest.write_text(json.dumps(json.loads(manifest.read_text()) | {"input_px": 0}))
    await it.models.look()
    assert "input_px 0" in caplog.text
    entry = it.library.get("top")
    assert entry is not None and entry.info.version == 1


async def test_a_model_that_fails_deep_inside_the_network_is_said_and_the_line_goes_on(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it, backend = Loaded(tmp_path), tiny_backend()
    Runner(it.library, backend=backend)

    def broken(_: object) -> None:
        raise RuntimeError("Exception from src/core/graph.cpp:1:\nshapes differ")

    backend.prepare = broken  # type: ignore[method-assign, assignment]
    await it.models.look()
    assert "top@1 can't run here (shapes differ)" in it.models.missing()["top"]
    assert it.models.missing()["top"] in caplog.text


async def test_a_camera_that_was_removed_is_not_looked_after(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    await it.models.forget("top")
    await it.models.look()
    assert it.library.get("top") is None and it.models.missing() == {}
    await it.models.watch("top", camera())
    await it.models.look()
    assert it.library.get("top") is not None
