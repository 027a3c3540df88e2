"""Where the texture pictures of synthetic anomalies come from, and that a test set is never among them."""

import importlib.machinery
import importlib.util
import logging
import sys
from pathlib import Path

import cv2
import numpy as np
import pytest

from trainer import textures
from trainer.errors import DataError
from trainer.synthesis import TRAINING, UNSEEN, Textures, syntheses
from trainer.textures import SHIPPED, load_textures

SIDE = 64


def fill(folder: Path, count: int) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    for i in range(count):
        cv2.imwrite(str(folder / f"{i}.png"), rng.integers(0, 255, (40, 50, 3), dtype=np.uint8))


def test_textures_come_from_subfolders_too(tmp_path: Path) -> None:
    fill(tmp_path / "banded", 2)
    fill(tmp_path / "dotted", 3)
    assert [t.shape for t in load_textures(tmp_path, SIDE)] == [(SIDE, SIDE, 3)] * 5
    with pytest.raises(DataError, match="hold no pictures"):
        (tmp_path / "none").mkdir()
        load_textures(tmp_path / "none", SIDE)


def test_an_unreadable_texture_is_skipped_and_named(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    fill(tmp_path, 2)
    (tmp_path / "100%.png").write_bytes(b"no picture")
    told: list[str] = []
    assert len(load_textures(tmp_path, SIDE, told.append)) == 2
    assert len(told) == 1 and told[0].startswith("Skipped: ") and "100%.png is not a readable" in told[0]
    with caplog.at_level(logging.WARNING):
        load_textures(tmp_path, SIDE)
    assert caplog.messages == told


def test_textures_of_which_none_can_be_read_are_refused(tmp_path: Path) -> None:
    (tmp_path / "0.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match="None of the 1 texture pictures"):
        load_textures(tmp_path, SIDE)


def test_without_a_folder_scikit_images_textures_are_taken_and_it_is_not_imported() -> None:
    before = set(sys.modules)
    shipped = load_textures(None, SIDE)
    assert [t.shape for t in shipped] == [(SIDE, SIDE, 3)] * len(SHIPPED)
    assert all(t.dtype == np.uint8 and t.std() > 10 for t in shipped)
    assert not {name for name in set(sys.modules) - before if name.partition(".")[0] == "skimage"}


@pytest.mark.parametrize("installed", [False, True])
def test_a_scikit_image_without_its_textures_is_said(
    installed: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(tmp_path / "data", 3)
    spec = importlib.machinery.ModuleSpec("skimage", None, is_package=True)
    spec.submodule_search_locations = [str(tmp_path)]
    monkeypatch.setattr(textures.importlib.util, "find_spec", lambda _: spec if installed else None)
    with pytest.raises(DataError, match=r"brick.png, .* install scikit-image again .* --textures DIR"):
        load_textures(None, SIDE)


def test_a_small_texture_is_enlarged_whole() -> None:
    small = np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)
    out = Textures((small,))(np.zeros((SIDE, SIDE, 3), dtype=np.uint8), np.random.default_rng(0))
    assert out.shape == (SIDE, SIDE, 3) and out.dtype == np.float32


@pytest.mark.parametrize(("count", "share", "kept"), [(20, 0.15, 3), (3, 0.15, 0), (3, 0.0, 0), (1, 0.15, 0)])
def test_what_is_kept_back_of_the_textures_is_never_drawn_in_training(
    count: int, share: float, kept: int
) -> None:
    pictures = [np.full((8, 8, 3), i, dtype=np.uint8) for i in range(count)]
    drawn, unseen = (s.textures for s in syntheses(pictures, share))
    assert drawn[:-1] == TRAINING and unseen[: len(UNSEEN)] == UNSEEN
    held = [t.pictures for t in unseen[len(UNSEEN) :] if isinstance(t, Textures)]
    assert isinstance(drawn[-1], Textures)
    assert [p[0, 0, 0] for p in drawn[-1].pictures] == list(range(count - kept))
    assert [p[0, 0, 0] for some in held for p in some] == list(range(count - kept, count))


def test_of_very_many_textures_some_are_taken_evenly_spread_and_that_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for i in range(10):
        cv2.imwrite(str(tmp_path / f"{i}.png"), np.full((8, 8, 3), i, np.uint8))
    monkeypatch.setattr(textures, "MOST", 4)
    told: list[str] = []
    assert [int(t[0, 0, 0]) for t in load_textures(tmp_path, SIDE, told.append)] == [0, 2, 5, 7]
    assert told == [f"{tmp_path} holds 10 texture pictures: 4 of them are used, evenly spread by path."]
    monkeypatch.setattr(textures, "MOST", 10)
    assert len(load_textures(tmp_path, SIDE, told.append)) == 10 and len(told) == 1
