"""Which model a camera uses while its settings change."""

import asyncio
import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from config.settings import CameraSettings
from engine.artifact import Artifact, save
from engine.backend import Prepared
from engine.core import ModelInfo
from engine.errors import EngineError, TeacherError
from engine.library import Entry, Library
from engine.runner import Runner
from stream.models import TRY_AGAIN_S, Models, areas_of
from stream.web.errors import Refused
from tests.models import tiny_artifact, tiny_backend


def camera(**more: object) -> CameraSettings:
    return CameraSettings.model_validate({"source": {"type": "pattern"}, "model": "top@latest"} | more)


class Loaded:
    """Models of a camera `top`, with one version on disk."""

    def __init__(self, folder: Path) -> None:
        save(tiny_artifact(name="top"), folder)
        self.library = Library()
        self.told: list[ModelInfo] = []
        self.now = 1000.0
        self.models = Models(self.library, folder, {"top": camera()}, self._on_model, lambda: self.now)

    async def _on_model(self, name: str, info: ModelInfo) -> None:
        self.told.append(info)

    @property
    def entry(self) -> Entry:
        entry = self.library.get("top")
        assert entry is not None
        return entry

    @property
    def level(self) -> float:
        return self.entry.info.threshold


class Device:
    """Gets models ready once its teacher's file is there; counts how often it was asked to."""

    def __init__(self) -> None:
        self.has_teacher = False
        self.asked = 0

    def prepare(self, made: Artifact) -> Prepared:
        self.asked += 1
        if not self.has_teacher:
            raise TeacherError("The teacher's file is missing.")
        return Prepared(made.teacher, None)


async def refused_at_start(folder: Path) -> tuple[Loaded, Device]:
    it, device = Loaded(folder), Device()
    await it.models.look()
    for name, why in it.library.serve(device.prepare):
        it.models.refused(name, why)
    return it, device


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
    assert it.told[-1].threshold == own + 1
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


async def test_a_model_that_the_device_refused_at_start_is_tried_again_now_and_then(tmp_path: Path) -> None:
    it, device = await refused_at_start(tmp_path)
    assert it.models.missing() == {"top": "The teacher's file is missing."}
    it.now += TRY_AGAIN_S - 1
    await it.models.look()
    assert device.asked == 1
    it.now += 1
    await it.models.look()
    await it.models.look()
    assert device.asked == 2 and it.models.missing() == {"top": "The teacher's file is missing."}
    device.has_teacher = True
    it.now += TRY_AGAIN_S
    await it.models.look()
    assert it.entry.info.version == 1 and it.models.missing() == {}
    assert len(it.told) == 2  # at the start, before there was a device, and now


async def test_a_command_for_a_model_that_was_refused_tries_it_at_once_and_says_why_not(
    tmp_path: Path,
) -> None:
    it, device = await refused_at_start(tmp_path)
    with pytest.raises(Refused, match="teacher's file is missing"):
        await it.models.choose("top", "top@latest")
    with pytest.raises(Refused, match="not inspected: The teacher's file is missing"):
        await it.models.set_threshold("top", 3.0)
    device.has_teacher = True
    assert (await it.models.choose("top", "top@latest")).version == 1
    assert it.models.missing() == {}


async def test_a_model_that_can_not_be_loaded_is_read_again_at_once_when_its_folder_changes(
    tmp_path: Path,
) -> None:
    it = Loaded(tmp_path)
    folder = tmp_path / "top" / "1"
    weights = (folder / "weights.safetensors").read_bytes()
    (folder / "weights.safetensors").write_bytes(weights[:-1])
    await it.models.look()
    assert "cut off" in it.models.missing()["top"]
    (folder / "weights.safetensors").unlink()
    await it.models.look()
    assert "weights.safetensors can't be read" in it.models.missing()["top"]
    (folder / "weights.safetensors").write_bytes(weights)
    await it.models.look()
    assert it.models.missing() == {}


async def test_a_model_that_was_refused_for_the_settings_is_tried_with_others_at_once(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.watch("top", camera(tiles="2x2"))
    await it.models.look()
    assert "set to tiles 2x2" in it.models.missing()["top"]
    await it.models.watch("top", camera())
    await it.models.look()
    assert it.models.missing() == {}


async def test_a_model_that_ran_and_failed_comes_back_only_for_who_asks_or_as_another_version(
    tmp_path: Path,
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    assert it.library.discard(it.entry, "top@1 failed 10 times.")
    assert it.models.missing() == {"top": "top@1 failed 10 times."}
    it.now += 10 * TRY_AGAIN_S
    await it.models.look()
    assert it.library.get("top") is None
    assert (await it.models.choose("top", "top@latest")).version == 1
    it.library.discard(it.entry, "top@1 failed 10 times.")
    save(tiny_artifact(name="top"), tmp_path)
    await it.models.look()
    assert it.entry.info.version == 2 and it.models.missing() == {}


async def test_a_model_that_the_device_had_no_memory_for_comes_back_by_itself(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    it.library.discard(it.entry, "no memory for top@1", may_return=True)
    assert it.models.missing() == {"top": "no memory for top@1"}
    it.now += TRY_AGAIN_S
    await it.models.look()
    assert it.entry.info.version == 1 and it.models.missing() == {}


async def test_a_model_that_failed_is_tried_on_another_device(tmp_path: Path) -> None:
    it, device = Loaded(tmp_path), Device()
    await it.models.look()
    it.library.discard(it.entry, "top@1 failed 10 times.")
    device.has_teacher = True
    it.library.serve(device.prepare)
    it.now += TRY_AGAIN_S
    await it.models.look()
    assert it.entry.info.version == 1


async def test_a_folder_that_was_removed_and_trained_anew_is_another_model_under_the_old_number(
    tmp_path: Path,
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    shutil.rmtree(tmp_path / "top")
    await it.models.look()
    assert it.entry.info.version == 1  # what runs goes on
    made = tiny_artifact(gain=0.5, name="top")
    save(made, tmp_path)
    await it.models.look()
    assert it.entry.info.version == 1
    assert it.entry.artifact.state["gain"].item() == 0.5
    told = len(it.told)
    await it.models.look()
    assert len(it.told) == told


async def test_a_camera_that_is_still_being_added_refuses_what_is_asked_of_its_model(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    with pytest.raises(Refused, match="no camera side yet"):
        await it.models.set_threshold("side", 3.0)
    with pytest.raises(Refused, match="no camera side yet"):
        await it.models.choose("side", "top@1")


async def test_a_camera_that_is_removed_while_its_model_is_chosen_gets_an_answer(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    choosing = asyncio.create_task(it.models.choose("top", "top@1"))
    await asyncio.sleep(0)
    await it.models.forget("top")
    assert (await choosing).version == 1
    assert it.library.get("top") is None


async def test_a_level_that_was_chosen_by_another_model_or_level_is_refused(tmp_path: Path) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    seen = it.entry.info
    raised = await it.models.set_threshold("top", seen.threshold + 1, seen)
    with pytest.raises(Refused, match="changed meanwhile"):
        await it.models.set_threshold("top", seen.threshold + 2, seen)
    save(tiny_artifact(name="top"), tmp_path)  # the same weights, but another version
    await it.models.look()
    own = it.level
    with pytest.raises(Refused, match="inspected with top@2 now"):
        await it.models.set_threshold("top", raised.threshold, raised)
    assert it.level == own
    await it.models.set_threshold("top", own + 3)  # a command means what runs
    assert it.level == own + 3


async def test_a_level_that_is_set_while_a_model_is_loaded_is_meant_for_the_one_before(
    tmp_path: Path,
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    seen = it.entry.info
    save(tiny_artifact(name="top"), tmp_path)
    looking = asyncio.create_task(it.models.look())
    await asyncio.sleep(0)
    with pytest.raises(Refused, match="changed meanwhile"):
        await it.models.set_threshold("top", seen.threshold + 1, seen)
    await looking
    assert it.entry.info.version == 2 and it.level == seen.threshold


async def test_a_level_that_was_set_for_other_areas_is_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    it = Loaded(tmp_path)
    await it.models.look()
    assert "other areas" not in caplog.text
    masked = camera(masks={"display": {"polygon": [[0, 0], [1, 0], [1, 0.5]]}})
    await it.models.watch("top", masked)
    assert "alarm level of top@1 was set for other areas" in caplog.text
    caplog.clear()
    save(replace(tiny_artifact(name="top"), trained_on={"areas": areas_of(masked).to_json()}), tmp_path)
    await it.models.look()
    assert it.entry.info.version == 2 and "other areas" not in caplog.text
