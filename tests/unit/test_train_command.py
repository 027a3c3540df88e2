"""`linewatch train`: what it takes from the config, and what it says before and after the work itself."""

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config.cli import main as linewatch
from engine.artifact import Artifact
from tests.models import tiny_artifact
from trainer import checkpoint
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


def interrupt(*_: object) -> None:
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


def test_a_models_folder_that_can_not_be_written_is_found_before_training(
    words: list[str], tmp_path: Path, wishes: list[Wish], capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "models").write_text("a file, so that root is refused as well")
    assert linewatch(words) == 2
    assert "models/top can't be written to: Not a directory." in capsys.readouterr().err
    assert not wishes


def test_looking_whether_models_can_be_written_leaves_nothing_behind(
    words: list[str], tmp_path: Path, wishes: list[Wish]
) -> None:
    (tmp_path / "models").mkdir()
    assert linewatch(words) == 2 and len(wishes) == 1
    assert not list((tmp_path / "models").iterdir())
