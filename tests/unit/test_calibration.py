"""The alarm level: above good, below absurd, and honest about what few pictures can show."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.calibration import Calibration, CalibrationError, effective_looks

_RATE = {"false_alarms_per_hour": 1.0, "fps": 10.0, "on_frames": 2}


def _normal(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(3.0, 0.5, n)


def _fit(scores: object, **more: int) -> Calibration:
    return Calibration.fit(scores, scores, **more)  # type: ignore[arg-type]


@pytest.mark.parametrize("n", [3, 5, 10, 20, 50, 400, 5000])
@pytest.mark.parametrize("seed", range(5))
def test_the_level_is_above_every_good_score_and_not_absurdly_high(n: int, seed: int) -> None:
    scores = _normal(n, seed)
    level = _fit(scores).threshold(**_RATE)
    assert level > scores.max()
    assert level < 3.0 + 12 * 0.5


def test_a_tail_that_is_exponential_is_met_within_a_fifth_of_its_scale_per_decade() -> None:
    scores = np.random.default_rng(1).exponential(1.0, 4000)
    calibration = _fit(scores)
    assert calibration.tail.score_at(1e-4) == pytest.approx(math.log(1e4), rel=0.2)


def test_one_stray_picture_moves_the_level_to_itself_and_not_far_beyond() -> None:
    scores = np.append(_normal(19), 30.0)
    assert 30.0 < _fit(scores).threshold(**_RATE) < 35.0


def test_equal_scores_still_leave_a_gap_between_good_and_alarm() -> None:
    calibration = _fit([2.0] * 12)
    assert calibration.threshold(**_RATE) > 2.0
    assert math.isfinite(calibration.score_ratio(2.5, calibration.threshold(**_RATE)))


def test_negative_raw_scores_are_as_good_as_positive_ones() -> None:
    scores = _normal(30)
    up, down = _fit(scores), _fit(scores - 20.0)
    assert down.threshold(**_RATE) == pytest.approx(up.threshold(**_RATE) - 20.0, abs=0.05)


@settings(max_examples=60, derandomize=True, deadline=None)
@given(
    st.lists(st.floats(-50, 50), min_size=2, max_size=60),
    st.floats(0.01, 100),
    st.floats(0.1, 60),
    st.integers(1, 8),
)
def test_asking_for_fewer_false_alarms_never_lowers_the_level(
    scores: list[float], rate: float, fps: float, on_frames: int
) -> None:
    calibration = _fit(scores)
    strict = calibration.threshold(rate / 2, fps, on_frames)
    assert strict >= calibration.threshold(rate, fps, on_frames) > calibration.median
    assert calibration.threshold(rate, 2 * fps, on_frames) >= calibration.threshold(rate, fps, on_frames)
    assert calibration.threshold(rate, fps, on_frames + 1) <= calibration.threshold(rate, fps, on_frames)


def test_the_expected_rate_comes_back_from_the_level() -> None:
    calibration = _fit(np.random.default_rng(2).exponential(1.0, 300))
    level = calibration.threshold(1.0, 10.0, 1)
    assert calibration.false_alarms_per_hour(level, 10.0, 1) == pytest.approx(1.0, rel=1e-6)


def test_further_frames_count_half_and_never_more_than_two_looks() -> None:
    assert [effective_looks(n) for n in (1, 2, 3, 8)] == [1.0, 1.5, 2.0, 2.0]


def test_the_level_keeps_its_promise_on_fresh_pictures_of_the_same_kind() -> None:
    rng = np.random.default_rng(3)
    over = [
        (rng.normal(3, 0.5, 4000) > _fit(rng.normal(3, 0.5, 20)).threshold(**_RATE)).mean() for _ in range(50)
    ]
    assert np.mean(over) < 2e-3


def test_few_pictures_are_said_to_be_few_and_many_are_not() -> None:
    few = _fit(_normal(12)).confidence_text(**_RATE)
    assert "12 held-out good pictures" in few and "extrapolation" in few
    assert "extrapolation" not in _fit(_normal(5000)).confidence_text(**_RATE)


def test_zero_above_the_highest_in_n_is_the_rule_of_three() -> None:
    assert _fit(_normal(100)).bound_per_frame() == pytest.approx(3 / 100, rel=0.02)


def test_live_good_scores_tighten_the_confidence() -> None:
    calibration = _fit(_normal(12))
    assert calibration.with_more(list(_normal(500, 1))).bound_per_frame() < calibration.bound_per_frame() / 20


def test_adding_scores_in_portions_ends_where_adding_them_at_once_does() -> None:
    scores = _normal(6000)
    whole, grown = _fit(scores), _fit(scores[:100])
    for start in range(100, 6000, 100):
        grown = grown.with_more(list(scores[start : start + 100]))
    assert grown.pictures == whole.pictures == 6000
    assert grown.threshold(**_RATE) == pytest.approx(whole.threshold(**_RATE), rel=0.1)


@pytest.mark.parametrize("before", [1000, 1001, 1500, 1999, 3000])
def test_old_and_new_scores_count_alike(before: int) -> None:
    grown = _fit(_normal(before)).with_more([score + 2.0 for score in _normal(before, 1)])
    whole = _fit([*_normal(before), *(score + 2.0 for score in _normal(before, 1))])
    assert grown.median == pytest.approx(whole.median, abs=0.02)
    assert grown.threshold(**_RATE) == pytest.approx(whole.threshold(**_RATE), rel=0.01)


def test_of_a_few_new_scores_the_highest_always_counts() -> None:
    assert _fit(_normal(3000)).with_more([0.0, 9.0]).highest == 9.0
    assert _fit(_normal(3000)).with_more([]).highest == _fit(_normal(3000)).highest


def test_a_calibration_survives_its_manifest() -> None:
    calibration = _fit(_normal(37), min_area_px=9, input_px=320)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


def test_a_thousand_scores_are_kept_and_the_highest_is_one_of_them() -> None:
    calibration = _fit(_normal(3000))
    assert len(calibration.scores) == 1000 and calibration.scores[-1] == calibration.highest


@pytest.mark.parametrize("scores", [[], [1.0], [1.0, math.nan], [1.0, -math.inf]])
def test_scores_that_can_not_carry_a_level_are_refused_in_words(scores: list[float]) -> None:
    with pytest.raises(CalibrationError, match="good picture"):
        _fit(scores)


@pytest.mark.parametrize(
    "damage",
    [
        {"median": "many"},
        {"tail": {}},
        {"median": math.nan},
        {"pictures": 0},
        {"median": 1e9},
        {"scores": None},
        {"scores": []},
        {"scores": [1.0, math.nan]},
        {"median": 10**400},
        {"image_median": 1e300},
        {"pictures": 10**400},
        {"min_area_px": 0},
    ],
)
def test_a_damaged_manifest_is_refused_in_words(damage: dict[str, object]) -> None:
    with pytest.raises(CalibrationError, match="manifest"):
        Calibration.from_json({**_fit(_normal(20)).to_json(), **damage})


@pytest.mark.parametrize(
    "damage",
    [
        {"shape": 1e4},
        {"shape": -1e4},
        {"scale": 1e308},
        {"scale": 1e9},
        {"scale": 0.0},
        {"level": 1e9},
        {"count": 0},
        {"count": 10**400},
    ],
)
def test_a_tail_that_no_fit_gives_is_refused_before_it_can_silence_a_camera(
    damage: dict[str, float],
) -> None:
    good = _fit(_normal(20)).to_json()
    with pytest.raises(CalibrationError, match="manifest"):
        Calibration.from_json({**good, "tail": {**good["tail"], **damage}})


@pytest.mark.parametrize("scores", [[2.0] * 12, [0.0, 0.0], [-50.0, 50.0], [1e-9, 2e-9], [3.0] * 19 + [3e4]])
def test_whatever_was_fitted_is_read_again(scores: list[float]) -> None:
    calibration = _fit(scores)
    assert Calibration.from_json(json.loads(json.dumps(calibration.to_json()))) == calibration


@pytest.mark.parametrize("wrong", [(0.0, 1.0, 1), (1.0, 0.0, 1), (1.0, 1.0, 0)])
def test_a_rate_that_can_not_be_is_a_mistake_of_the_caller(wrong: tuple[float, float, int]) -> None:
    with pytest.raises(ValueError, match="must be above 0"):
        _fit(_normal(20)).threshold(*wrong)
