"""A camera whose scores move away from its calibration is told before it alarms."""

from dataclasses import replace

import numpy as np
import pytest

from engine.core import Inspection
from stream.drift import EVERY_S, LEAST, WINDOW, Drift
from tests.webline import MODEL, inspection

# MODEL: median of good 0.1, alarm level 2.0.
CALIBRATED = 0.3


def scored(score: float, camera: str = "top", sha256: str = MODEL.sha256) -> Inspection:
    return replace(inspection(camera), score=score, model=replace(MODEL, sha256=sha256))


def fed(drift: Drift, scores: list[float], start: float = 0.0) -> Drift:
    for n, score in enumerate(scores):
        drift.add(scored(score), start + n * EVERY_S)
    return drift


def test_scores_as_calibrated_are_no_drift_and_a_whole_alarm_distance_is_one() -> None:
    assert fed(Drift(lambda _: CALIBRATED), [CALIBRATED] * LEAST).values() == {"top": pytest.approx(0.0)}
    far = CALIBRATED + MODEL.threshold - MODEL.median
    assert fed(Drift(lambda _: CALIBRATED), [far] * LEAST).values()["top"] == pytest.approx(1.0, abs=1e-6)


def test_nothing_is_told_from_a_few_pictures() -> None:
    assert fed(Drift(lambda _: CALIBRATED), [9.0] * (LEAST - 1)).values() == {}


def test_a_few_defects_among_good_pictures_are_no_drift() -> None:
    rng = np.random.default_rng(0)
    scores = [20.0 if n % 10 == 0 else float(rng.normal(CALIBRATED, 0.01)) for n in range(LEAST * 2)]
    assert abs(fed(Drift(lambda _: CALIBRATED), scores).values()["top"]) < 0.05


def test_pictures_of_one_second_count_once_and_old_ones_are_forgotten() -> None:
    drift = Drift(lambda _: CALIBRATED)
    for n in range(LEAST * 3):
        drift.add(scored(9.0), n / 10)
    assert drift.values() == {}
    fed(drift, [CALIBRATED] * WINDOW, start=1000.0)
    assert drift.values() == {"top": pytest.approx(0.0)}


def test_the_same_weights_calibrated_anew_are_set_against_their_own_good_pictures() -> None:
    middles = [CALIBRATED]
    drift = fed(Drift(lambda _: middles[-1]), [CALIBRATED] * LEAST)
    middles.append(0.9)
    for n in range(LEAST):
        again = replace(scored(0.9), model=replace(MODEL, version=MODEL.version + 1))
        drift.add(again, 1e6 + n * EVERY_S)
    assert drift.values() == {"top": pytest.approx(0.0)}


def test_another_model_begins_anew_and_another_alarm_level_does_not() -> None:
    drift = fed(Drift(lambda _: CALIBRATED), [2.2] * LEAST)
    assert drift.values() == {"top": pytest.approx(1.0)}
    higher = replace(scored(2.2), model=replace(MODEL, threshold=3.9))
    drift.add(higher, 1e6)
    assert drift.values() == {"top": pytest.approx(0.5)}
    drift.add(scored(2.2, sha256="cd" * 32), 1e6 + 1)
    assert drift.values() == {}


def test_where_only_an_area_is_inspected_its_own_first_scores_are_what_counts() -> None:
    drift, seen = Drift(lambda _: CALIBRATED), 0
    span = MODEL.threshold - MODEL.median

    def feed(score: float, count: int, area: object) -> None:
        nonlocal seen
        for _ in range(count):
            drift.add(scored(score), seen * EVERY_S, area)
            seen += 1

    feed(CALIBRATED - 0.3 * span, LEAST, "left half")
    assert drift.values() == {"top": pytest.approx(0.0)}
    feed(CALIBRATED + 0.3 * span, WINDOW, "left half")
    assert drift.values() == {"top": pytest.approx(0.6, abs=1e-6)}
    feed(CALIBRATED, LEAST - 1, "right half")
    assert drift.values() == {}
    feed(CALIBRATED, 1, "right half")
    assert drift.values() == {"top": pytest.approx(0.0)}


def test_a_camera_without_a_model_or_that_is_gone_has_none() -> None:
    assert fed(Drift(lambda _: None), [1.0] * LEAST).values() == {}
    drift = fed(Drift(lambda _: CALIBRATED), [1.0] * LEAST)
    drift.forget("top")
    assert drift.values() == {}
