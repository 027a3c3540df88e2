"""`linewatch calibrate`: further good pictures make the alarm level firmer, without training."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.cli import main as linewatch
from engine import artifact
from tests.models import tiny_artifact
from trainer.origin import digest_of

SIDE = 64


def write(folder: Path, first: int, count: int, *, spot: bool = False) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for seed in range(first, first + count):
        pixels = np.random.default_rng(seed).integers(100, 140, (SIDE, SIDE, 3), np.uint8)
        if spot:
            pixels[20:40, 20:40] = (250, 20, 20)
        cv2.imwrite(str(folder / f"{seed:03}.png"), pixels)


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A model that learnt from good/000 to 011."""
    write(tmp_path / "good", 0, 12)
    made = tiny_artifact(real="lite", input_px=SIDE, name="top")
    names = [f"{seed:03}.png" for seed in range(12)]
    trained_on = {"folder": str(tmp_path / "good"), "training": names[:8], "held_out": names[8:]}
    artifact.save(replace(made, trained_on=trained_on), tmp_path / "models")
    return tmp_path / "models"


def calibrated(models: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    assert linewatch(["calibrate", "top", "--data", str(data), "--models", str(models), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out.splitlines()[-1]), err


def test_new_good_pictures_count_once_and_weights_stay(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = artifact.load(artifact.resolve(models, "top"))
    write(models.parent / "good", 100, 20)
    (models.parent / "good" / "copy.png").write_bytes((models.parent / "good" / "105.png").read_bytes())
    told, err = calibrated(models, models.parent / "good", capsys)
    assert "13 of 33 pictures were taken into account before, or twice." in err
    after = artifact.load(artifact.resolve(models, "top"))
    assert (after.version, after.sha256) == (2, before.sha256)
    assert after.calibration.pictures == before.calibration.pictures + 20 == told["pictures"]
    assert told["threshold_before"] != told["threshold"]
    assert (models / "top" / "2" / "report.html").is_file()
    words = ["calibrate", "top", "--data", str(models.parent / "good"), "--models", str(models)]
    assert linewatch(words) == 2
    assert "takes each of the 33 pictures" in capsys.readouterr().err
    assert [p.name for p in sorted((models / "top").iterdir()) if p.name.isdecimal()] == ["1", "2"]


def test_pictures_that_a_model_learnt_from_are_known_wherever_they_lie_now(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact.load(artifact.resolve(models, "top"))
    good = models.parent / "good"
    trained_on = made.trained_on | {"sha256": [digest_of(path) for path in good.iterdir()]}
    artifact.save(replace(made, trained_on=trained_on), models)
    good.rename(models.parent / "elsewhere")
    assert linewatch(
        ["calibrate", "top", "--data", str(models.parent / "elsewhere"), "--models", str(models)]
    )
    assert "takes each of the 12 pictures" in capsys.readouterr().err


def test_takes_of_one_part_count_once(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifact.load(artifact.resolve(models, "top")).calibration.pictures
    folder = models.parent / "more"
    folder.mkdir()
    for part in range(10):
        pixels = np.random.default_rng(part).integers(0, 250, (SIDE, SIDE, 3), np.uint8)
        for take in range(3):
            cv2.imwrite(str(folder / f"{part}-{take}.png"), pixels + np.uint8(take))
    told, _ = calibrated(models, folder, capsys)
    assert told["pictures"] == before + 10


def test_pictures_above_the_level_are_named_and_lift_it(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(
        "trainer.predict.model_of",
        lambda *_: lambda pictures: np.stack([(p[..., 2] == 250) * 1e3 for p in pictures]).astype(np.float32),
    )
    write(models.parent / "more", 200, 11)
    write(models.parent / "more", 300, 1, spot=True)
    told, err = calibrated(models, models.parent / "more", capsys)
    assert "stands above them: 300.png. If one shows a defect" in err
    assert float(str(told["threshold"])) > 1e3
