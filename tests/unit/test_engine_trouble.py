"""A device or a model that fails: smaller batches, another device, a camera that is taken out."""

import threading
import time
import weakref
from collections.abc import Iterator

import pytest

from engine.core import Batch, Inspection
from engine.errors import ArtifactError, DeviceError, OutOfMemory
from tests.fake_device import FakeRunner, Line, fails, feed, feed_one, frame, inspection, offer_together
from tests.models import tiny_artifact


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


def test_after_a_device_error_the_halves_are_tried_and_batches_stay_small(
    line: Line, runner: FakeRunner
) -> None:
    def only_one(batch: Batch) -> list[Inspection]:
        if len(batch.frames) > 1:
            raise DeviceError("The device has no memory left for this batch.")
        return [inspection(f) for f in batch.frames]

    runner.answer = only_one
    runner.allow.clear()
    line.engine.offer(frame("top", 1))
    assert runner.entered.wait(5.0)
    line.engine.offer(frame("top", 2))
    line.engine.offer(frame("side", 3))
    runner.allow.set()
    line.wait_for(lambda: len(line.done) == 3)
    assert runner.sizes == [1, 2, 1, 1]
    assert len(line.errors) == 1 and line.engine.failed is None
    assert line.engine.meter.snapshot().errors == {"DeviceError": 1}


def test_a_single_frame_that_fails_is_counted_and_the_line_goes_on(line: Line, runner: FakeRunner) -> None:
    good = runner.answer

    def fails(batch: Batch) -> list[Inspection]:
        raise DeviceError("The device failed.")

    runner.answer = fails
    line.engine.offer(frame(seq=1))
    line.wait_for(lambda: line.dropped == [(1, "failed")])
    runner.answer = good
    line.engine.offer(frame(seq=2))
    line.wait_for(lambda: len(line.done) == 1)


def test_frames_in_hand_are_told_when_the_device_is_lost() -> None:
    runner = FakeRunner(tuple("abcd"))
    runner.library.put("top", tiny_artifact())
    runner.answer = fails
    line = Line(runner)
    line.engine.start()
    offer_together(line, runner, *(frame(camera, seq) for seq, camera in enumerate("abcd", start=2)))
    line.wait_for(lambda: line.engine.failed is not None and len(line.dropped) == 5)
    assert sorted(line.dropped) == [(seq, "failed") for seq in range(1, 6)]
    assert runner.sizes == [1, 4, 2, 1, 1]


def test_batches_grow_again_after_a_device_error_that_passed(
    line: Line, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.engine._GROWS_AFTER", 4)
    good = runner.answer
    runner.answer = lambda batch: good(batch) if len(batch.frames) == 1 else fails(batch)
    for count in (3, 6, 9):
        offer_together(line, runner, frame("top", 2), frame("side", 3))
        line.wait_for(lambda count=count: len(line.done) == count)
        runner.answer = good
    assert runner.sizes == [1, 2, 1, 1, 1, 1, 1, 1, 2]


def test_batches_never_grow_beyond_what_was_wished(
    line: Line, runner: FakeRunner, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("engine.engine._GROWS_AFTER", 1)
    for seq in range(1, 4):
        line.engine.offer(frame(seq=seq))
        line.wait_for(lambda seq=seq: len(line.done) == seq)
    assert line.engine._batcher.max_batch == 16


def test_another_device_begins_with_batches_of_the_wished_size() -> None:
    lost, spare = FakeRunner(), FakeRunner()
    lost.answer = fails
    line = Line(lost, fallback=lambda: spare)
    line.engine.start()
    offer_together(line, lost, frame("top", 2), frame("side", 3))
    line.wait_for(lambda: len(line.dropped) == 3)
    offer_together(line, spare, frame("top", 5), frame("side", 6))
    line.wait_for(lambda: len(line.done) == 3)
    assert (lost.sizes, spare.sizes) == ([1, 2, 1, 1], [1, 2])
    assert line.engine.stop()


def test_a_lost_device_is_replaced_by_the_fallback_and_the_line_goes_on() -> None:
    lost, spare = FakeRunner(), FakeRunner()
    lost.answer = fails
    line = Line(lost, fallback=lambda: spare)
    line.engine.start()
    feed(line, 3)
    line.engine.offer(frame(seq=4))
    line.wait_for(lambda: [i.frame.seq for i in line.done] == [4])
    assert "goes on elsewhere" in str(line.errors[-1])
    assert line.engine.stop()


def test_a_camera_whose_model_the_fallback_cannot_run_is_said() -> None:
    lost, spare = FakeRunner(), FakeRunner()
    lost.answer, spare.refused = fails, [("side", ArtifactError("Its weights don't fit."))]
    line = Line(lost, fallback=lambda: spare)
    line.engine.start()
    feed(line, 3)
    line.wait_for(lambda: str(line.errors[-1]).startswith("Camera side is not inspected any more: Its"))
    assert line.engine.stop()


def no_numbers_from_top(batch: Batch) -> list[Inspection]:
    if any(f.camera == "top" for f in batch.frames):
        raise ArtifactError("The model of camera top answered with values that are not numbers.")
    return [inspection(f) for f in batch.frames]


def test_the_same_error_is_said_once_and_a_camera_that_keeps_failing_is_taken_out(
    line: Line, runner: FakeRunner
) -> None:
    runner.answer = no_numbers_from_top
    feed(line, 10)
    line.wait_for(lambda: len(line.errors) == 2)
    assert "Camera top is not inspected any more" in str(line.errors[1])
    assert runner.library.broken("top") == str(line.errors[1])
    assert not line.engine.offer(frame(seq=11)) and line.dropped[-1] == (11, "no_model")
    line.engine.offer(frame("side", 12))
    line.wait_for(lambda: len(line.done) == 1)
    runner.answer = lambda batch: [inspection(f) for f in batch.frames]
    runner.library.put("top", tiny_artifact(version=2))
    assert runner.library.broken("top") is None
    assert line.engine.offer(frame(seq=13))
    line.wait_for(lambda: len(line.done) == 2)


def test_one_success_forgives_the_failures_before(line: Line, runner: FakeRunner) -> None:
    good = runner.answer
    runner.answer = no_numbers_from_top
    feed(line, 9)
    runner.answer = good
    line.engine.offer(frame(seq=10))
    line.wait_for(lambda: len(line.done) == 1)
    runner.answer = no_numbers_from_top
    feed(line, 9)
    assert runner.library.get("top") is not None


def test_a_lost_device_without_a_fallback_ends_the_engine_loudly(runner: FakeRunner) -> None:
    runner.answer = fails
    line = Line(runner)
    line.engine.start()
    feed(line, 3)
    line.wait_for(lambda: len(line.errors) == 2)
    assert isinstance(line.engine.failed, DeviceError)
    assert not line.engine.offer(frame(seq=4))
    assert line.engine.stop()


def no_memory(batch: Batch) -> list[Inspection]:
    raise OutOfMemory("The device has no memory left for this batch.")


def test_a_shortage_of_memory_for_a_moment_is_no_lost_device(monkeypatch: pytest.MonkeyPatch) -> None:
    short, spare = FakeRunner(), FakeRunner()
    short.answer = no_memory
    line = Line(short, fallback=lambda: spare)
    line.engine.start()
    feed(line, 6)
    short.answer = lambda batch: [inspection(f) for f in batch.frames]
    line.engine.offer(frame(seq=7))
    line.wait_for(lambda: len(line.done) == 1)
    assert spare.sizes == []
    monkeypatch.setattr("engine.engine._SHORT_FOR_S", 0.0)
    short.answer = no_memory
    feed(line, 3)
    line.engine.offer(frame(seq=8))
    line.wait_for(lambda: len(line.done) == 2)
    assert spare.sizes == [1] and line.engine.stop()


def test_a_camera_that_the_device_has_no_memory_for_may_return(line: Line, runner: FakeRunner) -> None:
    def too_large(batch: Batch) -> list[Inspection]:
        return no_memory(batch) if batch.frames[0].camera == "top" else [inspection(f) for f in batch.frames]

    runner.answer = too_large
    for seq in range(1, 11):
        feed_one(line, seq)
        line.engine.offer(frame("side", seq))
        line.wait_for(lambda seq=seq: len(line.done) == seq)
    line.wait_for(lambda: "not inspected for now" in str(line.errors[-1]))
    assert runner.library.get("top") is None and runner.library.may_return("top")
    assert isinstance(line.errors[-1], OutOfMemory)


def test_trouble_of_the_whole_device_is_no_fault_of_a_model(line: Line, runner: FakeRunner) -> None:
    runner.answer = no_memory
    feed(line, 15)
    assert runner.library.get("top") is not None


def test_a_failed_batch_leaves_nothing_behind_that_fills_the_device(line: Line, runner: FakeRunner) -> None:
    """Its error is kept and said; what the error came through holds the batch's tensors."""
    held: list[weakref.ref[Batch]] = []

    class Tensors(Batch):
        """In place of them; a Batch, so that it has a weak reference."""

        __slots__ = ("__weakref__",)

    def fails_full(batch: Batch) -> list[Inspection]:
        on_the_device = Tensors(batch.frames)
        assert all(one() is None for one in held)
        held.append(weakref.ref(on_the_device))
        try:
            raise MemoryError
        except MemoryError as error:
            raise OutOfMemory("The device has no memory left for this batch.") from error

    runner.answer = fails_full
    offer_together(line, runner, frame("top", 2), frame("side", 3))
    line.wait_for(lambda: len(line.dropped) == 3)
    assert len(held) == 4 and line.engine.failed is None


def test_a_device_that_is_being_replaced_is_busy() -> None:
    lost, spare, allow = FakeRunner(), FakeRunner(), threading.Event()
    lost.answer = fails

    def slowly() -> FakeRunner:
        assert allow.wait(5.0)
        return spare

    line = Line(lost, fallback=slowly)
    line.engine.start()
    feed(line, 3)
    with line.changed:
        line.changed.wait_for(lambda: line.engine.busy_since is not None, 1.0)
    assert line.engine.is_stuck(time.monotonic() + 60.0, 10.0)
    allow.set()
    assert line.engine.stop()
