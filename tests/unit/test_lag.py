"""A group that falls behind is told once, before the stream's end overtakes it."""

from stream.lag import GroupLag, LagWatch

NOW_S = 1_000_000.0


def behind(watch: LagWatch, lag: int | None, pending: int = 0, oldest_s: float | None = None) -> list[str]:
    oldest_ms = None if oldest_s is None else int((NOW_S - oldest_s) * 1000)
    return [g.group for g in watch.newly_behind([GroupLag("mes", lag, pending, oldest_ms)], NOW_S)]


def test_a_group_is_warned_about_at_half_of_the_stream_and_once() -> None:
    watch = LagWatch(maxlen=100)
    assert [behind(watch, lag) for lag in (49, 50, 80)] == [[], ["mes"], []]


def test_it_is_warned_about_again_after_it_had_caught_up() -> None:
    watch = LagWatch(maxlen=100)
    assert [behind(watch, lag) for lag in (60, 30, 60, 10, 60)] == [["mes"], [], [], [], ["mes"]]


def test_what_was_read_and_not_acknowledged_counts() -> None:
    assert behind(LagWatch(maxlen=100), None, pending=70) == ["mes"]


def test_where_old_entries_go_too_a_group_is_warned_about_at_half_of_their_age() -> None:
    watch = LagWatch(maxlen=100, max_age_s=60.0)
    assert [behind(watch, 1, oldest_s=s) for s in (29.0, 31.0, 50.0, 1.0, 31.0)] == [
        [],
        ["mes"],
        [],
        [],
        ["mes"],
    ]
    assert behind(LagWatch(maxlen=100, max_age_s=60.0), 0) == []
