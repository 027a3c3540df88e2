"""Measuring a model on a test folder: numbers by hand, and a clear sentence for every bad folder."""

from collections.abc import Callable, Sequence
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from engine.calibration import Calibration
from trainer.errors import DataError
from trainer.evaluate import Evaluation, evaluate
from trainer.testset import load_test, read_mask, shrink_mask

_SIZE = 32
_PRODUCT_KEYS = {
    *("image_auroc", "pixel_auroc", "ap", "pro", "pro_per_image", "aupimo", "threshold"),
    *("false_alarm_rate", "recall_at_threshold", "good", "defective", "ms_per_frame"),
}


def _red(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    """A model that finds what is red."""
    return np.stack([p[..., 0].astype(np.float32) for p in pictures])


def _save(path: Path, pixels: NDArray[np.generic]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    cv2.imwrite(str(path), np.asarray(pixels)[..., ::-1] if pixels.ndim == 3 else np.asarray(pixels))


def _picture(red: int = 0, box: tuple[int, int, int, int] = (0, 0, 0, 0)) -> NDArray[np.uint8]:
    pixels = np.zeros((_SIZE, _SIZE, 3), np.uint8)
    x0, y0, x1, y1 = box
    pixels[y0:y1, x0:x1, 0] = red
    return pixels


def _mask(box: tuple[int, int, int, int], size: int = _SIZE) -> NDArray[np.uint8]:
    mask = np.zeros((size, size), np.uint8)
    x0, y0, x1, y1 = box
    mask[y0:y1, x0:x1] = 255
    return mask


_BOX, _THIN = (4, 4, 12, 12), (20, 20, 24, 21)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Three good pictures (one too red), one strong scratch, one weak stain."""
    for i, red in enumerate((0, 0, 150)):
        _save(tmp_path / f"test/good/{i}.png", _picture(red, _BOX))
    _save(tmp_path / "test/scratch/0.png", _picture(200, _BOX))
    _save(tmp_path / "ground_truth/scratch/0_mask.png", _mask(_BOX))
    _save(tmp_path / "test/stain/0.png", _picture(60, _THIN))
    _save(tmp_path / "ground_truth/stain/0.png", _mask(_THIN))
    return tmp_path


def _calibration() -> Calibration:
    return Calibration.fit(np.linspace(0, 10, 20), np.zeros(20), min_area_px=4, input_px=_SIZE)


def _evaluate(data: Path, **more: bool) -> Evaluation:
    return evaluate(_red, _calibration(), load_test(data, _SIZE), threshold=100.0, **more)


def test_the_numbers_of_a_small_set_are_those_of_a_hand_count(data: Path) -> None:
    found = _evaluate(data).results
    assert (found["good"], found["defective"]) == (3, 2)
    assert found["false_alarm_rate"] == pytest.approx(1 / 3)
    assert found["recall_at_threshold"] == pytest.approx(1 / 2)
    assert found["image_auroc"] == pytest.approx(5 / 6)
    assert (found["defects"], found["defects_found"]) == (2, 0.5)
    assert (found["smallest_defect_found_px"], found["largest_defect_missed_px"]) == (64, 4)
    # Scratch at 200, then 64 red pixels of the good picture, then the stain at 60.
    assert found["ap"] == pytest.approx(64 / 68 + 4 / 68 * 68 / 132)


def test_every_key_of_the_contract_is_there(data: Path) -> None:
    assert set(_evaluate(data).results) >= _PRODUCT_KEYS


def test_without_a_word_the_level_is_the_calibrations_own(data: Path) -> None:
    calibration = _calibration()
    own = evaluate(_red, calibration, load_test(data, _SIZE)).threshold
    assert own == calibration.threshold(1.0, 10.0, 2)


@pytest.mark.parametrize("threshold", [5.0, float("nan"), float("inf")])
def test_a_threshold_among_good_pictures_is_refused(data: Path, threshold: float) -> None:
    with pytest.raises(DataError, match="not above the median 5 of good"):
        evaluate(_red, _calibration(), load_test(data, _SIZE), threshold=threshold)


def test_the_original_size_stands_in_a_column_of_its_own(data: Path) -> None:
    results = _evaluate(data, original=True).results
    assert set(results["original"]) == {"pixel_auroc", "ap", "pro"}
    assert results["original"]["ap"] == pytest.approx(results["ap"])


def test_a_kind_without_masks_counts_for_image_scores_only(data: Path) -> None:
    _save(data / "test/odd/0.png", _picture(255, (0, 0, 32, 32)))
    found = _evaluate(data)
    assert found.results["defective"] == 3 and found.results["defects"] == 2
    assert found.results["pixel_auroc"] == _evaluate(data).results["pixel_auroc"]
    assert any("no masks" in w for w in found.warnings)


def test_few_good_pictures_are_said_to_be_few(data: Path) -> None:
    found = _evaluate(data)
    assert found.results["aupimo"] is None
    assert any("only 3 good test pictures" in w for w in found.warnings)


@pytest.mark.parametrize(
    ("good_red", "threshold", "says"),
    [
        (150, 100.0, []),
        (150, 220.0, ["The alarm level finds 0 of 2 defective pictures: good ones score nearly as high"]),
        (20, 220.0, ["The alarm level finds 0 of 2 defective pictures. What may help"]),
    ],
)
def test_a_level_that_finds_little_comes_with_what_may_help(
    data: Path, good_red: int, threshold: float, says: list[str]
) -> None:
    _save(data / "test/good/2.png", _picture(good_red, _BOX))
    warnings = evaluate(_red, _calibration(), load_test(data, _SIZE), threshold=threshold).warnings
    assert [w[: len(s)] for w in warnings for s in says if "alarm level finds" in w] == says
    assert any("alarm level finds" in w for w in warnings) == bool(says)


def test_good_pictures_alone_still_give_false_alarms(data: Path) -> None:
    for kind in ("scratch", "stain"):
        (data / f"test/{kind}/0.png").unlink()
    found = _evaluate(data)
    assert found.results["recall_at_threshold"] is None and found.results["pro"] is None
    assert found.results["false_alarm_rate"] == pytest.approx(1 / 3)


def _no_folder(data: Path) -> Path:
    return data / "nowhere"


def _no_test(data: Path) -> Path:
    return data / "ground_truth"


def _hidden(data: Path) -> Path:
    return data / ("x" * 300)


def _flat(data: Path) -> Path:
    _save(data / "flat/test/0.png", _picture())
    return data / "flat"


def _empty(data: Path) -> Path:
    (data / "bare/test/good").mkdir(parents=True)
    return data / "bare"


def _other_size(data: Path) -> Path:
    _save(data / "ground_truth/stain/0.png", _mask(_THIN, 48))
    return data


def _no_mask(data: Path) -> Path:
    _save(data / "test/stain/1.png", _picture())
    return data


def _broken_mask(data: Path) -> Path:
    (data / "ground_truth/stain/0.png").write_bytes(b"not a picture")
    return data


def _broken_picture(data: Path) -> Path:
    (data / "test/good/0.png").write_bytes(b"")
    return data


def _float_mask(data: Path) -> Path:
    (data / "ground_truth/stain/0.png").unlink()
    _save(data / "ground_truth/stain/0.tiff", _mask(_THIN).astype(np.float32) / 255)
    return data


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (_no_folder, "is not a folder"),
        (_no_test, "has no test folder"),
        (_hidden, "can't be read: File name too long"),
        (_flat, "has no folders; good pictures belong in test/good"),
        (_empty, "holds no pictures"),
        (_other_size, "is 48x48 pixels, its picture 32x32"),
        (_no_mask, "1.png has no mask; expected .*stain/1_mask.png"),
        (_broken_mask, "mask .* is not a readable picture"),
        (_float_mask, "mask .* has float32 pixels; save it with 8 or 16 bits"),
        (_broken_picture, "0.png is not a readable picture"),
    ],
)
def test_a_folder_that_can_not_be_measured_is_refused_in_one_sentence(
    data: Path, spoil: Callable[[Path], Path], sentence: str
) -> None:
    with pytest.raises(DataError, match=sentence) as caught:
        load_test(spoil(data), _SIZE)
    assert "\n" not in str(caught.value) and caught.value.exit_code == 2


@pytest.mark.parametrize(
    "stored",
    [
        _mask(_BOX),
        _mask(_BOX) // 255,
        _mask(_BOX).astype(np.uint16) * 257,
        np.repeat(_mask(_BOX)[..., None], 3, axis=2),
        np.dstack([_mask(_BOX)] * 3 + [np.full((_SIZE, _SIZE), 255, np.uint8)]),
    ],
    ids=["grey", "zero and one", "16 bit", "colour", "alpha"],
)
def test_a_mask_is_read_whatever_way_it_was_saved(tmp_path: Path, stored: NDArray[np.generic]) -> None:
    cv2.imwrite(str(tmp_path / "mask.png"), stored)
    assert np.array_equal(read_mask(tmp_path / "mask.png", (_SIZE, _SIZE)), _mask(_BOX) > 0)


def _drawn(*shapes: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Discs (x, radius, grey) on a mask of 128 x 128."""
    mask = np.zeros((128, 128), np.uint8)
    for x, radius, grey in shapes:
        cv2.circle(mask, (x, 64), radius, grey, -1)
    return mask


def test_a_darker_defect_of_a_mask_is_one_too(tmp_path: Path) -> None:
    for x, left_out in ((110, 0), (71, 60)):  # apart, or touching the larger and brighter one
        stored = _drawn((x, 12, 100), (40, 20, 255))
        cv2.imwrite(str(tmp_path / "mask.png"), stored)
        lost = (stored > 0) ^ read_mask(tmp_path / "mask.png", stored.shape)
        assert lost.sum() <= left_out and not lost[:, x:].any()


def test_soft_edges_of_a_mask_end_in_their_middle(tmp_path: Path) -> None:
    hard = _drawn((40, 20, 255), (100, 4, 255))
    soft = cv2.GaussianBlur(hard, (5, 5), 0)
    cv2.imwrite(str(tmp_path / "mask.png"), soft)
    assert np.array_equal(read_mask(tmp_path / "mask.png", hard.shape), soft > 127)


@pytest.mark.parametrize("quality", [75, 95])
def test_the_noise_of_a_jpeg_mask_is_no_defect(tmp_path: Path, quality: int) -> None:
    hard = _drawn((40, 20, 255), (100, 9, 100))
    cv2.imwrite(str(tmp_path / "mask.jpg"), hard, [cv2.IMWRITE_JPEG_QUALITY, quality])
    read = read_mask(tmp_path / "mask.jpg", hard.shape)
    assert (read ^ (hard > 0)).sum() <= 3
    assert not read[:, 120:].any() and not read[:30].any()


@pytest.mark.parametrize("name", ["0_mask.PNG", "0.PNG", "0_mask.BMP"])
def test_a_mask_may_have_its_ending_in_capitals_as_a_picture_may(data: Path, name: str) -> None:
    (data / "test/scratch/0.png").rename(data / "test/scratch/0.PNG")
    (data / "ground_truth/scratch/0_mask.png").unlink()
    _save(data / "ground_truth/scratch" / name, _mask(_BOX))
    (scratch,) = (one for one in load_test(data, _SIZE) if one.kind == "scratch")
    assert scratch.mask is not None and scratch.mask.sum() == 64


def test_hidden_folders_are_no_kinds_of_defect(data: Path) -> None:
    _save(data / "test/.ipynb_checkpoints/0.png", _picture(60, _THIN))
    assert {p.kind for p in load_test(data, _SIZE)} == {"good", "scratch", "stain"}


def test_masks_shrink_by_pixel_centres() -> None:
    big = np.zeros((8, 8), bool)
    big[:4, :4] = True
    assert np.array_equal(shrink_mask(big, (4, 4)), np.array([[1, 1, 0, 0]] * 2 + [[0] * 4] * 2, bool))
