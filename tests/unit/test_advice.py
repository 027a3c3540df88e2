"""What is said of a set of good pictures, and what isn't."""

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from trainer.advice import advise, blurred, near_copies, short, suspects, suspicion


def _parts(n: int, seed: int = 0) -> list[NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    return [rng.integers(0, 255, (64, 64, 3), dtype=np.uint8) for _ in range(n)]


def _names(n: int) -> list[str]:
    return [f"{i:03}.png" for i in range(n)]


def test_nothing_is_said_of_many_sharp_and_different_pictures() -> None:
    assert advise(_names(60), _parts(60)) == []


def test_few_pictures_are_said_to_be_few() -> None:
    assert advise(_names(12), _parts(12)) == [
        "There are only 12 good pictures: 50 or more would give fewer false alarms."
    ]


def test_a_trial_of_a_training_is_called_one() -> None:
    assert short(900) == short(200) == []
    assert short(20) == ["Only 20 steps: good for a trial, too few to trust the alarms. Leave --steps out."]


def test_a_blurred_picture_is_named() -> None:
    pictures = _parts(8)
    pictures[3] = np.asarray(cv2.GaussianBlur(pictures[3], (0, 0), 3), np.uint8)
    assert blurred(_names(8), pictures) == ["003.png"]


def test_copies_with_a_little_noise_are_counted() -> None:
    pictures = _parts(5)
    noise = np.random.default_rng(1).integers(-1, 2, pictures[0].shape)
    copy = np.clip(pictures[0].astype(int) + noise, 0, 255).astype(np.uint8)
    assert near_copies([*pictures, copy, pictures[1]]) == 2


def test_a_set_that_is_one_picture_over_and_over_is_pointed_out() -> None:
    (said,) = (text for text in advise(_names(60), _parts(1) * 60) if "nearly the same" in text)
    assert "`linewatch capture NAME --every SECONDS`" in said


@pytest.mark.parametrize("n", [8, 20, 60])
def test_a_stray_picture_is_suspected_and_ordinary_ones_are_not(n: int) -> None:
    scores = list(np.random.default_rng(n).normal(3, 0.5, n))
    assert suspects(_names(n), scores) == []
    scores[2] = 15.0
    assert suspects(_names(n), scores) == ["002.png"]


def test_two_stray_pictures_do_not_hide_each_other() -> None:
    scores = [*np.random.default_rng(0).normal(3, 0.5, 30), 20.0, 21.0]
    assert suspects(_names(32), scores) == ["031.png", "030.png"]


def test_suspicion_says_what_to_do() -> None:
    assert suspicion([]) == []
    assert "stands out: a.png" in suspicion(["a.png"])[0] and "train again" in suspicion(["a.png"])[0]
