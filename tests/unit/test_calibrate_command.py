"""`linewatch calibrate`: further good pictures make the alarm level firmer, without training."""

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

from config.cli import main as linewatch
from engine import artifact, versions
from tests.models import tiny_artifact
from trainer.calibrate import calibrate
from trainer.dataset import load_good
from trainer.origin import digest_of
from trainer.predict import model_of

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
    good = load_good(tmp_path / "good", SIDE)
    trained_on = {"folder": str(tmp_path / "good"), "training": good.names[:6], "held_out": good.names[6:]}
    level = calibrate(model_of(made, torch.device("cpu")), list(good.pixels[6:]), input_px=SIDE)
    artifact.save(replace(made, trained_on=trained_on, calibration=level), tmp_path / "models")
    return tmp_path / "models"


def calibrated(models: Path, data: Path, capsys: pytest.CaptureFixture[str]) -> tuple[dict[str, object], str]:
    assert linewatch(["calibrate", "top", "--data", str(data), "--models", str(models), "--json"]) == 0
    out, err = capsys.readouterr()
    return json.loads(out.splitlines()[-1]), err


def test_new_good_pictures_count_once_and_weights_stay(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    before = artifact.load(versions.resolve(models, "top"))
    write(models.parent / "good", 100, 20)
    (models.parent / "good" / "copy.png").write_bytes((models.parent / "good" / "105.png").read_bytes())
    told, err = calibrated(models, models.parent / "good", capsys)
    assert "1 copies of other files, such as copy.png, don't count" in err
    assert "12 of 32 pictures were taken into account before." in err and told["promoted"]
    after = artifact.load(versions.resolve(models, "top"))
    assert (after.version, after.sha256) == (2, before.sha256)
    assert after.calibration.pictures == before.calibration.pictures + 20 == told["pictures"]
    assert told["threshold_before"] != told["threshold"]
    assert (models / "top" / "2" / "report.html").is_file()
    words = ["calibrate", "top", "--data", str(models.parent / "good"), "--models", str(models)]
    assert linewatch(words) == 2
    assert "takes each of the 32 pictures" in capsys.readouterr().err
    assert [p.name for p in sorted((models / "top").iterdir()) if p.name.isdecimal()] == ["1", "2"]


def test_pictures_that_a_model_learnt_from_are_known_wherever_they_lie_now(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    made = artifact.load(versions.resolve(models, "top"))
    good = models.parent / "good"
    trained_on = made.trained_on | {"sha256": [digest_of(path) for path in good.iterdir()]}
    artifact.save(replace(made, trained_on=trained_on), models)
    good.rename(models.parent / "elsewhere")
    assert linewatch(
        ["calibrate", "top", "--data", str(models.parent / "elsewhere"), "--models", str(models)]
    )
    assert "takes each of the 12 pictures" in capsys.readouterr().err


def test_takes_of_one_part_count_once(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifact.load(versions.resolve(models, "top")).calibration.pictures
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
    shows_spots(monkeypatch)
    write(models.parent / "more", 200, 11)
    write(models.parent / "more", 300, 1, spot=True)
    told, err = calibrated(models, models.parent / "more", capsys)
    assert "stands above them: 300.png. If one shows a defect" in err
    assert float(str(told["threshold"])) > 1e3


def shows_spots(monkeypatch: pytest.MonkeyPatch) -> None:
    """A network that finds whatever is full blue."""
    monkeypatch.setattr(
        "trainer.predict.model_of",
        lambda *_: lambda pictures: np.stack([(p[..., 2] == 250) * 1e3 for p in pictures]).astype(np.float32),
    )


def test_a_folder_that_stands_above_the_level_blinds_no_running_line(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_spots(monkeypatch)
    write(models.parent / "wrong", 300, 12, spot=True)
    told, err = calibrated(models, models.parent / "wrong", capsys)
    assert told["version"] == 2 and not told["promoted"]
    assert "top@2 was saved and top@1 stays in use" in err and "`linewatch promote top@2`" in err


def test_where_none_was_in_use_none_is_called_so(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    shows_spots(monkeypatch)
    (models / "top" / "latest").unlink()
    write(models.parent / "wrong", 300, 12, spot=True)
    words = ["calibrate", "top@1", "--data", str(models.parent / "wrong"), "--models", str(models)]
    assert linewatch(words) == 0
    assert "top@2 was saved and not put in use, because so many" in capsys.readouterr().err


def test_an_older_version_is_not_put_in_place_of_the_one_in_use(
    models: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    artifact.save(artifact.load(versions.resolve(models, "top@1")), models)
    write(models.parent / "more", 200, 12)
    words = ["calibrate", "top@1", "--data", str(models.parent / "more"), "--models", str(models)]
    assert linewatch(words) == 0
    assert "top@3 was saved and top@2 stays in use, because it has the weights" in capsys.readouterr().err
    assert versions.resolve(models, "top").name == "2"


def test_filed_false_alarms_have_no_say(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifact.load(versions.resolve(models, "top"))
    write(models.parent / "more", 200, 12)
    filed = models.parent / "more" / "20261126T101112.131415Z-0123456789abcdef.png"
    (models.parent / "more" / "205.png").rename(filed)
    told, err = calibrated(models, models.parent / "more", capsys)
    assert told["pictures"] == before.calibration.pictures + 11
    assert "1 pictures are left out that were filed as false alarms" in err
    after = artifact.load(versions.resolve(models, "top"))
    assert digest_of(filed) not in after.trained_on["calibrated_on"][0]["sha256"]


def test_one_part_that_stands_still_counts_once(models: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = artifact.load(versions.resolve(models, "top")).calibration.pictures
    rng, part = np.random.default_rng(0), np.random.default_rng(1).integers(60, 200, (SIDE, SIDE, 3))
    (models.parent / "still").mkdir()
    for take in range(20):
        noisy = np.clip(part + rng.normal(0, 1, part.shape), 0, 255).astype(np.uint8)
        cv2.imwrite(str(models.parent / "still" / f"{take}.png"), noisy)
    told, err = calibrated(models, models.parent / "still", capsys)
    assert told["pictures"] == before + 1
    assert "The 20 new pictures show 1 parts, each of which counts once." in err


MASKED = """
version: 1
cameras:
  top:
    source: {{type: pattern}}
    masks: {{display: {{polygon: [[0, 0], [1, 0], [1, 0.5], [0, 0.5]]}}}}
models: {{dir: {models}}}
"""


def test_what_varies_under_a_mask_does_not_lift_the_level(
    models: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The upper half of the picture holds a display; its scores are taken out when it is masked."""

    def lively(*_: object) -> object:
        def predict(pictures: list[np.ndarray]) -> np.ndarray:
            maps = np.stack([p[..., 0].astype(np.float32) / 100.0 for p in pictures])
            maps[:, :32] *= 10.0
            return maps

        return predict

    monkeypatch.setattr("trainer.predict.predictor", lively)
    (models.parent / "cameras.yaml").write_text(MASKED.format(models=models))
    write(models.parent / "more", 200, 12)
    command = ["calibrate", "top", "--config", str(models.parent / "cameras.yaml"), "--json", "--data"]
    assert linewatch([*command, str(models.parent / "more")]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    after = artifact.load(versions.resolve(models, "top"))
    assert after.areas.masks == (((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)),)
    # Six held-out pictures looked at anew, and twelve further ones; none of them by its upper half.
    assert told["promoted"] and told["pictures"] == 18 and after.calibration.highest < 1.5
    write(models.parent / "more", 300, 3)
    assert linewatch([*command, str(models.parent / "more")]) == 0
    assert json.loads(capsys.readouterr().out.splitlines()[-1])["pictures"] == 21
    for path in (models.parent / "good").iterdir():
        path.unlink()
    (models.parent / "cameras.yaml").write_text(MASKED.format(models=models).replace("0.5", "0.4"))
    assert linewatch([*command, str(models.parent / "more")]) == 2
    assert "areas are others than the alarm level of top@3 was set for" in capsys.readouterr().err
