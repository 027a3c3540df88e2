"""The score curve and what another alarm level would have cost."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Frame, Inspection
from stream.web.scores import Scores, cost, curve
from stream.web.tuning import raw_threshold
from tests.webline import MODEL, inspection

AGAIN = settings(derandomize=True, max_examples=40, deadline=None)
NOW = 1_000_000.0


def seen(at: float, ratio: float, *, threshold: float = 2.0, sha256: str = MODEL.sha256) -> Inspection:
    made = inspection(box=(8, 8, 24, 24) if ratio >= 1 else None, level=ratio)
    frame = Frame("top", 1, at, 0.0, made.frame.pixels)
    return replace(
        made, frame=frame, score_ratio=ratio, model=replace(MODEL, threshold=threshold, sha256=sha256)
    )


def scores_of(*ratios: float) -> Scores:
    """One a second, the last one second ago."""
    scores = Scores(100)
    for i, ratio in enumerate(ratios):
        scores.add(seen(NOW - len(ratios) + i, ratio))
    return scores


@AGAIN
@given(st.lists(st.floats(0, 3, width=32), min_size=1, max_size=99))
def test_the_curve_shows_the_highest_score_there_was(ratios: list[float]) -> None:
    drawn = curve(scores_of(*ratios), NOW, 300.0, 30)
    assert len(drawn.at) <= 31
    shown = [min(ratio, 0.999) if ratio < 1 else ratio for ratio in ratios]
    assert drawn.highest.max() == pytest.approx(max(shown), abs=1e-5)
    assert (np.diff(drawn.at) > 0).all()


def test_a_camera_without_pictures_has_an_empty_curve_and_no_cost() -> None:
    assert len(curve(Scores(), NOW, 60.0).at) == 0
    assert cost(Scores(), NOW, 1.0, on_frames=1, off_frames=1).pictures == 0


def test_the_ring_keeps_the_newest() -> None:
    scores = Scores(3)
    for i in range(5):
        scores.add(seen(NOW + i, 0.1 * i))
    at, ratio, _ = scores.since(0.0)
    assert at.tolist() == [NOW + 2, NOW + 3, NOW + 4]
    assert ratio == pytest.approx([0.2, 0.3, 0.4], abs=1e-6)


def test_a_run_of_bad_pictures_is_one_alarm_and_hysteresis_counts() -> None:
    scores = scores_of(0.1, 1.5, 1.5, 1.5, 0.1, 1.5, 1.5, 0.1, 0.1, 0.1, 1.5, 0.1)
    assert cost(scores, NOW, 1.0, on_frames=1, off_frames=1).alarms == 3
    assert cost(scores, NOW, 1.0, on_frames=2, off_frames=1).alarms == 2
    assert cost(scores, NOW, 1.0, on_frames=1, off_frames=3).alarms == 2
    assert cost(scores, NOW, 1.0, on_frames=1, off_frames=1).above == 6


@AGAIN
@given(st.lists(st.floats(0, 3, width=32), min_size=2, max_size=60), st.floats(0.1, 2.5), st.floats(0.0, 1.0))
def test_a_higher_level_never_has_more_pictures_above_it(
    ratios: list[float], level: float, more: float
) -> None:
    scores = scores_of(*ratios)
    low = cost(scores, NOW, level, on_frames=2, off_frames=3)
    high = cost(scores, NOW, level + more, on_frames=2, off_frames=3)
    assert high.above <= low.above


def test_a_single_high_pixel_is_no_alarm_at_the_present_level() -> None:
    scores = Scores()
    scores.add(replace(seen(NOW - 1, 0.5), score_ratio=5.0))
    assert cost(scores, NOW, 1.0, on_frames=1, off_frames=1).above == 0


def test_after_the_level_was_moved_the_past_is_shown_against_the_new_one() -> None:
    scores = Scores()
    scores.add(seen(NOW - 2, 1.5))
    scores.add(seen(NOW - 1, 0.5, threshold=raw_threshold(MODEL, 1.5)))
    _, ratio, ng = scores.since(0.0)
    assert ratio == pytest.approx([1.0, 0.5], abs=1e-6)
    assert ng.tolist() == [True, False]


def test_another_model_begins_anew() -> None:
    scores = scores_of(0.5, 0.6)
    scores.add(seen(NOW, 0.7, sha256="cd" * 32))
    assert len(scores.since(0.0)[0]) == 1


def test_scores_of_a_clock_that_was_ahead_count_neither_as_pictures_nor_as_hours() -> None:
    scores = Scores(100)
    for at in (NOW + 5000.0, NOW + 5001.0, NOW - 720.0, NOW):
        scores.add(seen(at, 1.5))
    found = cost(scores, NOW, 1.0, on_frames=1, off_frames=1)
    assert (found.pictures, found.above, found.hours) == (2, 2, pytest.approx(0.2))
