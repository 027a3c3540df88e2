"""Which frames go together, and when."""

from collections import Counter
from dataclasses import replace

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.batcher import Batcher
from engine.core import Frame

PIXELS = np.zeros((2, 2, 3), dtype=np.uint8)


def frame(camera: str, seq: int = 1, tick: float = 0.0) -> Frame:
    return Frame(camera, seq, 0.0, tick, PIXELS)


def batcher(max_batch: int = 4, max_wait_s: float = 0.01, deadline_s: float = 0.2, line: int = 3) -> Batcher:
    return Batcher(max_batch=max_batch, max_wait_s=max_wait_s, deadline_s=deadline_s, line_frames=line)


def names(taken: Batcher, now: float, cost_s: float = 0.0) -> list[tuple[str, int]]:
    batch, _ = taken.take(now, cost_s)
    return [(f.camera, f.seq) for f in batch.frames] if batch else []


def test_nothing_is_due_while_nothing_waits() -> None:
    assert batcher().due_at() is None
    assert batcher().take(1.0) == (None, [])


def test_a_lone_frame_waits_for_company_no_longer_than_max_wait() -> None:
    b = batcher()
    b.offer(frame("a"), now=0.0)
    assert b.due_at() == 0.01
    assert names(b, 0.009) == []
    assert names(b, 0.01) == [("a", 1)]


def test_a_full_batch_goes_at_once() -> None:
    b = batcher(max_batch=2)
    b.offer(frame("a"), 0.0)
    b.offer(frame("b"), 0.0)
    assert names(b, 0.0) == [("a", 1), ("b", 1)]


def test_nobody_waits_once_every_registered_camera_is_there() -> None:
    b = batcher()
    for camera in ("a", "b"):
        b.set_mode(camera, "latest")
    b.offer(frame("b"), 0.0)
    assert names(b, 0.0) == []
    b.offer(frame("a"), 0.0)
    assert names(b, 0.0) == [("b", 1), ("a", 1)]


def test_the_newest_frame_takes_the_place_and_keeps_the_turn() -> None:
    b = batcher()
    b.offer(frame("a", 1), 0.0)
    b.offer(frame("b", 1), 0.001)
    gone = b.offer(frame("a", 2), 0.005)
    assert gone is not None and (gone.frame.seq, gone.reason) == (1, "displaced")
    assert names(b, 0.01) == [("a", 2), ("b", 1)]


def test_a_fast_camera_cannot_starve_a_slow_one() -> None:
    b = batcher(max_batch=1)
    b.offer(frame("fast", 1), 0.0)
    b.offer(frame("slow", 1), 0.0)
    served = []
    for turn in range(2, 5):
        served += names(b, turn * 0.02)
        b.offer(frame("fast", turn, tick=turn * 0.02), turn * 0.02)
    assert [camera for camera, _ in served] == ["fast", "slow", "fast"]


def test_every_mode_keeps_all_in_order_and_refuses_when_its_line_is_full() -> None:
    b = batcher(max_batch=2, line=3)
    b.set_mode("parts", "every")
    gone = [b.offer(frame("parts", seq), 0.0) for seq in range(1, 5)]
    assert gone[:3] == [None] * 3
    assert gone[3] is not None and (gone[3].frame.seq, gone[3].reason) == (4, "refused")
    assert names(b, 0.02) == [("parts", 1), ("parts", 2)]
    assert names(b, 0.04) == [("parts", 3)]


def test_a_triggered_part_goes_before_pictures_that_nobody_asked_for() -> None:
    b = batcher(max_batch=1, line=3)
    b.set_mode("parts", "every")
    for seq in (1, 2, 3):
        b.offer(frame("parts", seq), 0.0)
    gone = [b.offer(replace(frame("parts", seq), part_id=f"A-{seq}"), 0.0) for seq in range(4, 8)]
    assert [(one.frame.seq, one.reason) for one in gone if one is not None] == [
        *((3, "displaced"), (2, "displaced"), (1, "displaced")),
        (7, "refused"),
    ]
    assert [names(b, 1.0 + turn) for turn in range(4)] == [[("parts", seq)] for seq in (4, 5, 6)] + [[]]


def test_a_line_shares_the_batch_with_other_cameras() -> None:
    b = batcher(max_batch=3)
    b.set_mode("parts", "every")
    for seq in (1, 2, 3):
        b.offer(frame("parts", seq), 0.0)
    b.offer(frame("top"), 0.0)
    assert names(b, 0.0) == [("parts", 1), ("top", 1), ("parts", 2)]


def test_a_frame_that_cannot_make_its_deadline_is_dropped_before_work_is_spent_on_it() -> None:
    b = batcher(deadline_s=0.2)
    b.offer(frame("old", tick=0.0), 0.0)
    b.offer(frame("new", tick=0.1), 0.1)
    batch, late = b.take(0.17, frame_cost_s=0.05)
    assert [(d.frame.camera, d.reason) for d in late] == [("old", "late")]
    assert batch is not None and [f.camera for f in batch.frames] == ["new"]


def test_a_frame_is_too_late_if_the_batch_it_goes_with_takes_too_long() -> None:
    b = batcher(deadline_s=0.2)
    b.offer(frame("old", tick=0.0), 0.0)
    for camera in ("a", "b"):
        b.offer(frame(camera, tick=0.1), 0.1)
    batch, late = b.take(0.13, frame_cost_s=0.03)
    assert [d.frame.camera for d in late] == ["old"]
    assert batch is not None and [f.camera for f in batch.frames] == ["a", "b"]


def test_no_more_frames_are_dropped_than_make_the_batch_too_long() -> None:
    b = batcher(deadline_s=0.2)
    for camera, tick in (("a", 0.001), ("b", 0.0), ("c", 0.002)):
        b.offer(frame(camera, tick=tick), 0.002)
    batch, late = b.take(0.13, frame_cost_s=0.03)
    assert [d.frame.camera for d in late] == ["b"]
    assert batch is not None and [f.camera for f in batch.frames] == ["a", "c"]


def test_a_triggered_part_is_never_dropped_for_being_late() -> None:
    b = batcher()
    b.set_mode("parts", "every")
    b.offer(frame("parts", tick=0.0), 0.0)
    assert names(b, 9.0) == [("parts", 1)]


def test_a_device_slower_than_the_deadline_still_gets_fresh_frames() -> None:
    b = batcher(deadline_s=0.2)
    b.offer(frame("a", tick=0.0), 0.0)
    assert names(b, 0.05, cost_s=30.0) == [("a", 1)]


def test_a_slow_device_gets_small_batches() -> None:
    b = batcher(max_batch=8, deadline_s=0.2)
    for camera in "abcdefgh":
        b.offer(frame(camera), 0.0)
    assert len(names(b, 0.0, cost_s=0.03)) == 3


def test_a_removed_camera_gives_back_what_waited() -> None:
    b = batcher()
    b.offer(frame("a"), 0.0)
    assert [d.reason for d in b.remove("a")] == ["removed"]
    assert b.remove("a") == [] and b.due_at() is None


def test_clearing_leaves_nothing() -> None:
    b = batcher()
    b.offer(frame("a"), 0.0)
    assert [d.reason for d in b.clear()] == ["stopped"]
    assert len(b) == 0


OFFERS = st.lists(st.tuples(st.sampled_from("abcd"), st.booleans()), max_size=60)


@settings(derandomize=True, max_examples=60, deadline=None)
@given(OFFERS, st.integers(1, 3), st.sets(st.sampled_from("abcd")))
def test_every_frame_comes_out_once_in_order_and_waits_are_bounded(
    steps: list[tuple[str, bool]], max_batch: int, every: set[str]
) -> None:
    b = batcher(max_batch=max_batch, max_wait_s=0.0, deadline_s=1e9, line=2)
    for camera in every:
        b.set_mode(camera, "every")
    out: list[Frame] = []
    gone: list[Frame] = []
    for now, (camera, takes) in enumerate(steps):
        dropped = b.offer(frame(camera, now), float(now))
        gone += [dropped.frame] if dropped else []
        if takes and (batch := b.take(float(now))[0]):
            assert len(batch.frames) <= max_batch
            out += batch.frames
        assert len(b) <= 2 * len("abcd")
    while (batch := b.take(1e6)[0]) is not None:
        out += batch.frames
    assert sorted(f.seq for f in out + gone) == list(range(len(steps)))
    for camera in "abcd":
        inspected = [f.seq for f in out if f.camera == camera]
        assert inspected == sorted(inspected)


@given(
    cameras=st.integers(1, 6),
    interval_s=st.floats(0.02, 0.5),
    frame_cost_s=st.floats(0.001, 0.4),
    max_batch=st.integers(1, 8),
)
@settings(max_examples=60)
def test_latest_shows_nothing_older_than_two_intervals_and_a_batch_however_slow_the_device(
    cameras: int, interval_s: float, frame_cost_s: float, max_batch: int
) -> None:
    b = batcher(max_batch, max_wait_s=min(0.01, interval_s), deadline_s=60.0)
    for name in range(cameras):
        b.set_mode(str(name), "latest")
    # (when, camera): each camera at its own phase
    arrivals = sorted(
        (n * interval_s + k * interval_s / cameras, k) for k in range(cameras) for n in range(40)
    )
    free_at, shown = 0.0, 0
    for at, camera in arrivals:
        while (due := b.due_at()) is not None and (now := max(due, free_at)) <= at:
            batch, _ = b.take(now)
            assert batch is not None
            cost_s = frame_cost_s * len(batch.frames)
            free_at = now + cost_s
            assert all(free_at - f.tick <= 2 * interval_s + cost_s + 1e-9 for f in batch.frames)
            shown += len(batch.frames)
        b.offer(frame(str(camera), tick=at), at)
    assert shown


def test_on_a_device_that_cannot_do_them_all_slow_cameras_get_their_share() -> None:
    """Eight cameras at 10 and two at 1 picture a second, on a device that does 40: half of all."""
    b, cost_s, rate = batcher(max_batch=16), 0.025, {f"fast{n}": 10.0 for n in range(8)}
    rate |= {"slow0": 1.0, "slow1": 1.0}
    for camera in rate:
        b.set_mode(camera, "latest")
    # Not quite in step, as cameras are.
    arrivals = sorted(
        ((n + 0.07 * k) / hz * (1.0 + 0.001 * k), camera)
        for k, (camera, hz) in enumerate(rate.items())
        for n in range(int(60 * hz))
    )
    served: Counter[str] = Counter()
    free_at = 0.0
    for at, camera in arrivals:
        while (due := b.due_at()) is not None and (now := max(due, free_at)) <= at:
            batch, _ = b.take(now, cost_s)
            if batch is not None:
                free_at = now + cost_s * len(batch.frames)
                served.update(f.camera for f in batch.frames)
        b.offer(frame(camera, tick=at), at)
    assert min(served["slow0"], served["slow1"]) >= 20
    assert min(served[f"fast{n}"] for n in range(8)) >= 200
