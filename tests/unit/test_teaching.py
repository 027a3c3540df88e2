"""What a running line removes of its models, and what it shows of those whose files are garbled."""

import json
import time
from pathlib import Path

import pytest

from config.load import load
from engine.artifact import save
from engine.versions import promote, versions
from engine.zones import EVERYWHERE, Areas
from stream.teaching import Teaching
from stream.training import Training, TrainingState
from stream.web.errors import Gone, Refused
from tests.models import tiny_artifact
from tests.unit.test_shelf import forbid

CONFIG = """
version: 1
cameras:
  top: {source: {type: pattern}}
  side: {source: {type: pattern}, model: top@1, enabled: false}
models: {dir: models, keep_versions: 2}
"""


async def test_the_version_that_a_disabled_camera_is_pinned_to_stays(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    settings = load(tmp_path / "cameras.yaml")
    for _ in range(5):
        save(tiny_artifact(name="top"), tmp_path / "models")
    teaching = Teaching(lambda: settings, in_use=lambda: {"top": {2}})
    await teaching.tidy()
    assert versions(tmp_path / "models", "top") == [1, 2, 4, 5]


async def test_a_model_whose_latest_is_garbled_says_so_and_hides_no_other(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    settings = load(tmp_path / "cameras.yaml")
    for name in ("side", "top", "top"):
        save(tiny_artifact(name=name), tmp_path / "models")
    (tmp_path / "models" / "top" / "latest").write_bytes(bytes(3))
    side, top = await Teaching(lambda: settings, in_use=dict).shelves()
    assert (side.name, side.latest, side.no_latest) == ("side", 1, "")
    assert (top.name, top.latest, top.earlier, len(top.versions)) == ("top", None, None, 2)
    assert "instead of a version number: promote one again" in top.no_latest


async def test_a_history_that_can_not_be_read_hides_the_way_back_only(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    settings = load(tmp_path / "cameras.yaml")
    for _ in range(2):
        promote(tmp_path / "models", "top", int(save(tiny_artifact(name="top"), tmp_path / "models").name))
    teaching = Teaching(lambda: settings, in_use=dict)
    history = tmp_path / "models" / "top" / "history.jsonl"
    assert [shelf.earlier for shelf in await teaching.shelves() if shelf.name == "top"] == [1]
    history.unlink()
    history.mkdir()
    assert [shelf.earlier for shelf in await teaching.shelves() if shelf.name == "top"] == [None]


@pytest.mark.parametrize("name", ["Bild (1).png", "größe#1%2f.PNG", "good+1.jpg"])
async def test_a_good_picture_that_a_person_named_can_be_looked_at_and_removed(
    tmp_path: Path, name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG + "pictures: {dir: pictures}\n")
    settings = load(tmp_path / "cameras.yaml")
    teaching = Teaching(lambda: settings, in_use=dict)
    path = teaching.good_folder("top") / name
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    with monkeypatch.context() as patched:  # of thousands each would be looked at, for each picture shown
        patched.setattr("stream.teaching.good_pictures", None)
        assert await teaching.picture("top", name) == path
    await teaching.remove_picture("top", name)
    assert await teaching.pictures("top") == []
    for no in (name, "../good/.png", "..", "\0.png", f"{'x' * 300}.png", f"{path}"):
        with pytest.raises(Gone, match="no such picture"):
            await teaching.picture("top", no)


async def test_a_line_that_starts_while_the_clock_is_years_ahead_costs_no_good_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG + "pictures: {dir: pictures, max_age_days: 30}\n")
    settings = load(tmp_path / "cameras.yaml")
    teaching = Teaching(lambda: settings, in_use=dict)
    path = teaching.good_folder("top") / "good.png"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"a picture")
    set_to = time.time() + 10 * 365 * 86400.0
    monkeypatch.setattr("stream.teaching.time.time", lambda: set_to)
    await teaching.tidy()
    assert path.exists()


async def test_a_version_that_may_not_be_looked_into_hides_no_other_and_a_folder_of_them_is_a_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    settings = load(tmp_path / "cameras.yaml")
    for _ in range(2):
        (save(tiny_artifact(name="top"), tmp_path / "models") / "report.html").touch()
    teaching = Teaching(lambda: settings, in_use=dict)
    kept_out = forbid(monkeypatch, tmp_path / "models" / "top" / "1")
    (shelf,) = await teaching.shelves()
    assert [bool(version.broken) for version in shelf.versions] == [True, False]
    assert shelf.reports == {2}
    kept_out.append(tmp_path / "models")
    with pytest.raises(Refused, match=r"can't be read .*Permission denied"):
        await teaching.shelves()


ROI = "roi: [[0, 0], [0.5, 0], [0.5, 1]]"


async def test_a_model_learns_for_its_cameras_areas_and_for_the_whole_picture_where_several_share_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def start(self: Training, camera: str, name: str, words: list[str], notes: object) -> None:
        asked.append(words[words.index("--areas") + 1])
        self.state = TrainingState(camera, name, "preparing", 0.0)

    monkeypatch.setattr(Training, "start", start)
    for shared in ("", ", model: top@latest"):
        (tmp_path / "cameras.yaml").write_text(
            f"version: 1\ncameras:\n  top: {{source: {{type: pattern}}, {ROI}}}\n"
            f"  side: {{source: {{type: pattern}}{shared}}}\n"
        )
        settings = load(tmp_path / "cameras.yaml")
        Teaching(lambda settings=settings: settings, in_use=dict).train("top")
    half = Areas(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)))
    assert [Areas.from_json(json.loads(said)) for said in asked] == [half, EVERYWHERE]
