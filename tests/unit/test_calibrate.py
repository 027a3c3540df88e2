"""The score of a picture's strongest region, and calibration from held-out good pictures."""

from collections.abc import Sequence

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage

from engine.calibration import CalibrationError
from engine.zones import Areas
from trainer.calibrate import calibrate, image_score, maps_of, region_score, within
from trainer.errors import DataError, TrainerError
from trainer.metrics import regions_of


def _plain(raw: NDArray[np.float32], min_area_px: int) -> float:
    """Every value of the map as a level, highest first, regions by scipy."""
    for level in np.unique(raw)[::-1]:
        labels, count = ndimage.label(raw >= level, structure=np.ones((3, 3)))
        if count and np.bincount(labels.ravel())[1:].max() >= min_area_px:
            return float(level)
    return -np.inf


def _field(seed: int, sigma: float, size: int = 20) -> NDArray[np.float32]:
    noise = np.random.default_rng(seed).normal(size=(size, size))
    return np.asarray(ndimage.gaussian_filter(noise, sigma) if sigma else noise, dtype=np.float32)


@pytest.mark.parametrize("min_area_px", [1, 2, 8, 40, 400])
@pytest.mark.parametrize("sigma", [0.0, 1.5])
@pytest.mark.parametrize("seed", range(3))
def test_the_region_score_agrees_with_its_plain_definition(seed: int, sigma: float, min_area_px: int) -> None:
    raw = _field(seed, sigma)
    assert region_score(raw, min_area_px) == _plain(raw, min_area_px)
    coarse = np.round(raw * 2)
    assert region_score(coarse, min_area_px) == _plain(coarse, min_area_px)


@pytest.mark.parametrize("seed", range(5))
def test_a_picture_alarms_exactly_when_its_region_score_is_above_the_threshold(seed: int) -> None:
    raw = _field(seed, 1.0)
    score = region_score(raw, 8)
    for threshold in (score - 1e-3, score, score + 1e-3):
        areas = regions_of(raw > threshold)[1][1:]
        assert bool((areas >= 8).any()) == (score > threshold)


def test_a_region_is_connected_over_corners() -> None:
    raw = np.eye(9, dtype=np.float32) * 5
    assert region_score(raw, 9) == 5.0


def test_a_single_hot_pixel_does_not_decide() -> None:
    raw = np.zeros((9, 9), np.float32)
    raw[4, 4] = 100
    assert region_score(raw, 2) == 0.0


def test_a_map_too_small_for_a_region_has_no_score() -> None:
    assert region_score(np.zeros((1, 3), np.float32), 4) == -np.inf


def test_the_image_score_is_the_mean_of_the_hundred_highest() -> None:
    assert image_score(np.arange(400, dtype=np.float32).reshape(20, 20)) == pytest.approx(349.5)


def _noise(pictures: Sequence[NDArray[np.uint8]]) -> NDArray[np.float32]:
    return np.stack([p[..., 0].astype(np.float32) for p in pictures])


def _pictures(n: int) -> list[NDArray[np.uint8]]:
    return list(np.random.default_rng(0).integers(0, 200, (n, 32, 32, 3), dtype=np.uint8))


def test_calibration_sees_every_held_out_picture_once() -> None:
    pictures = _pictures(19)
    calibration = calibrate(_noise, pictures, input_px=32, min_area_px=3)
    expected = sorted(region_score(m, 3) for m in _noise(pictures))
    assert calibration.scores == pytest.approx(expected)
    assert (calibration.pictures, calibration.input_px, calibration.min_area_px) == (19, 32, 3)


def test_maps_come_in_the_order_of_the_pictures_whatever_the_batch() -> None:
    pictures = _pictures(7)
    for batch in (1, 3, 7, 100):
        assert np.array_equal(np.stack(list(maps_of(_noise, pictures, batch))), _noise(pictures))


def test_a_network_that_loses_a_map_is_caught() -> None:
    with pytest.raises(TrainerError, match="7 pictures with 6 maps"):
        list(maps_of(lambda p: _noise(p)[1:], _pictures(7)))


def test_a_network_that_answers_nan_is_caught() -> None:
    with pytest.raises(TrainerError, match="finite"):
        list(maps_of(lambda p: _noise(p) * np.float32(np.nan), _pictures(2)))


def test_no_held_out_picture_is_a_clear_sentence() -> None:
    with pytest.raises(CalibrationError, match="held-out good pictures"):
        calibrate(_noise, [], input_px=32)


def test_what_lies_outside_the_areas_counts_as_nothing() -> None:
    raw = np.zeros((2, 8, 8), np.float32)
    raw[:, :4] = 9.0
    raw[1, 4:] = 3.0
    raw[0, 7, 7] = -2.0
    lower = within(lambda _: raw, Areas(masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 0.5), (0.0, 0.5)),)))([])
    assert lower[0, :4].max() == -2.0 and np.array_equal(lower[:, 4:], raw[:, 4:])
    assert region_score(lower[1]) == 3.0 and raw[0, 0, 0] == 9.0
    nothing = Areas(masks=(((0.0, 0.0), (1.0, 0.0), (1.0, 1.0), (0.0, 1.0)),))
    with pytest.raises(DataError, match="leaves nothing"):
        within(lambda _: raw, nothing)([])
