import pytest

from stream.arrivals import Arrivals


def arrived(*times: float) -> Arrivals:
    arrivals = Arrivals()
    for at in times:
        arrivals.note(at)
    return arrivals


def test_the_rate_is_that_of_the_last_seconds() -> None:
    assert arrived(*(n / 10 for n in range(200))).fps(20.0) == pytest.approx(10.0)
    assert arrived().fps(0.0) == arrived(1.0).fps(1.0) == arrived(1.0, 1.0).fps(1.0) == 0.0


def test_a_camera_whose_pictures_come_further_apart_has_a_rate_too() -> None:
    slow = arrived(0.0, 10.0, 20.0)
    assert slow.fps(20.0) == slow.fps(29.0) == pytest.approx(0.1)


def test_a_camera_that_fell_silent_is_ever_slower() -> None:
    assert arrived(*(n / 10 for n in range(200))).fps(119.9) == pytest.approx(0.01)
