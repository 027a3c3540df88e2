"""How long a training still takes, by the steps of its last minute."""

import pytest

from stream.training import Pace


def test_nothing_is_said_before_two_steps_were_seen() -> None:
    pace = Pace()
    assert pace.left_s(1, 100, 10.0) is None
    assert pace.left_s(1, 100, 11.0) is None


def test_the_rest_takes_as_long_as_the_last_steps_did() -> None:
    pace = Pace()
    pace.left_s(10, 100, 0.0)
    assert pace.left_s(20, 100, 5.0) == pytest.approx(40.0)
    assert pace.left_s(100, 100, 45.0) == 0.0


def test_only_the_last_minute_counts_so_a_machine_that_gets_busy_is_noticed() -> None:
    pace = Pace()
    for step in range(60):
        pace.left_s(step, 1000, float(step))  # one a second
    for second in range(60, 180, 10):
        left_s = pace.left_s(59 + (second - 50) // 10, 1000, float(second))  # then one in ten seconds
    assert left_s is not None and left_s == pytest.approx(10 * (1000 - 71), rel=0.1)
