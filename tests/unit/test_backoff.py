from stream.backoff import FIRST_S, Backoff, delay_s


def test_waits_grow_twofold_up_to_the_cap() -> None:
    assert [delay_s(n, 2.0, chance=1.0) for n in (1, 2, 3, 4, 9)] == [0.25, 0.5, 1.0, 2.0, 2.0]


def test_half_of_a_wait_is_chance() -> None:
    assert delay_s(9, 2.0, chance=0.0) == 1.0


def test_ten_thousand_failures_do_not_overflow() -> None:
    assert delay_s(10_000, 30.0, chance=1.0) == 30.0


def test_a_camera_that_was_live_for_long_starts_from_the_beginning() -> None:
    backoff = Backoff(rng=lambda: 1.0)
    for _ in range(5):
        backoff.failed(live_s=0.0, cap_s=30.0)
    assert backoff.failed(live_s=60.0, cap_s=30.0) == FIRST_S


def test_a_camera_that_breaks_in_a_loop_waits_longer_and_longer() -> None:
    backoff = Backoff(rng=lambda: 1.0)
    assert [backoff.failed(live_s=1.0, cap_s=30.0) for _ in range(3)] == [0.25, 0.5, 1.0]
