"""`linewatch train`: what it takes from the config, and what it says before and after the work itself."""

import json
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import cv2
import numpy as np
import pytest
import torch

from config.cli import main as linewatch
from engine.artifact import Artifact, load
from engine.zones import EVERYWHERE, Areas
from tests.models import tiny_artifact
from trainer import checkpoint
from trainer.alone import alone
from trainer.calibrate import Predict
from trainer.errors import DataError
from trainer.recipe import Wish


@pytest.fixture
def good(tmp_path: Path) -> Path:
    folder = tmp_path / "good"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for index in range(12):
        cv2.imwrite(str(folder / f"{index}.png"), rng.integers(0, 256, (64, 64, 3), dtype=np.uint8))
    return folder


@pytest.fixture
def words(good: Path, tmp_path: Path) -> list[str]:
    words = ["train", "top", "--data", str(good), "--steps", "2", "--input-px", "64", "--foreground", "off"]
    return [*words, "--device", "cpu", "--models", str(tmp_path / "models")]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """A line with a small and a middle camera; its teacher file can only be the middle one's."""
    file = tmp_path / "cameras.yaml"
    file.write_text(
        "version: 1\nsite: plant-a\nline: line-1\nmodels: {teacher_file: teacher.safetensors}\n"
        "cameras:\n"
        "  top: {source: {type: pattern}, model: {ref: top@latest, size: r18}}\n"
        "  side: {source: {type: pattern}}\n"
    )
    return file


@pytest.fixture
def wishes(monkeypatch: pytest.MonkeyPatch) -> list[Wish]:
    """What the trainer was asked for; nothing is trained."""
    found: list[Wish] = []

    def refuse(wish: Wish, *_: object) -> None:
        found.append(wish)
        raise DataError("Not today.")

    monkeypatch.setattr("trainer.recipe.make_model", refuse)
    return found


def test_the_teacher_file_of_the_config_is_used_to_train_and_to_report(
    words: list[str], config: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    trained_on = {"device": "cpu", "good_pictures": 12}
    made = replace(tiny_artifact(name="top"), teacher="resnet18", trained_on=trained_on, config={"steps": 2})
    used: list[Path | None] = []

    def train(wish: Wish, *_: object) -> Artifact:
        used.append(wish.teacher_weights)
        return made

    def look(model: Artifact, device: torch.device, weights: Path | None) -> Predict:
        used.append(weights)
        return lambda pictures: np.empty((0, 32, 32), np.float32)

    monkeypatch.setattr("trainer.recipe.make_model", train)
    monkeypatch.setattr("trainer.predict.model_of", look)
    assert linewatch([*words, "--config", str(config)]) == 0
    assert used == [tmp_path / "teacher.safetensors"] * 2


def test_a_teacher_file_in_the_config_is_not_forced_upon_a_size_that_has_a_package(
    words: list[str], config: Path, tmp_path: Path, wishes: list[Wish]
) -> None:
    words[1] = "side"
    linewatch([*words, "--config", str(config)])
    linewatch([*words, "--config", str(config), "--teacher-weights", "mine.safetensors"])
    linewatch([*words, "--config", str(config), "--size", "r18"])
    assert [wish.teacher_weights for wish in wishes] == [
        None,
        Path("mine.safetensors"),
        tmp_path / "teacher.safetensors",
    ]


def test_a_size_that_there_is_not_is_still_one_sentence(
    words: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert linewatch([*words, "--size", "huge"]) == 2
    assert "--size 'huge'" in capsys.readouterr().err


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("Unable to allocate 48.0 MiB"),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nSee the documentation"),
        RuntimeError(
            "[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"
        ),
        cv2.error,
    ],
)
def test_too_little_memory_is_one_sentence(
    words: list[str],
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception | type[cv2.error],
) -> None:
    def fail(*_: object) -> None:
        if isinstance(error, Exception):
            raise error
        cv2.resize(np.zeros((1, 1, 3), np.uint8), (2**31 - 1, 2**17))  # as OpenCV itself says it

    monkeypatch.setattr("trainer.recipe.make_model", fail)
    assert linewatch(words) == 1
    said = capsys.readouterr().err.splitlines()
    assert len(said) == 1 and said[0].startswith("There is no memory left to train top (")
    assert "take a smaller --input-px or --size" in said[0]


def test_an_error_that_is_not_of_memory_stays_a_bug(
    words: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object) -> None:
        raise RuntimeError("mat1 and mat2 shapes cannot be multiplied")

    monkeypatch.setattr("trainer.recipe.make_model", fail)
    with pytest.raises(RuntimeError, match="mat1"):
        linewatch(words)


def interrupt(*_: object, **__: object) -> None:
    raise KeyboardInterrupt


def test_after_ctrl_c_it_says_that_the_same_command_goes_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.recipe.train_head", interrupt)
    assert linewatch(words) == 130
    nothing_kept = capsys.readouterr().err
    assert "Earlier versions are untouched; of this training nothing was saved yet." in nothing_kept
    assert "goes on" not in nothing_kept
    monkeypatch.setattr(checkpoint, "EVERY_S", 0.0)
    assert linewatch(words) == 130
    assert "Earlier versions are untouched, and the same command goes on" in capsys.readouterr().err
    monkeypatch.undo()
    assert linewatch(words) == 0
    assert "Going on with the training" in capsys.readouterr().err


def test_that_many_pictures_take_a_while_is_said_before_they_do(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.recipe._material", interrupt)
    assert linewatch(words) == 130
    assert "prepared before the first step" not in capsys.readouterr().err
    monkeypatch.setattr("trainer.recipe._MANY", 10)
    assert linewatch(words) == 130
    assert "pictures are prepared before the first step" in capsys.readouterr().err


def test_what_is_kept_of_another_wish_is_not_promised_to_go_on(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("trainer.recipe.train_head", interrupt)
    with monkeypatch.context() as often:
        often.setattr(checkpoint, "EVERY_S", 0.0)
        assert linewatch(words) == 130
    capsys.readouterr()
    assert linewatch([*words, "--seed", "1"]) == 130
    said = capsys.readouterr().err
    assert "starts anew" in said and "goes on" not in said
    assert "nothing was saved yet, and what is kept of an earlier training is still there." in said
    assert linewatch(words) == 130  # before it wrote anything of its own
    said = capsys.readouterr().err
    assert "Going on with the training" in said and "the same command goes on" in said


@pytest.mark.parametrize("more", [[], ["--no-promote"]])
def test_an_interruption_of_the_report_costs_no_more_than_the_report(
    words: list[str],
    more: list[str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr("trainer.present.present", interrupt)
    assert linewatch([*words, *more, "--json"]) == 0
    out, err = capsys.readouterr()
    folder = Path(json.loads(out.splitlines()[-1])["artifact"])
    assert load(folder).version == 1 and not (folder / "report.html").exists()
    kept = "is saved" if more else "is saved and in use"
    assert f"top@1 {kept}; only its report is missing, which `linewatch evaluate top@1 " in err


def test_memory_that_runs_out_for_the_report_costs_no_more_than_the_report(
    words: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def full(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr("trainer.present.present", full)
    assert linewatch([*words, "--json"]) == 0
    out, err = capsys.readouterr()
    folder = Path(json.loads(out.splitlines()[-1])["artifact"])
    assert load(folder).version == 1 and not (folder / "report.html").exists()
    assert f"There is no memory left to make the report {folder / 'report.html'}: `linewatch evaluate`" in err


def test_a_name_that_is_being_trained_is_refused_in_one_sentence(
    words: list[str], tmp_path: Path, wishes: list[Wish], capsys: pytest.CaptureFixture[str]
) -> None:
    with alone(tmp_path / "models" / "top"):
        assert linewatch(words) == 2
    said = capsys.readouterr().err.splitlines()
    assert not wishes and said == [
        "The model top is being trained already, by another `linewatch train`: wait until that is done, or "
        "end it."
    ]


def test_a_models_folder_that_can_not_be_written_is_found_before_training(
    words: list[str], tmp_path: Path, wishes: list[Wish], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("a file, so that root is refused as well")
    assert linewatch(words) == 2
    assert "models/top can't be written to: Not a directory." in capsys.readouterr().err
    assert not wishes


def test_a_disk_without_room_for_the_model_is_found_before_training(
    words: list[str],
    wishes: list[Wish],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def left(megabytes: int, total: int = 10**9) -> None:
        told = SimpleNamespace(total=total, free=megabytes * 10**6)
        monkeypatch.setattr("shutil.disk_usage", lambda _: told)

    left(5)
    assert linewatch(words) == 2 and not wishes and not (tmp_path / "models").exists()
    assert "takes about 8 MB" in (said := capsys.readouterr().err) and "has 5 MB left" in said
    left(9)
    assert linewatch(words) == 2 and len(wishes) == 1
    left(0, total=0)  # a file system that doesn't tell
    assert linewatch(words) == 2 and len(wishes) == 2


@pytest.mark.parametrize("target", ["unmounted/models", "models"])
def test_a_models_folder_that_leads_nowhere_is_said_before_training(
    words: list[str], wishes: list[Wish], tmp_path: Path, capsys: pytest.CaptureFixture[str], target: str
) -> None:
    (tmp_path / "models").symlink_to(tmp_path / target)  # to a disk that is away, or to itself
    assert linewatch(words) == 2 and not wishes
    assert f"models leads to {tmp_path / target}, which isn't there" in capsys.readouterr().err
    assert not (tmp_path / "unmounted").exists()


def test_looking_whether_models_can_be_written_leaves_nothing_behind(
    words: list[str], tmp_path: Path, wishes: list[Wish]
) -> None:
    (tmp_path / "models").mkdir()
    assert linewatch(words) == 2 and len(wishes) == 1
    assert not list((tmp_path / "models").iterdir())


def test_areas_that_leave_nothing_are_said_before_training(
    words: list[str], config: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    masked = "masks: {all: {polygon: [[0, 0], [1, 0], [1, 1], [0, 1]]}}"
    config.write_text(config.read_text().replace("side: {", f"side: {{{masked}, "))
    words[1] = "side"

    def train(*_: object) -> None:
        raise AssertionError("a picture was read")

    monkeypatch.setattr("trainer.recipe.load_good", train)
    assert linewatch([*words, "--config", str(config)]) == 2
    assert "leaves nothing: draw it larger" in capsys.readouterr().err


def test_the_alarm_level_is_for_the_cameras_areas(
    words: list[str], config: Path, wishes: list[Wish], capsys: pytest.CaptureFixture[str]
) -> None:
    config.write_text(config.read_text().replace("model:", "roi: [[0, 0], [0.5, 0], [0.5, 1]], model:"))
    half = Areas(((0.0, 0.0), (0.5, 0.0), (0.5, 1.0)))
    assert linewatch([*words, "--config", str(config)]) == 2
    assert linewatch([*words, "--areas", json.dumps(half.to_json())]) == 2
    assert linewatch(words) == 2
    assert [wish.areas for wish in wishes] == [half, half, EVERYWHERE]
    assert linewatch([*words, "--areas", "half"]) == 2
    assert "--areas: expected JSON with roi and masks" in capsys.readouterr().err
