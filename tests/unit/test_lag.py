"""A group that falls behind is told once, before the stream's end overtakes it."""

from stream.consumer import GroupLag
from stream.lag import LagWatch


def behind(watch: LagWatch, lag: int | None, pending: int = 0) -> list[str]:
    return [g.group for g in watch.newly_behind([GroupLag("mes", lag, pending)])]


def test_a_group_is_warned_about_at_half_of_the_stream_and_once() -> None:
    watch = LagWatch(maxlen=100)
    assert [behind(watch, lag) for lag in (49, 50, 80)] == [[], ["mes"], []]


def test_it_is_warned_about_again_after_it_had_caught_up() -> None:
    watch = LagWatch(maxlen=100)
    assert [behind(watch, lag) for lag in (60, 30, 60, 10, 60)] == [["mes"], [], [], [], ["mes"]]


def test_what_was_read_and_not_acknowledged_counts() -> None:
    assert behind(LagWatch(maxlen=100), None, pending=70) == ["mes"]
