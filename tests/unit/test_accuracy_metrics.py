"""Metrics against hand-computed cases, scikit-learn, and slow plain definitions written here."""

import math
import time

import numpy as np
import pytest
from numpy.typing import NDArray
from scipy import ndimage
from sklearn.metrics import average_precision_score, roc_auc_score

from trainer.errors import DataError
from trainer.metrics import (
    Found,
    Pair,
    Pixels,
    aupimo,
    average_precision,
    defects_at,
    image_auroc,
    pixel_auroc,
    pooled_metrics,
    pro,
    pro_per_image,
    share,
)


def _mask(*boxes: tuple[int, int, int, int], size: int = 16) -> NDArray[np.bool_]:
    mask = np.zeros((size, size), bool)
    for x0, y0, x1, y1 in boxes:
        mask[y0:y1, x0:x1] = True
    return mask


def _map(mask: NDArray[np.bool_], inside: float, outside: float) -> NDArray[np.float32]:
    return np.where(mask, inside, outside).astype(np.float32)


def _random_pairs(seed: int, levels: int | None = None, n: int = 6, size: int = 24) -> list[Pair]:
    rng = np.random.default_rng(seed)
    pairs = []
    for i in range(n):
        mask = (
            _mask((2, 2, 6, 6), (15, 10, 16, 11), (8, 18, 20, 20), size=size) if i % 2 else _mask(size=size)
        )
        raw = rng.normal(0, 1, mask.shape) + 1.5 * mask
        raw = np.round(raw * levels) / levels if levels else raw
        pairs.append((raw.astype(np.float32), mask))
    return pairs


def _plain_pro(pairs: list[Pair], limit: float = 0.3) -> float:
    """One threshold per distinct score, regions by scipy, nothing clever."""
    maps, masks = np.stack([p[0] for p in pairs]), np.stack([p[1] for p in pairs])
    regions = []
    for i, mask in enumerate(masks):
        labels, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [(i, labels == k) for k in range(1, count + 1)]
    x, y = [0.0], [0.0]
    for t in np.unique(maps)[::-1]:
        x.append(float((maps[~masks] >= t).mean()))
        y.append(float(np.mean([(maps[i][region] >= t).mean() for i, region in regions])))
    area = 0.0
    for x0, x1, y0, y1 in zip([*x], [*x[1:], 1.0], [*y], [*y[1:], 1.0], strict=True):
        if x0 < limit and x1 > x0:
            end = min(x1, limit)
            y_end = y0 + (y1 - y0) * (end - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


_TRUTH = _mask((3, 3, 7, 8))
_PERFECT = [(_map(_TRUTH, 1, 0), _TRUTH), (_map(_mask(), 0, 0), _mask())]
_CONSTANT = [(_map(_TRUTH, 1, 1), _TRUTH)]
_INVERTED = [(_map(_TRUTH, 0, 1), _TRUTH)]


@pytest.mark.parametrize(("pairs", "expected"), [(_PERFECT, 1.0), (_CONSTANT, 0.15), (_INVERTED, 0.0)])
def test_pro_of_perfect_constant_and_inverted_maps(pairs: list[Pair], expected: float) -> None:
    assert pro(Pixels.of(pairs)) == pytest.approx(expected, abs=1e-12)
    assert pro_per_image(pairs) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize(("pairs", "expected"), [(_PERFECT, 1.0), (_CONSTANT, 0.5), (_INVERTED, 0.0)])
def test_pixel_auroc_of_perfect_constant_and_inverted_maps(pairs: list[Pair], expected: float) -> None:
    assert pixel_auroc(Pixels.of(pairs)) == pytest.approx(expected, abs=1e-12)


def test_ap_of_a_constant_map_is_the_share_of_defect_pixels() -> None:
    assert average_precision(Pixels.of(_CONSTANT)) == pytest.approx(20 / 256)


def test_a_found_pixel_weighs_as_much_as_a_found_region() -> None:
    truth = _mask((0, 0, 1, 1), (5, 5, 15, 15))
    found = _mask((0, 0, 1, 1))
    # One region of two at no false positive, then all else in one tie: from (0, 0.5) to (1, 1).
    assert pro(Pixels.of([(_map(found, 1, 0), truth)])) == pytest.approx((0.5 + 0.65) / 2)


def test_two_regions_found_one_after_the_other_by_hand() -> None:
    truth = _mask((0, 0, 2, 2), (8, 8, 10, 12))
    raw = _map(truth, 0, 0)
    raw[0:2, 0:2], raw[8:12, 8:10], raw[15, :] = 3, 1, 2
    # 16 of 244 background pixels come between the two regions; after them both are found.
    between = 16 / 244
    assert pro(Pixels.of([(raw, truth)])) == pytest.approx((0.5 * between + (0.3 - between)) / 0.3)


def test_regions_that_touch_at_a_corner_are_one() -> None:
    assert Pixels.of([(_map(_TRUTH, 1, 0), _mask((0, 0, 2, 2), (2, 2, 4, 4)))]).regions == 1


def test_pixels_of_one_region_are_never_false_positives_of_another() -> None:
    truth = _mask((0, 0, 2, 2), (8, 8, 16, 16))
    raw = _map(truth, 2, 0)
    raw[0:2, 0:2] = 1
    assert pro(Pixels.of([(raw, truth)])) == pytest.approx(1.0)


@pytest.mark.parametrize("levels", [None, 4, 1])
@pytest.mark.parametrize("seed", range(3))
def test_pooled_metrics_agree_with_plain_and_independent_code(seed: int, levels: int | None) -> None:
    pairs = _random_pairs(seed, levels)
    pixels = Pixels.of(pairs)
    labels = np.concatenate([m.ravel() for _, m in pairs])
    scores = np.concatenate([r.ravel() for r, _ in pairs])
    assert pixel_auroc(pixels) == pytest.approx(roc_auc_score(labels, scores), abs=1e-9)
    assert average_precision(pixels) == pytest.approx(average_precision_score(labels, scores), abs=1e-9)
    assert pro(pixels) == pytest.approx(_plain_pro(pairs), abs=1e-9)


def test_pro_of_random_maps_is_near_the_diagonal() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.random((64, 64), np.float32), _mask((3, 3, 40, 40), size=64)) for _ in range(20)]
    assert pro(Pixels.of(pairs)) == pytest.approx(0.15, abs=0.01)


def test_per_image_pro_forgives_an_offset_that_the_pooled_one_does_not() -> None:
    pairs = [(_map(_TRUTH, 1 + 10 * i, 10 * i), _TRUTH) for i in range(4)]
    assert pro_per_image(pairs) == pytest.approx(1.0)
    assert pro(Pixels.of(pairs)) < 0.8


@pytest.mark.parametrize("seed", range(3))
def test_image_auroc_agrees_with_scikit_learn_ties_and_all(seed: int) -> None:
    rng = np.random.default_rng(seed)
    good, bad = rng.integers(0, 8, 30).tolist(), rng.integers(3, 11, 20).tolist()
    expected = roc_auc_score([0] * 30 + [1] * 20, good + bad)
    assert image_auroc(good, bad) == pytest.approx(expected, abs=1e-12)


def test_what_a_set_can_not_say_is_none_and_not_a_number() -> None:
    good_only = [(_map(_TRUTH, 1, 0), _mask())]
    assert set(pooled_metrics(Pixels.of(good_only)).values()) == {None}
    assert pro_per_image(good_only) is None and aupimo(good_only * 20) is None
    assert image_auroc([], [1.0]) is None and image_auroc([1.0], []) is None
    assert share([]) is None


def _good(n: int, seed: int = 0, size: int = 64) -> list[Pair]:
    rng = np.random.default_rng(seed)
    return [(rng.random((size, size), np.float32), _mask(size=size)) for _ in range(n)]


def _plain_aupimo(pairs: list[Pair]) -> list[float]:
    """The step curve sampled at 20,000 rates, evenly in the logarithm."""
    normal = np.sort(np.concatenate([r.ravel() for r, m in pairs if not m.any()]))[::-1]
    rates = np.geomspace(1e-5, 1e-4, 20_000)
    levels = normal[np.floor(rates * len(normal)).astype(int)]
    return [float(np.mean([(r[m] > t).mean() for t in levels[::20]])) for r, m in pairs if m.any()]


def test_aupimo_is_one_for_defects_above_all_good_pixels_and_zero_below() -> None:
    truth = _mask((3, 3, 8, 8), size=64)
    values = aupimo([*_good(20), (_map(truth, 2, 0), truth), (_map(truth, 0.5, 0), truth)])
    assert values == pytest.approx([1.0, 0.0])


def test_aupimo_of_constant_maps_is_nothing() -> None:
    truth = _mask((3, 3, 8, 8), size=64)
    values = aupimo([(_map(m, 1, 1), m) for m in [_mask(size=64)] * 20 + [truth]])
    assert values is not None and values[0] < 1e-3


def test_aupimo_agrees_with_a_plain_step_curve() -> None:
    rng = np.random.default_rng(5)
    truth = _mask((3, 3, 30, 30), size=128)
    defective = [((1 - 2e-4 * rng.random((128, 128))).astype(np.float32), truth) for _ in range(3)]
    pairs = [*_good(24, size=128), *defective]
    assert aupimo(pairs) == pytest.approx(_plain_aupimo(pairs), abs=0.03)


def test_aupimo_needs_twenty_good_pictures() -> None:
    truth = _mask((3, 3, 8, 8), size=64)
    assert aupimo([*_good(19), (_map(truth, 2, 0), truth)]) is None


def test_a_defect_is_found_when_a_region_that_is_big_enough_touches_it() -> None:
    truth = _mask((0, 0, 4, 4), (8, 8, 11, 11), (14, 14, 15, 15))
    raw = _map(_mask((2, 2, 5, 5), (8, 8, 9, 9)), 5, 0)
    assert defects_at(raw, truth, 1.0, 4) == [Found(16, True), Found(9, False), Found(1, False)]


def test_exactly_at_the_level_is_no_alarm() -> None:
    assert defects_at(_map(_TRUTH, 5, 0), _TRUTH, 5.0, 1) == [Found(20, False)]


def test_a_map_and_a_mask_of_different_sizes_are_refused() -> None:
    with pytest.raises(DataError, match="one size"):
        Pixels.of([(np.zeros((4, 4), np.float32), np.zeros((5, 4), bool))])


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_map_that_is_not_finite_is_refused(wrong: float) -> None:
    with pytest.raises(DataError, match="finite"):
        Pixels.of([(np.full((4, 4), wrong, np.float32), np.zeros((4, 4), bool))])


def test_forty_pictures_of_256_take_well_under_seconds() -> None:
    rng = np.random.default_rng(0)
    pairs = [(rng.random((256, 256), np.float32), _mask((30, 30, 90, 60), size=256)) for _ in range(40)]
    begin = time.process_time()
    pooled_metrics(Pixels.of(pairs))
    pro_per_image(pairs)
    aupimo(pairs)
    assert time.process_time() - begin < 5.0
