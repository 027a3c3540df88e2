"""Large pictures in tiles: one map, one defect, whatever the seams; in the engine as in the trainer."""

import json
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from config.cli import main as linewatch
from engine import artifact
from engine.core import Batch, Frame
from engine.errors import ArtifactError
from engine.grouping import at_most, groups
from engine.library import CameraTuning, Library
from engine.runner import Runner
from engine.tiles import Tiling
from engine.torch_backend import TorchBackend
from tests.models import SIDE, TinyTeacher, bright_spot, tiny_artifact, tiny_backend
from trainer.dataset import load_good
from trainer.evaluate import evaluate, flat
from trainer.foreground import Foregrounds
from trainer.squares import squares_of
from trainer.testset import load_test

ANY_SIZE = CameraTuning(min_area_px=1.0)
tilings = st.builds(Tiling, st.sampled_from([8, 32, 40]), st.integers(1, 4), st.integers(1, 4))


def frame(camera: str, pixels: NDArray[np.uint8], seq: int = 1) -> Frame:
    return Frame(camera, seq, 0.0, time.monotonic(), pixels)


def runner(max_squares: int = 16, **tiles: str) -> Runner:
    made = Runner(Library(), backend=tiny_backend(), max_squares=max_squares)
    for camera, words in tiles.items():
        made.library.put(camera, replace(tiny_artifact(), tiles=words), ANY_SIZE)
    return made


def batches(used: Runner) -> list[int]:
    assert isinstance(used.backend, TorchBackend)
    teacher = used.backend.teacher("tiny")
    assert isinstance(teacher, TinyTeacher)
    return teacher.batches


@settings(derandomize=True, max_examples=60, deadline=None)
@given(tilings, st.integers(0, 1000))
def test_a_map_cut_in_tiles_and_stitched_is_the_map_again(tiling: Tiling, seed: int) -> None:
    whole = np.random.default_rng(seed).normal(size=(2, *tiling.canvas)).astype(np.float32)
    tiles = torch.from_numpy(np.stack([tile for one in whole for tile in tiling.cut(one)]))
    assert torch.allclose(tiling.stitch(tiles), torch.from_numpy(whole), atol=1e-6)


@settings(derandomize=True, max_examples=30, deadline=None)
@given(tilings)
def test_every_cell_lies_in_a_tile_and_neighbours_share_an_eighth(tiling: Tiling) -> None:
    seen = np.zeros(tiling.canvas, dtype=int)
    for tile in tiling.cut(seen):
        tile += 1
    along = seen[0]
    assert along.min() == 1
    assert np.count_nonzero(along == 2) == (tiling.columns - 1) * (tiling.side_px // 8)


def test_where_tiles_disagree_the_map_goes_over_from_one_to_the_other_without_a_step() -> None:
    tiling = Tiling(32, 1, 2)
    tiles = torch.stack([torch.zeros(32, 32), torch.ones(32, 32)])
    line = tiling.stitch(tiles)[0, 5]
    assert line.diff().max() <= 0.2 + 1e-6 and line.diff().min() >= 0
    assert (line[0], line[-1]) == (0.0, 1.0)


@pytest.mark.parametrize("words", ["", "2", "0x1", "9x9", "2X3", "2x3x1", "1.5x2"])
def test_what_is_no_number_of_tiles_is_refused(words: str) -> None:
    with pytest.raises(ValueError, match="ROWSxCOLUMNS"):
        Tiling.of(256, words)


@pytest.mark.parametrize("tiles", ["1x2", "2x1", "2x2", "3x4"])
def test_a_defect_on_a_seam_is_one_defect_where_it_is_on_the_frame(tiles: str) -> None:
    across = bright_spot(240, 320, (100, 60, 220, 180))
    [seen] = runner(top=tiles).run(Batch((frame("top", across),)))
    [defect] = seen.defects
    assert defect.box == pytest.approx((100, 60, 220, 180), abs=6)
    assert defect.centroid == pytest.approx((160, 120), abs=3)


def test_tiles_find_what_is_lost_in_the_whole_picture() -> None:
    speck = bright_spot(512, 512, (301, 200, 304, 203))
    whole, tiled = runner(whole="1x1", tiled="4x4").run(Batch((frame("whole", speck), frame("tiled", speck))))
    assert whole.score_ratio < tiled.score_ratio
    assert max(d.peak for d in tiled.defects) > 2 * max((d.peak for d in whole.defects), default=0.0)


def test_cameras_with_maps_of_different_sizes_go_through_the_network_together() -> None:
    used = runner(plain="1x1", wide="1x3", tall="3x1")
    batches(used).clear()
    spot = bright_spot(96, 96, (12, 8, 36, 32))
    asked = [frame(name, spot, seq) for seq, name in enumerate(("wide", "plain", "tall", "wide"))]
    seen = used.run(Batch(tuple(asked)))
    assert batches(used) == [10]
    assert [(i.frame.camera, i.frame.seq) for i in seen] == [(f.camera, f.seq) for f in asked]
    assert all([d.box for d in i.defects] == [pytest.approx((12, 8, 36, 32), abs=3)] for i in seen)


def test_more_tiles_than_go_at_once_go_in_parts_and_change_nothing() -> None:
    spot = bright_spot(240, 320, (100, 60, 220, 180))
    batch = Batch((frame("a", spot), frame("b", spot)))
    at_once, in_parts = runner(64, a="3x3", b="2x2"), runner(4, a="3x3", b="2x2")
    batches(in_parts).clear()
    parts = in_parts.run(batch)
    assert batches(in_parts) == [4, 4, 4, 1]
    for one, other in zip(at_once.run(batch), parts, strict=True):
        assert one.defects == other.defects and one.score == other.score


def test_parts_of_a_group_tell_each_network_its_own_squares() -> None:
    table = runner(a="2x2", b="1x3").library.snapshot()
    [group] = groups([frame("b", bright_spot()), frame("a", bright_spot())], table)
    found = [(part, [where for _, where in networks]) for networks, part in at_most(5, group.networks())]
    assert found == [(slice(0, 5), [slice(0, 3), slice(3, 5)]), (slice(5, 7), [slice(0, 2)])]


def test_nothing_is_found_outside_the_region_of_interest_of_a_picture_in_tiles() -> None:
    used = runner(top="2x3")
    right = ((0.5, 0.0), (1.0, 0.0), (1.0, 1.0), (0.5, 1.0))
    used.library.tune("top", replace(ANY_SIZE, roi=right))
    [seen] = used.run(Batch((frame("top", np.full((96, 96, 3), 250, dtype=np.uint8)),)))
    assert [d.box for d in seen.defects] == [pytest.approx((48, 0, 96, 96), abs=1)]


def test_the_small_map_of_a_picture_in_tiles_is_finer() -> None:
    used = runner()
    used.library.put("fine", replace(tiny_artifact(input_px=128), tiles="3x2"), ANY_SIZE)
    [seen] = used.run(Batch((frame("fine", bright_spot()),)))
    assert seen.map_small.shape == (192, 192)


def test_warming_up_takes_a_picture_of_every_tile() -> None:
    used = runner(top="2x3")
    batches(used).clear()
    assert used.warm_up() == []
    assert batches(used) == [6, 6]


def test_a_camera_follows_its_models_tiles_unless_it_names_others() -> None:
    used = runner(top="2x3")
    assert used.library.tune("top", replace(ANY_SIZE, tiles="2x3"))
    with pytest.raises(ArtifactError, match=r"trained with 2x3: train it with --tiles 1x1, or set .* 2x3\."):
        used.library.put("top", replace(tiny_artifact(version=2), tiles="2x3"), CameraTuning(tiles="1x1"))
    assert used.run(Batch((frame("top", bright_spot()),)))[0].model.version == 1


def test_a_model_keeps_its_tiles_on_disk_and_one_of_before_has_none(tmp_path: Path) -> None:
    folder = artifact.save(replace(tiny_artifact(), tiles="2x3"), tmp_path)
    assert artifact.load(folder).tiling == Tiling(SIDE, 2, 3)
    manifest = json.loads((folder / "manifest.json").read_text())
    for said, wanted in (({}, "1x1"), ({"tiles": "1x1"}, "1x1")):
        rest = {key: value for key, value in manifest.items() if key != "tiles"}
        (folder / "manifest.json").write_text(json.dumps({**rest, **said}))
        assert artifact.load(folder).tiles == wanted
    (folder / "manifest.json").write_text(json.dumps({**manifest, "tiles": "20x30"}))
    with pytest.raises(ArtifactError, match="ROWSxCOLUMNS"):
        artifact.load(folder)


def test_squares_come_from_all_places_of_all_pictures_with_their_own_foreground() -> None:
    tiling = Tiling(8, 2, 2)
    pictures = np.arange(10, dtype=np.uint8)[:, None, None, None].repeat(15, 1).repeat(15, 2).repeat(3, 3)
    masks = np.zeros((10, 15, 15), dtype=bool)
    masks[3, 7:, 7:] = True
    found = squares_of(pictures, Foregrounds(masks, "found"), tiling, 1000, seed=0)
    assert np.array_equal(np.bincount(found.pixels[:, 0, 0, 0]), [4] * 10)
    assert found.foregrounds.masks is not None
    inside = found.foregrounds.masks.all(axis=(1, 2))
    assert found.pixels[inside][:, 0, 0, 0].tolist() == [3]
    assert len(squares_of(pictures, Foregrounds(None, ""), tiling, 12, seed=0).pixels) == 12


def test_a_model_of_whole_pictures_learns_from_them_as_they_are() -> None:
    pictures = np.zeros((4, 8, 8, 3), dtype=np.uint8)
    assert squares_of(pictures, Foregrounds(None, ""), Tiling(8), 2, seed=0).pixels is pictures


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Twelve wide good pictures, and test pictures with a spot in the middle."""
    root = tmp_path_factory.mktemp("wide")
    for folder in ("train/good", "test/good", "test/spot", "ground_truth/spot"):
        (root / folder).mkdir(parents=True)
    dice = np.random.default_rng(0)
    for index in range(14):
        pixels = dice.integers(100, 130, (64, 130, 3)).astype(np.uint8)
        folder = "train/good" if index < 12 else "test/good"
        cv2.imwrite(str(root / f"{folder}/{index}.png"), pixels)
    spot = bright_spot(64, 130, (55, 20, 75, 40))
    cv2.imwrite(str(root / "test/spot/0.png"), spot)
    cv2.imwrite(str(root / "ground_truth/spot/0_mask.png"), (spot[..., 0] > 100).astype(np.uint8) * 255)
    return root


def test_pictures_and_masks_are_read_at_the_size_of_all_tiles_together(data: Path) -> None:
    good = load_good(data, 64, "1x2")
    assert good.pixels.shape == (12, 64, 120, 3)
    [spot] = [p for p in load_test(data, 64, "1x2") if not p.good]
    assert spot.pixels.shape == (64, 120, 3)
    assert spot.mask is not None and spot.mask.shape == (64, 120)
    assert not any("smaller" in note for note in good.notes)
    assert any("fewer tiles" in note for note in load_good(data, 64, "3x3").notes)


def test_figures_of_a_model_in_tiles_stand_apart(data: Path) -> None:
    pictures = load_test(data, 64, "1x2")
    scores = tiny_artifact().calibration
    plain = evaluate(lambda p: np.stack([one[..., 0] / 255.0 for one in p]), scores, pictures).results
    tiled = evaluate(
        lambda p: np.stack([one[..., 0] / 255.0 for one in p]), scores, pictures, tiles="1x2"
    ).results
    assert plain["pro"] == tiled["tiles_1x2"]["pro"] is not None
    assert tiled["pro"] is None is tiled["image_auroc"]
    assert tiled["recall_at_threshold"] == plain["recall_at_threshold"]
    assert flat(tiled)["tiles_1x2 pro"] == plain["pro"] and "pro" not in flat(tiled)


def test_a_model_is_trained_and_measured_in_the_tiles_that_the_config_gives_its_camera(
    data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = ["--config", str(tmp_path / "cameras.yaml")]
    camera = "{source: {type: pattern}, tiles: 1x2, model: {input_px: 64}}"
    Path(config[1]).write_text(f"version: 1\nmodels: {{dir: models}}\ncameras:\n  top: {camera}\n")
    words = ["train", "top", "--data", str(data), "--steps", "2", "--foreground", "off", "--json"]
    assert linewatch([*words, *config]) == 0
    folder = Path(json.loads(capsys.readouterr().out.splitlines()[-1])["artifact"])
    made = artifact.load(folder)
    assert (made.tiles, made.input_px) == ("1x2", 64)
    assert made.calibration.pictures == len(made.trained_on["held_out"])
    assert linewatch(["evaluate", str(folder), "--data", str(data), "--json"]) == 0
    told = json.loads(capsys.readouterr().out.splitlines()[-1])
    assert told["pro"] is None and 0 <= told["tiles_1x2"]["pro"] <= 1
    assert linewatch(["models", "top", *config]) == 0
    assert "lite in 1x2 tiles" in (out := capsys.readouterr().out) and "tiles_1x2 pro" in out
    assert "in 1x2 tiles" in (folder / "report.html").read_text()


def test_tiles_that_can_not_be_are_said_in_one_sentence(
    data: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert linewatch(["train", "top", "--data", str(data), "--tiles", "9x9"]) == 2
    assert "--tiles: '9x9' is no ROWSxCOLUMNS" in capsys.readouterr().err
