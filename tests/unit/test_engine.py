"""The device thread: what goes in comes out or is counted, and nothing ever stalls in silence."""

import threading
import time
from collections.abc import Iterator

import pytest

from engine.core import Batch, Frame, Inspection
from engine.engine import Engine
from engine.errors import EngineError
from tests.fake_device import PIXELS, FakeRunner, Line, frame, offer_together


@pytest.fixture
def runner() -> FakeRunner:
    return FakeRunner()


@pytest.fixture
def line(runner: FakeRunner) -> Iterator[Line]:
    made = Line(runner)
    made.engine.start()
    yield made
    runner.allow.set()
    assert made.engine.stop(5.0)


def test_an_offered_frame_comes_out_inspected(line: Line) -> None:
    assert line.engine.offer(frame())
    line.wait_for(lambda: len(line.done) == 1)
    assert line.engine.meter.snapshot().frames == {("top", "inspected"): 1}


def test_cameras_that_wait_go_through_the_device_together(line: Line, runner: FakeRunner) -> None:
    runner.allow.clear()
    line.engine.offer(frame("top", 1))
    assert runner.entered.wait(5.0)
    line.engine.offer(frame("top", 2))
    line.engine.offer(frame("side", 1))
    runner.allow.set()
    line.wait_for(lambda: len(line.done) == 3)
    assert runner.sizes == [1, 2]


def test_offering_never_blocks_while_the_device_is_busy(line: Line, runner: FakeRunner) -> None:
    runner.allow.clear()
    line.engine.offer(frame(seq=1))
    assert runner.entered.wait(5.0)
    for seq in range(2, 50):
        assert line.engine.offer(frame(seq=seq))
    assert [reason for _, reason in line.dropped] == ["displaced"] * 47
    assert line.engine.waiting == 1


def test_a_frame_of_a_camera_without_a_model_is_not_taken(line: Line) -> None:
    assert not line.engine.offer(frame("unknown"))
    assert line.dropped == [(1, "no_model")]


def test_a_full_line_of_parts_refuses(runner: FakeRunner) -> None:
    line = Line(runner, line_frames=1)
    line.engine.set_mode("top", "every")
    assert line.engine.offer(frame(seq=1))
    assert not line.engine.offer(frame(seq=2))
    assert line.dropped == [(2, "refused")]


def test_a_camera_that_is_removed_takes_its_waiting_frames_along(line: Line, runner: FakeRunner) -> None:
    runner.allow.clear()
    line.engine.offer(frame("side"))
    assert runner.entered.wait(5.0)
    line.engine.offer(frame("top", 7))
    line.engine.remove("top")
    assert line.dropped == [(7, "removed")]
    assert not line.engine.offer(frame("top", 8))


def test_a_frame_too_old_for_its_deadline_costs_the_device_nothing(runner: FakeRunner) -> None:
    line = Line(runner, deadline_ms=50.0)
    line.engine.start()
    line.engine.offer(Frame("top", 3, 0.0, time.monotonic() - 1.0, PIXELS))
    line.wait_for(lambda: line.dropped == [(3, "late")])
    assert runner.sizes == []
    assert line.engine.stop()


def test_stopping_finishes_the_batch_in_hand_and_drops_the_rest(line: Line, runner: FakeRunner) -> None:
    runner.allow.clear()
    line.engine.offer(frame(seq=1))
    assert runner.entered.wait(5.0)
    line.engine.offer(frame(seq=2))
    assert not line.engine.stop(timeout_s=0.0)
    runner.allow.set()
    assert line.engine.stop(5.0)
    assert [i.frame.seq for i in line.done] == [1] and line.dropped == [(2, "stopped")]
    assert not line.engine.offer(frame(seq=3))


def test_a_watchdog_sees_how_long_the_device_has_been_busy(line: Line, runner: FakeRunner) -> None:
    runner.allow.clear()
    line.engine.offer(frame())
    assert runner.entered.wait(5.0)
    since = line.engine.busy_since
    assert since is not None
    assert line.engine.is_stuck(since + 11.0, limit_s=10.0)
    assert not line.engine.is_stuck(since + 9.0, limit_s=10.0)


def test_a_bug_ends_the_engine_loudly(line: Line, runner: FakeRunner) -> None:
    def bug(batch: Batch) -> list[Inspection]:
        raise ZeroDivisionError("a bug")

    runner.answer = bug
    line.engine.offer(frame(seq=1))
    line.wait_for(lambda: bool(line.errors))
    assert isinstance(line.engine.failed, ZeroDivisionError)
    assert "ZeroDivisionError" in str(line.errors[0])
    assert not line.engine.offer(frame(seq=2))


def test_frames_in_hand_are_told_when_a_bug_ends_the_engine(line: Line, runner: FakeRunner) -> None:
    good = runner.answer
    runner.answer = lambda batch: good(batch) if len(batch.frames) == 1 else [1 // 0]  # type: ignore[list-item]
    offer_together(line, runner, frame("top", 2), frame("side", 3))
    line.wait_for(lambda: bool(line.errors))
    assert line.dropped == [(2, "failed"), (3, "failed")]
    assert line.engine.meter.snapshot().frames["side", "failed"] == 1


def test_a_callback_that_raises_ends_the_engine_loudly_and_is_told_of_each_frame_once(
    runner: FakeRunner,
) -> None:
    told: list[int] = []
    said: list[EngineError] = []
    ended = threading.Event()

    def raises(one: Frame, reason: str) -> None:
        told.append(one.seq)
        raise ZeroDivisionError(reason)

    def note(error: EngineError) -> None:
        said.append(error)
        ended.set()

    engine = Engine(runner, deadline_ms=50.0, on_inspections=lambda _: None, on_dropped=raises, on_error=note)
    long_ago = time.monotonic() - 1.0
    engine.offer(Frame("top", 1, 0.0, long_ago, PIXELS))
    engine.offer(Frame("side", 2, 0.0, long_ago, PIXELS))
    engine.start()
    assert ended.wait(5.0)
    assert "ZeroDivisionError: late" in str(said[0]) and sorted(told) == [1, 2]
