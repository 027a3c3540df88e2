import pytest

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
