import pytest

from stream.thinning import Thinning
from stream.timestamps import PtsClock


def test_jitter_on_the_way_is_taken_out() -> None:
    clock = PtsClock()
    delays = [0.0, 0.08, 0.01, 0.2, 0.0]
    times = [clock.taken_at(n * 0.1, 1000 + n * 0.1 + delay, None) for n, delay in enumerate(delays)]
    assert [at for at, _ in times] == pytest.approx([1000 + n * 0.1 for n in range(5)], abs=0.002)
    assert {name for _, name in times} == {"host"}


def test_the_camera_s_own_time_is_used_where_it_is_believable() -> None:
    clock = PtsClock()
    assert clock.taken_at(0.0, 1000.0, 999.9) == (999.9, "camera")
    assert clock.offset_s == pytest.approx(-0.1)


def test_a_camera_that_lives_in_1970_is_not_believed_but_measured() -> None:
    clock = PtsClock()
    assert clock.taken_at(0.0, 1000.0, 3.0) == (1000.0, "host")
    assert clock.offset_s == pytest.approx(-997.0)


def test_a_jump_of_the_presentation_time_starts_anew() -> None:
    clock = PtsClock()
    clock.taken_at(5000.0, 1000.0, None)
    assert clock.taken_at(0.0, 1000.1, None)[0] == pytest.approx(1000.1)


def test_a_picture_is_never_taken_after_it_arrived() -> None:
    clock = PtsClock()
    for n in range(100):
        assert clock.taken_at(n * 0.11, 1000 + n * 0.1, None)[0] <= 1000 + n * 0.1 + 1e-9


def test_without_presentation_times_the_arrival_counts() -> None:
    assert PtsClock().taken_at(None, 1000.0, None) == (1000.0, "host")


def test_a_picture_without_the_camera_s_word_is_dated_by_the_same_clock_as_its_neighbours() -> None:
    clock = PtsClock()
    clock.taken_at(0.0, 1000.2, 1000.0)
    assert clock.taken_at(0.2, 1000.4, None) == (pytest.approx(1000.2), "camera")
    assert clock.taken_at(0.4, 1000.6, 1000.4) == (1000.4, "camera")


def test_after_a_jump_of_the_presentation_time_the_camera_s_old_word_counts_no_more() -> None:
    clock = PtsClock()
    clock.taken_at(5000.0, 1000.2, 1000.0)
    assert clock.taken_at(0.0, 1000.4, None)[1] == "host"


@pytest.mark.parametrize("step_s", [30.0, -30.0, 86_400.0])
def test_after_the_host_s_clock_was_set_pictures_have_the_new_time_at_once(step_s: float) -> None:
    clock, delays = PtsClock(), [0.0, 0.08, 0.01]
    for n, delay in enumerate(delays):
        clock.taken_at(n * 0.1, 1000 + n * 0.1 + delay, None, 50 + n * 0.1 + delay)
    times = [
        clock.taken_at(0.3 + n * 0.1, 1000.3 + step_s + n * 0.1 + delay, None, 50.3 + n * 0.1 + delay)[0]
        for n, delay in enumerate(delays)
    ]
    assert times == pytest.approx([1000.3 + step_s + n * 0.1 for n in range(3)], abs=0.002)


def test_a_right_camera_is_believed_again_as_soon_as_the_host_s_clock_is_right() -> None:
    clock = PtsClock()
    assert clock.taken_at(0.0, 1000.0, 9000.0, 50.0)[1] == "host"
    assert clock.taken_at(0.1, 9000.15, 9000.1, 50.15) == (9000.1, "camera")
    assert clock.offset_s == pytest.approx(0.0, abs=0.2)


def test_a_camera_s_clock_that_is_ahead_of_ours_is_not_believed() -> None:
    """By such times a trigger would be answered with the picture of an earlier part."""
    clock = PtsClock()
    # Ahead by 0.3 s and 0.1 s on the way, one of them 0.4 s; then it is set right.
    told = [
        clock.taken_at(n * 0.1, 1000 + n * 0.1 + way, 1000 + n * 0.1 + ahead)[1]
        for n, (way, ahead) in enumerate([(0.1, 0.3), (0.4, 0.3), (0.1, 0.3), (0.1, 0.0), (0.1, 0.12)])
    ]
    assert told == ["host", "host", "host", "camera", "camera"]


@pytest.mark.parametrize(("speed", "within_s"), [(0.0, 0.0), (0.5, 5.0)])
def test_presentation_times_that_stand_still_or_run_slow_leave_no_picture_behind(
    speed: float, within_s: float
) -> None:
    clock, thinning, due = PtsClock(), Thinning(10.0), 0
    for n in range(25 * 60):
        at, _ = clock.taken_at(speed * n * 0.04, 1000 + n * 0.04, None)
        assert 1000 + n * 0.04 - at <= within_s + 0.1
        due += thinning.due(at)
    assert due > 0.4 * 600
