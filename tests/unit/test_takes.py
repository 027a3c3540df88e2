"""Takes of one part are told from pictures of different parts."""

import numpy as np

from trainer.takes import copies, parts, takes

RNG = np.random.default_rng(0)


def scene(part: int, light: float = 1.0) -> np.ndarray:
    """A part of its own grain on a belt that all share, with the sensor's noise; (96, 128, 3) uint8."""
    own = np.random.default_rng(part).normal(120, 25, (24, 32, 1)).repeat(4, 0).repeat(4, 1)
    return np.clip((own + RNG.normal(0, 3, (96, 128, 3))) * light, 0, 255).astype(np.uint8)


def test_a_part_that_stands_still_is_one_take_in_any_light() -> None:
    shown = [0, 0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 7]
    lights = np.linspace(0.95, 1.05, len(shown))
    found = takes([scene(part, light) for part, light in zip(shown, lights, strict=True)])
    assert found.tolist() == shown


def test_a_picture_a_part_is_a_take_each() -> None:
    assert takes([scene(part) for part in range(20)]).tolist() == list(range(20))


def test_a_scene_that_never_changes_is_no_single_take() -> None:
    assert len(set(takes([scene(0) for _ in range(20)]))) > 15


def test_none_and_one_picture() -> None:
    assert takes([]).tolist() == [] and takes([scene(0)]).tolist() == [0]


def test_copies_are_found_wherever_they_stand() -> None:
    shown = [scene(0), scene(1), scene(0), scene(2), scene(1)]
    assert copies(shown).tolist() == [0, 1, 0, 3, 1]
    assert copies([]).tolist() == []


def test_a_scene_that_never_changes_is_one_part_and_copies_join_the_takes_around_them() -> None:
    assert set(parts([scene(0) for _ in range(20)])) == {0}
    assert parts([scene(part) for part in (0, 0, 1, 2, 2, 0, 3)]).tolist() == [0, 0, 1, 2, 2, 0, 3]
    assert parts([scene(part) for part in range(20)]).tolist() == list(range(20))
