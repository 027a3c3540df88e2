"""Evaluation data can't reach training, thresholds or stopping: neither by import nor by an opened file."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import cv2
import grimp
import numpy as np
import pytest

from trainer.dataset import load_good
from trainer.errors import DataError
from trainer.recipe import Wish, make_model
from trainer.textures import load_textures

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


@pytest.mark.parametrize("inside", ["test", "test/good", "test/dent", "ground_truth", "ground_truth/dent"])
@pytest.mark.parametrize("beside", ["train", "the other"])
def test_a_folder_of_a_test_set_or_its_masks_is_no_folder_of_good_pictures(
    data: Path, tmp_path_factory: pytest.TempPathFactory, inside: str, beside: str
) -> None:
    other = "ground_truth" if inside.startswith("test") else "test"
    shutil.rmtree(data / (other if beside == "train" else "train"))
    link = tmp_path_factory.mktemp("elsewhere") / "good"
    link.symlink_to(data / inside)
    for folder in (data / inside, link, data / inside / ".." / Path(inside).name):
        with pytest.raises(DataError, match=r"belongs to the test set of .* must stay out of training"):
            load_good(folder, 64)


def test_a_test_set_that_is_a_link_to_elsewhere_stays_one(data: Path) -> None:
    (data / "test").rename(data / "pool")
    (data / "test").symlink_to(data / "pool")
    with pytest.raises(DataError, match="belongs to the test set"):
        load_good(data / "test/dent", 64)


def test_a_plain_folder_may_lie_below_one_that_happens_to_be_called_test(data: Path) -> None:
    plain = data / "my/test/top"
    plain.parent.mkdir(parents=True)
    (data / "train/good").rename(plain)
    assert len(load_good(plain, 64)) == 12 and len(load_textures(plain.parent, 64)) == 12


@pytest.mark.parametrize("root", [".", "test", "ground_truth/dent", "link"])
def test_textures_are_never_taken_from_a_test_set(data: Path, root: str) -> None:
    (data / "link").mkdir()
    (data / "link/textures").symlink_to(data / "test/dent")
    with pytest.raises(DataError, match=r"belongs to the test set .*: name a folder of textures"):
        load_textures(data / root, 64)
    assert len(load_textures(data / "train", 64)) == 12
