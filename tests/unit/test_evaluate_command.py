"""`linewatch evaluate` with the real network: the keys of the contract, and a report beside the model."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.cli import main as linewatch
from engine.artifact import save
from engine.shelf import shelves
from engine.zones import Areas
from tests.models import bright_spot, tiny_artifact
from trainer.present import copies

_KEYS = [
    *("artifact", "image_auroc", "pixel_auroc", "ap", "pro", "pro_per_image", "aupimo", "threshold"),
    *("false_alarm_rate", "recall_at_threshold", "good", "defective", "ms_per_frame"),
]


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two plain pictures and one with a bright spot."""
    root = tmp_path_factory.mktemp("data")
    for folder in ("test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    spot = bright_spot()
    for i in range(2):
        cv2.imwrite(str(root / f"test/good/{i}.png"), np.full_like(spot, 20 + i))
    cv2.imwrite(str(root / "test/spot/0.png"), spot)
    cv2.imwrite(str(root / "ground_truth/spot/0_mask.png"), (spot[..., 0] > 100).astype(np.uint8) * 255)
    return root


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save(tiny_artifact(name="top", real="lite"), tmp_path_factory.mktemp("models"))


def test_evaluate_prints_the_agreed_keys_and_leaves_a_report_beside_the_model(
    model: Path, data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linewatch(["evaluate", str(model), "--data", str(data), "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    told = json.loads(out.splitlines()[-1])
    assert list(told)[: len(_KEYS)] == _KEYS
    assert (told["artifact"], told["good"], told["defective"], told["aupimo"]) == (str(model), 2, 1, None)
    assert "only 2 good test pictures" in err
    assert "spot/0.png" in (model / "report.html").read_text()
    (listed,) = shelves(model.parent.parent, "top")["top"]
    assert listed.evaluated["pro"] == told["pro"]


def test_a_trial_with_another_alarm_level_keeps_nothing_beside_the_model(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model = save(tiny_artifact(name="top", real="lite"), tmp_path / "models")
    words = ["evaluate", str(model), "--data", str(data), "--device", "cpu"]
    assert linewatch(words) == 0
    before = {path.name: path.read_bytes() for path in model.iterdir()}
    capsys.readouterr()
    assert linewatch([*words, "--threshold", "50", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out.splitlines()[-1])["threshold"] == 50
    assert "This is a trial at the alarm level 50: nothing was kept." in err
    assert linewatch([*words, "--threshold", "50", "--report", str(tmp_path / "trial.html")]) == 0
    assert {path.name: path.read_bytes() for path in model.iterdir()} == before
    page = (tmp_path / "trial.html").read_text()
    assert "This is a trial at the alarm level 50; the model&#x27;s own is " in page
    assert "Of the model&#x27;s own alarm level, which is " in page
    assert "This is a trial" not in (model / "report.html").read_text()


def test_what_was_said_of_the_good_pictures_is_in_every_later_report(model: Path, data: Path) -> None:
    (model / "stray.json").write_text(json.dumps({"warnings": ["Among them stands out: 7.png."]}))
    assert linewatch(["evaluate", str(model), "--data", str(data), "--device", "cpu"]) == 0
    assert "Among them stands out: 7.png." in (model / "report.html").read_text()
    (model / "stray.json").unlink()


def test_a_test_picture_that_was_trained_on_is_pointed_out(data: Path) -> None:
    good = data / "test/good"
    trained_on = {"folder": str(good), "training": ["0.png"], "held_out": ["1.png", "gone.png"]}
    model = replace(tiny_artifact(), trained_on=trained_on)
    assert "2 test pictures, such as 0.png, were trained on" in copies(model, sorted(good.iterdir()))[0]
    assert copies(model, [data / "test/spot/0.png"]) == []
    assert copies(tiny_artifact(), sorted(good.iterdir())) == []


def test_test_pictures_may_come_to_a_plain_folder_after_training(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(data, tmp_path / "data")
    cv2.imwrite(str(tmp_path / "data/held.png"), np.full_like(bright_spot(), 20))
    trained_on = {"folder": str(tmp_path / "data"), "training": [], "held_out": ["held.png", "gone.png"]}
    made = replace(tiny_artifact(name="top", real="lite"), trained_on=trained_on)
    model = save(made, tmp_path / "models")
    assert linewatch(["evaluate", str(model), "--data", str(tmp_path / "data"), "--device", "cpu"]) == 0
    assert "1 test pictures, such as 0.png, were trained on" in capsys.readouterr().err
    assert "<b>held.png</b>" in (model / "report.html").read_text()


def test_a_teacher_file_for_another_size_in_the_config_does_not_stop_evaluation(
    model: Path, data: Path, tmp_path: Path
) -> None:
    (tmp_path / "cameras.yaml").write_text(
        "version: 1\nsite: plant-a\nline: line-1\nmodels: {teacher_file: resnet18.pth}\n"
        "cameras: {top: {source: {type: pattern}}}\n"
    )
    words = ["evaluate", str(model), "--data", str(data), "--config", str(tmp_path / "cameras.yaml")]
    assert linewatch([*words, "--device", "cpu"]) == 0


def test_a_mask_of_another_size_is_one_sentence_and_exit_2(
    model: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "test/spot").mkdir(parents=True)
    (tmp_path / "ground_truth/spot").mkdir(parents=True)
    cv2.imwrite(str(tmp_path / "test/spot/0.png"), bright_spot())
    cv2.imwrite(str(tmp_path / "ground_truth/spot/0_mask.png"), np.zeros((10, 10), np.uint8))
    assert linewatch(["evaluate", str(model), "--data", str(tmp_path)]) == 2
    sentence = capsys.readouterr().err
    assert "is 10x10 pixels, its picture 96x64" in sentence and sentence.count("\n") == 1


def test_a_model_of_areas_is_measured_by_its_areas(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A defect under a mask is missed, as on the line, and that is said."""
    upper = Areas(masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 0.9), (0.0, 0.9)),))
    made = replace(tiny_artifact(name="top", real="lite"), trained_on={"areas": upper.to_json()})
    folder = save(made, tmp_path / "models")
    assert linewatch(["evaluate", str(folder), "--data", str(data), "--device", "cpu", "--json"]) == 0
    out, err = capsys.readouterr()
    assert "a defect outside the area to inspect, or under a mask, is missed" in err
    assert "under a mask" in (folder / "report.html").read_text()
    assert json.loads(out.splitlines()[-1])["defects_found"] == 0.0
