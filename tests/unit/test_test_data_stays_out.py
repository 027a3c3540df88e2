"""Evaluation data can't reach training, thresholds or stopping: neither by import nor by an opened file."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import grimp
import numpy as np
import pytest

from trainer.recipe import Wish, make_model

_EVALUATION = {"trainer.testset", "trainer.evaluate", "trainer.report", "trainer.predict"}
_opened: list[str] | None = None


def _listen(event: str, arguments: tuple[object, ...]) -> None:
    if _opened is not None and event in {"open", "os.listdir", "os.scandir"} and arguments:
        _opened.append(str(arguments[0]))


sys.addaudithook(_listen)


@contextmanager
def _what_is_opened() -> Iterator[list[str]]:
    global _opened
    _opened = found = []
    try:
        yield found
    finally:
        _opened = None


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Twelve good pictures in MVTec layout; the test folder shows quite another thing."""
    rng = np.random.default_rng(0)
    ramp = np.linspace(40, 200, 64).astype(np.uint8)
    base = np.repeat(np.broadcast_to(ramp, (64, 64))[..., None], 3, axis=2)
    for folder, count in (("train/good", 12), ("test/good", 3), ("test/dent", 3), ("ground_truth/dent", 3)):
        (tmp_path / folder).mkdir(parents=True)
        for i in range(count):
            noise = rng.integers(0, 12, base.shape)
            picture = base + noise if folder == "train/good" else 255 - base
            name = f"{i:03}_mask.png" if folder.startswith("ground") else f"{i:03}.png"
            cv2.imwrite(str(tmp_path / folder / name), picture.astype(np.uint8))
    return tmp_path


def test_no_module_of_training_imports_one_of_evaluation() -> None:
    graph = grimp.build_graph("trainer", "engine")
    reached = graph.find_upstream_modules("trainer.recipe")
    assert "trainer.train" in reached and not reached & _EVALUATION


def test_training_opens_no_file_of_the_test_set_that_lies_beside(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("trainer.join._VALIDATION_PICTURES", 4)  # quicker; what is opened is the same
    wish = Wish("top", data, steps=2, input_px=64, device="cpu", foreground="off")
    with _what_is_opened() as opened:
        make_model(wish, lambda *_: None, lambda _: None)
    assert any("train/good/000.png" in path for path in opened)
    assert not [p for p in opened if str(data / "test") in p or str(data / "ground_truth") in p]
