"""A folder of pictures as a camera."""

import os
from pathlib import Path

import cv2
import numpy as np
import pytest

from stream.sim.folder import FolderError, FolderShow, Pace, boxes, canvas_size, find, letterbox
from stream.sim.shown import Shot

PACE = Pace(dwell_s=1.0, learn_dwell_s=0.5, good_between=2)


def save(path: Path, level: int, size: tuple[int, int] = (60, 40)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), np.full((size[1], size[0]), level, np.uint8))


@pytest.fixture
def mvtec(tmp_path: Path) -> Path:
    for i in range(4):
        save(tmp_path / f"train/good/{i}.png", 40 + i)
    for i in range(3):
        save(tmp_path / f"test/good/{i}.png", 80 + i)
        save(tmp_path / f"test/crack/{i}.png", 160 + i, (70, 40))
        mask = np.zeros((40, 70), np.uint8)
        mask[10:20, 30:45] = 255
        (tmp_path / "ground_truth/crack").mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(str(tmp_path / f"ground_truth/crack/{i}_mask.png"), mask)
    return tmp_path


def shots(show: FolderShow, seconds: int) -> list[Shot]:
    return [show.shot(i + 0.5) for i in range(seconds)]


def test_live_shows_a_defect_after_good_ones_again_and_again(mvtec: Path) -> None:
    seen = shots(FolderShow(mvtec, 1, PACE), 12)
    assert [bool(shot.defects) for shot in seen] == [False, False, True] * 4
    assert {shot.name.split("/")[1] for shot in seen if not shot.defects} == {"good"}


def test_all_are_shown_before_one_is_shown_again(mvtec: Path) -> None:
    bad = [shot.name for shot in shots(FolderShow(mvtec, 1, PACE), 18) if shot.defects]
    assert len(set(bad[:3])) == 3 and len(set(bad[3:])) == 3


def test_every_showing_of_a_defect_has_an_id_of_its_own(mvtec: Path) -> None:
    ids = [d.id for shot in shots(FolderShow(mvtec, 1, PACE), 18) for d in shot.defects]
    assert len(ids) == len(set(ids)) == 6


def test_learning_shows_the_training_pictures_only_and_the_switch_is_at_a_picture_s_end(mvtec: Path) -> None:
    show = FolderShow(mvtec, 1, PACE)
    show.set_phase("learn", 0.3)
    assert show.shot(0.9).phase == "live"
    learnt = [show.shot(1.1 + 0.5 * i) for i in range(4)]
    assert {shot.name for shot in learnt} == {f"train/good/{i}.png" for i in range(4)}
    assert {shot.phase for shot in learnt} == {"learn"}
    show.set_phase("live", 3.2)
    assert show.shot(3.4).phase == "learn" and show.shot(3.6).phase == "live"


def test_the_mask_and_box_are_letterboxed_like_the_picture(mvtec: Path) -> None:
    show = FolderShow(mvtec, 1, PACE)
    assert show.size == (60, 40) or show.size == (70, 40)
    (defect,) = show.shot(2.5).defects
    scale = min(show.size[0] / 70, show.size[1] / 40)
    assert (defect.kind, defect.from_s, defect.to_s) == ("crack", 2.0, 3.0)
    assert defect.box[2] - defect.box[0] == pytest.approx(15 * scale, abs=1.5)
    x0, y0, x1, y1 = defect.box
    assert show.mask(2.5)[y0:y1, x0:x1].all() and show.mask(2.5).sum() == (x1 - x0) * (y1 - y0)
    assert not show.mask(0.5).any()


def test_pictures_are_rgb_of_one_size_and_never_twice_the_same(mvtec: Path) -> None:
    show = FolderShow(mvtec, 1, PACE)
    first, second = show.picture(0.2), show.picture(0.3)
    assert first.shape == second.shape == (show.size[1], show.size[0], 3)
    assert not np.array_equal(first, second)
    assert np.array_equal(first, FolderShow(mvtec, 1, PACE).picture(0.2))


def test_what_was_prepared_is_shown_without_reading_again(mvtec: Path) -> None:
    show = FolderShow(mvtec, 1, PACE)
    show.prepare(2.5)
    (mvtec / show.shot(2.5).name).unlink()
    assert show.picture(2.5).any() and show.mask(2.5).any()


def test_a_plain_folder_is_all_good(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 10)
    show = FolderShow(tmp_path, 1, PACE)
    assert not any(shot.defects for shot in shots(show, 9))


def test_a_defective_picture_without_a_mask_means_all_of_it(mvtec: Path) -> None:
    for mask in (mvtec / "ground_truth/crack").iterdir():
        mask.unlink()
    show = FolderShow(mvtec, 1, PACE)
    (defect,) = show.shot(2.5).defects
    assert defect.box[2] - defect.box[0] == show.size[0]


def test_without_pictures_it_says_what_it_wants(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="MVTec"):
        find(tmp_path)
    with pytest.raises(FolderError, match="no such folder"):
        find(tmp_path / "nowhere")


def test_a_broken_picture_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(b"no picture")
    with pytest.raises(FolderError, match=r"a\.png"):
        FolderShow(tmp_path, 1, PACE)


def test_an_empty_picture_is_named_and_one_that_vanished_meanwhile(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 9)
    show = FolderShow(tmp_path, 1, PACE)
    (tmp_path / "a.png").unlink()
    with pytest.raises(FolderError, match=r"a\.png: can't be read: No such file"):
        show.picture(0.0)
    (tmp_path / "a.png").touch()
    with pytest.raises(FolderError, match=r"a\.png: not a picture"):
        FolderShow(tmp_path, 1, PACE)


def test_only_files_are_pictures_whatever_else_is_named_like_one(tmp_path: Path) -> None:
    save(tmp_path / "a.png", 9)
    (tmp_path / "folder.png").mkdir()
    (tmp_path / "broken.png").symlink_to("nowhere")
    os.mkfifo(tmp_path / "pipe.png")  # nobody writes: reading it would take for ever
    assert find(tmp_path).learn == (tmp_path / "a.png",)


def test_the_canvas_is_even_and_at_most_640(tmp_path: Path) -> None:
    for i, size in enumerate([(1001, 777), (1003, 781), (999, 779)]):
        save(tmp_path / f"{i}.png", 9, size)
    width, height = canvas_size(find(tmp_path))
    assert width == 640 and height % 2 == 0 and height == pytest.approx(640 * 779 / 1001, abs=2)


def test_a_letterbox_keeps_the_shape_and_fills_with_black() -> None:
    boxed = letterbox(np.full((10, 40), 255, np.uint8), (80, 80))
    ys, xs = np.nonzero(boxed)
    assert (np.ptp(ys) + 1, np.ptp(xs) + 1) == (20, 80)


def test_pieces_close_together_are_one_defect_and_specks_are_none() -> None:
    mask = np.zeros((100, 100), bool)
    mask[10:20, 10:20] = mask[10:20, 24:30] = mask[70:80, 70:80] = mask[50, 5] = True
    assert sorted(boxes(mask)) == [(10, 10, 30, 20), (70, 70, 80, 80)]
