"""The trained view, from a folder that may be anything."""

import weakref
from pathlib import Path

import numpy as np
import pytest

from stream.collection import write_png
from stream.view import trained_view
from tests.puppets import picture


def test_good_pictures_make_a_view_and_none_make_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert trained_view(tmp_path / "good") is None
    for number in range(3):
        write_png(picture(number), tmp_path / "good" / f"{number}.png")
    assert trained_view(tmp_path / "good") is not None
    assert caplog.text == ""


def test_a_folder_that_cannot_be_read_costs_the_view_and_not_the_line(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert trained_view(tmp_path / ("x" * 300)) is None  # is_dir raises for it, as for a stale share
    assert "can't be read (File name too long): blurred or moved pictures are not told" in caplog.text


def test_of_the_large_pictures_one_at_a_time_is_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(5):
        (tmp_path / f"{number}.png").touch()
    large: list[weakref.ref[np.ndarray]] = []

    def read(path: Path) -> np.ndarray:
        assert [held() for held in large if held() is not None] == []
        pixels = np.zeros((480, 640, 3) if path.stem != "3" else (100, 100, 3), np.uint8)
        large.append(weakref.ref(pixels))
        return pixels

    monkeypatch.setattr("stream.view.read", read)
    view = trained_view(tmp_path)
    assert view is not None
    assert (view.size_px, view.grey.shape, len(large)) == ((640, 480), (240, 320), 5)
