"""A picture that looks unlike all others is told apart; pictures that vouch for each other are not."""

from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from engine.model.teacher import Teacher, build_teacher
from trainer.dataset import GoodPictures
from trainer.odd import odd_pictures, stand_out
from trainer.recipe import Wish, make_model

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def teacher() -> Teacher:
    return build_teacher("efficientnet_lite0")


def disc(index: int) -> NDArray[np.uint8]:
    """A bright disc on a dark belt, a little elsewhere each time."""
    rng = np.random.default_rng(index)
    y, x = np.mgrid[:96, :96]
    cy, cx = rng.integers(44, 52, 2)
    inside = (y - cy) ** 2 + (x - cx) ** 2 < 30**2
    return (np.where(inside[:, :, None], (200, 170, 90), 40) + rng.integers(0, 12, (96, 96, 3))).astype(
        np.uint8
    )


def weave(index: int) -> NDArray[np.uint8]:
    """Something else altogether: crossing stripes."""
    y, x = np.mgrid[:96, :96]
    wave = 128 + 60 * np.sin((x + index) / 2.5) + 60 * np.sin(y / 4)
    return np.repeat(np.clip(wave, 0, 255)[:, :, None], 3, axis=2).astype(np.uint8)


def test_one_picture_of_something_else_is_odd(teacher: Teacher) -> None:
    pictures = np.stack([*(disc(i) for i in range(12)), weave(0), *(disc(i) for i in range(12, 20))])
    assert np.flatnonzero(odd_pictures(pictures, teacher, CPU)).tolist() == [12]


def test_several_of_another_kind_vouch_for_each_other(teacher: Teacher) -> None:
    pictures = np.stack([*(disc(i) for i in range(16)), *(weave(i) for i in range(4))])
    assert not odd_pictures(pictures, teacher, CPU).any()


def test_at_most_a_tenth_is_odd_and_ten_pictures_are_always_left() -> None:
    far = np.array([0.1] * 20 + [0.5, 0.6, 0.7])
    assert np.flatnonzero(stand_out(far)).tolist() == [21, 22]
    assert not stand_out(np.array([0.1] * 9 + [0.9])).any()


def test_small_differences_among_very_equal_pictures_are_not_odd() -> None:
    assert not stand_out(np.array([0.010] * 20 + [0.03])).any()


def test_training_learns_from_it_but_lets_it_set_no_alarm_level_and_names_it(tmp_path: Path) -> None:
    for index in range(14):
        cv2.imwrite(str(tmp_path / f"{index}.png"), weave(0) if index == 2 else disc(index))
    told: list[str] = []
    wish = Wish("top", tmp_path, steps=2, input_px=64, device="cpu", foreground="off")
    made = make_model(wish, lambda *_: None, told.append)
    assert made.trained_on["odd"] == ["2.png"]
    assert "2.png" in made.trained_on["training"]
    assert any("Unlike all other pictures: 2.png" in sentence for sentence in told)


def test_an_odd_picture_is_never_held_out() -> None:
    good = GoodPictures(np.zeros((24, 4, 4, 3), np.uint8), tuple(str(i) for i in range(24)), ())
    held_out_else = good.split()[1].names[0]
    odd = np.array([name == held_out_else for name in good.names])
    training, held_out = good.split(odd)
    assert held_out_else in training.names
    assert len(training) + len(held_out) == 24
