"""Batches behind each other on a device that computes by itself: the host gets one ready meanwhile."""

import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Batch
from engine.errors import ArtifactError, DeviceError, EngineError
from tests.fake_device import FakeRunner, Line, fails, frame, inspection

CAMERAS = tuple("abcd")
STEPS = ("begin", "compute", "fetch", "inspections")


class OverlappingRunner(FakeRunner):
    """Notes each step as "compute 2", with the number of the batch's first frame."""

    is_overlapping = sends_ahead = True

    def __init__(self) -> None:
        super().__init__((*CAMERAS, "top"))
        self.steps: list[str] = []
        self.errors: dict[str, EngineError] = {}
        self.step = self._note

    def _note(self, name: str, batch: Batch) -> None:
        self.steps.append(f"{name} {batch.frames[0].seq}")
        if (error := self.errors.pop(self.steps[-1], None)) is not None:
            raise error

    def hold(self, step: str) -> tuple[threading.Event, threading.Event]:
        """That step says that it is reached, and waits."""
        reached, go_on = threading.Event(), threading.Event()
        note = self.step

        def note_and_wait(name: str, batch: Batch) -> None:
            note(name, batch)
            if self.steps[-1] == step:
                reached.set()
                assert go_on.wait(5.0)

        self.step = note_and_wait
        return reached, go_on


@pytest.fixture
def runner() -> OverlappingRunner:
    return OverlappingRunner()


@pytest.fixture
def line(runner: OverlappingRunner) -> Iterator[Line]:
    made = Line(runner, max_batch=1)
    made.engine.start()
    yield made
    runner.allow.set()
    assert made.engine.stop(5.0)


def offer_behind_one(line: Line, runner: FakeRunner, count: int) -> None:
    """The device is busy with frame 1 while frames 2, 3, … come, each of another camera."""
    runner.entered.clear()
    runner.allow.clear()
    line.engine.offer(frame("top", 1))
    assert runner.entered.wait(5.0)
    for number in range(count):
        line.engine.offer(frame(CAMERAS[number], 2 + number))
    runner.allow.set()


def come_out(line: Line, count: int) -> list[int]:
    line.wait_for(lambda: len(line.done) + len(line.dropped) == count)
    return [one.frame.seq for one in line.done]


def test_a_batch_is_sent_while_the_one_before_is_computed_and_told_while_the_next_one_is(
    line: Line, runner: OverlappingRunner
) -> None:
    offer_behind_one(line, runner, 3)
    assert come_out(line, 4) == [1, 2, 3, 4]
    alone = ["begin 1", "compute 1", "fetch 1", "inspections 1", "begin 2", "compute 2"]
    beside = ["begin 3", "compute 3", "fetch 2", "inspections 2", "begin 4", "compute 4", "fetch 3"]
    assert runner.steps == [*alone, *beside, "inspections 3", "fetch 4", "inspections 4"]


def test_where_nothing_can_be_sent_ahead_the_newest_frames_go_next(
    line: Line, runner: OverlappingRunner
) -> None:
    runner.sends_ahead = False
    offer_behind_one(line, runner, 3)
    line.engine.offer(frame(CAMERAS[2], 5))
    assert come_out(line, 5) == [1, 2, 3, 5] and line.dropped == [(4, "displaced")]
    alone = ["begin 1", "compute 1", "fetch 1", "begin 2", "compute 2", "inspections 1"]
    beside = ["fetch 2", "begin 3", "compute 3", "inspections 2"]
    last = ["inspections 3", "fetch 5", "inspections 5"]
    assert runner.steps == [*alone, *beside, "fetch 3", "begin 5", "compute 5", *last]


def test_a_runner_that_can_not_overlap_finishes_one_batch_before_the_next() -> None:
    runner = OverlappingRunner()
    runner.is_overlapping = False
    line = Line(runner, max_batch=1)
    line.engine.start()
    offer_behind_one(line, runner, 2)
    assert come_out(line, 3) == [1, 2, 3]
    assert runner.steps == [f"{step} {number}" for number in (1, 2, 3) for step in STEPS]
    assert line.engine.stop(5.0)


def test_a_batch_behind_which_nothing_waits_is_told_at_once(line: Line, runner: OverlappingRunner) -> None:
    line.engine.offer(frame("top", 1))
    assert come_out(line, 1) == [1]
    assert line.engine.busy_since is None


@pytest.mark.parametrize("sends_ahead", [True, False])
@pytest.mark.parametrize("step", STEPS)
@pytest.mark.parametrize("number", [2, 3])
def test_a_step_that_fails_costs_its_own_frame_and_no_other(
    line: Line, runner: OverlappingRunner, step: str, number: int, sends_ahead: bool
) -> None:
    runner.sends_ahead = sends_ahead
    runner.errors[f"{step} {number}"] = DeviceError("The device failed.")
    offer_behind_one(line, runner, 3)
    assert come_out(line, 4) == [seq for seq in (1, 2, 3, 4) if seq != number]
    assert line.dropped == [(number, "failed")]
    assert line.engine.meter.snapshot().errors == {"DeviceError": 1}


@settings(max_examples=60, deadline=None)
@given(
    failing=st.sets(st.tuples(st.sampled_from(STEPS), st.integers(2, 9)), max_size=6),
    of_model=st.booleans(),
    sends_ahead=st.booleans(),
    together=st.integers(1, 4),
)
def test_whatever_fails_each_frame_is_told_once_and_each_camera_in_its_order(
    failing: set[tuple[str, int]], of_model: bool, sends_ahead: bool, together: int
) -> None:
    runner = OverlappingRunner()
    runner.sends_ahead = sends_ahead
    kind = ArtifactError if of_model else DeviceError
    runner.errors = {f"{step} {number}": kind(f"{step} {number} failed.") for step, number in failing}
    line = Line(runner, max_batch=together, fallback=OverlappingRunner)
    for camera in CAMERAS:
        line.engine.set_mode(camera, "every")
    line.engine.set_mode("top", "latest")
    for number in range(2, 10):
        assert line.engine.offer(frame(CAMERAS[number % 4], number))
    line.engine.start()
    told = come_out(line, 8)
    assert line.engine.stop(5.0) and line.engine.failed is None
    assert sorted([*told, *(seq for seq, _ in line.dropped)]) == list(range(2, 10))
    for rest in range(4):
        mine = [seq for seq in told if seq % 4 == rest]
        assert mine == sorted(mine)


def test_stopping_tells_of_both_batches_in_hand(line: Line, runner: OverlappingRunner) -> None:
    reached, go_on = runner.hold("compute 3")
    offer_behind_one(line, runner, 3)
    assert reached.wait(5.0)
    assert not line.engine.stop(timeout_s=0.0)
    go_on.set()
    assert line.engine.stop(5.0)
    assert [one.frame.seq for one in line.done] == [1, 2, 3] and line.dropped == [(4, "stopped")]


def test_a_device_that_hangs_after_an_error_is_seen_as_stuck(line: Line, runner: OverlappingRunner) -> None:
    reached, go_on = runner.hold("fetch 3")
    runner.errors["fetch 2"] = DeviceError("The device failed.")
    offer_behind_one(line, runner, 2)
    assert reached.wait(5.0)
    assert line.engine.is_stuck(time.monotonic() + 60.0, 10.0)
    go_on.set()
    assert come_out(line, 3) == [1, 3]
    assert line.engine.busy_since is None


@pytest.mark.parametrize("sends_ahead", [True, False])
def test_another_device_takes_over_also_what_was_already_sent_to_the_lost_one(sends_ahead: bool) -> None:
    lost, spare = OverlappingRunner(), FakeRunner((*CAMERAS, "top"))
    lost.sends_ahead = sends_ahead
    line = Line(lost, max_batch=1, fallback=lambda: spare)
    line.engine.start()
    lost.answer = fails
    offer_behind_one(line, lost, 4)
    # Three single failures are what makes it lost; the fourth was sent by then.
    assert come_out(line, 5) == [4, 5]
    assert line.dropped == [(1, "failed"), (2, "failed"), (3, "failed")]
    assert ("compute 4" in lost.steps) == sends_ahead and "fetch 4" not in lost.steps
    assert line.engine.failed is None
    line.engine.offer(frame("top", 9))
    line.wait_for(lambda: line.done[-1:] != [] and line.done[-1].frame.seq == 9)
    assert line.engine.stop(5.0)


def test_nor_is_what_the_lost_one_computed_by_then_asked_of_it() -> None:
    lost, spare = OverlappingRunner(), FakeRunner((*CAMERAS, "top"))
    line = Line(lost, max_batch=3, fallback=lambda: spare)
    line.engine.start()
    lost.errors["inspections 2"] = ArtifactError("The model gave no numbers.")
    lost.answer = lambda batch: (
        fails(batch) if len(batch.frames) < 3 and batch.frames[0].seq > 1 else spare.answer(batch)
    )
    offer_behind_one(line, lost, 4)
    assert come_out(line, 5) == [1, 5]
    assert line.dropped == [(2, "failed"), (3, "failed"), (4, "failed")]
    assert "compute 5" in lost.steps and "fetch 5" not in lost.steps
    assert line.engine.stop(5.0)


def test_frames_of_both_batches_are_told_when_a_bug_ends_the_engine() -> None:
    runner = OverlappingRunner()
    line = Line(runner, max_batch=1)
    line.engine.start()
    runner.answer = lambda batch: [inspection(batch.frames[0])] if batch.frames[0].seq == 1 else [1 // 0]  # type: ignore[list-item]
    offer_behind_one(line, runner, 3)
    line.wait_for(lambda: line.engine.failed is not None and len(line.dropped) == 3)
    assert sorted(line.dropped) == [(2, "failed"), (3, "failed"), (4, "failed")]
