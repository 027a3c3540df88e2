"""What a report is gathered from: good pictures that stand out are named, also among many."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.artifact import Artifact
from tests.models import SIDE, tiny_artifact
from trainer import present
from trainer.present import known_stray, stray


def brightness(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.stack([p[..., 0].astype(np.float32) / 255 for p in pictures])


def trained(folder: Path, count: int, defective: int) -> Artifact:
    """A model of so many dark pictures, of which one has a bright spot."""
    rng = np.random.default_rng(0)
    for index in range(count):
        pixels = rng.integers(20, 40, (SIDE, SIDE, 3)).astype(np.uint8)
        if index == defective:
            pixels[8:16, 8:16] = 250
        cv2.imwrite(str(folder / f"{index}.png"), pixels)
    names = [f"{index}.png" for index in range(count)]
    return replace(tiny_artifact(), trained_on={"folder": str(folder), "training": names, "held_out": []})


@pytest.mark.parametrize("defective", [0, 50, 102])
def test_one_defective_picture_among_a_hundred_for_training_is_named(tmp_path: Path, defective: int) -> None:
    (said,) = stray(trained(tmp_path, 103, defective), brightness)
    assert f"stands out: {defective}.png." in said


def test_of_more_pictures_than_are_looked_at_some_are_evenly_spread(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(present, "_TRAINING_LOOKED_AT", 40)
    asked: list[int] = []

    def counted(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
        asked.append(len(pictures))
        return brightness(pictures)

    assert stray(trained(tmp_path, 50, 49), counted) == [] and sum(asked) == 40
    assert max(asked) <= 8  # few at a time, as a picture in tiles is large


def test_what_stands_out_is_looked_for_once_and_told_when_the_pictures_are_gone(tmp_path: Path) -> None:
    for folder in ("good", "version"):
        (tmp_path / folder).mkdir()
    model = trained(tmp_path / "good", 30, 7)
    first = known_stray(model, brightness, tmp_path / "version")
    assert "stands out: 7.png." in first[0]
    (tmp_path / "good").rename(tmp_path / "gone")
    assert known_stray(model, brightness, tmp_path / "version") == first
    (tmp_path / "version" / "stray.json").write_text("[")
    assert known_stray(model, brightness, tmp_path / "version") == []
    (tmp_path / "gone").rename(tmp_path / "good")
    assert known_stray(model, brightness, tmp_path / "version") == first
