import asyncio
import contextlib
import dataclasses
import threading
import time
from collections.abc import AsyncIterator, Callable

import numpy as np
import pytest

from engine.core import Frame
from stream.camera import MAX_ABANDONED, Camera, CameraPolicy
from stream.condition import CameraState
from stream.health import HealthLimits
from stream.outages import HealthChange
from stream.sources.base import Deadlines, Ended, Refused, Sink, Source, Stalled, Unreachable
from tests.puppets import Puppet, Puppets, picture, until

SOON = Deadlines(connect_s=0.15, read_s=0.15)


class Watched:
    def __init__(self, make: Callable[[], Puppet] = Puppet, policy: CameraPolicy | None = None) -> None:
        self.puppets = Puppets(make)
        policy = dataclasses.replace(policy or CameraPolicy(), grace_s=0.1)
        self.frames: list[Frame] = []
        self.states: list[CameraState] = []
        self.camera = Camera(
            "top",
            self.puppets,
            offer=self.frames.append,
            policy=policy,
            on_state=self.states.append,
            rng=lambda: 0.0,
        )

    def names(self) -> list[str]:
        return [state.state for state in self.states]


@contextlib.asynccontextmanager
async def running(
    make: Callable[[], Puppet] = Puppet, policy: CameraPolicy | None = None
) -> AsyncIterator[Watched]:
    watched = Watched(make, policy)
    await watched.camera.start()
    try:
        await until(lambda: watched.puppets.made)
        yield watched
    finally:
        for puppet in watched.puppets.made:
            puppet.released.set()
        await watched.camera.stop()


async def test_a_picture_makes_the_camera_live() -> None:
    async with running() as top:
        top.puppets.now.show(picture(1))
        await until(lambda: top.camera.state.state == "live")
        assert top.names() == ["connecting", "live"]


async def test_a_source_that_is_never_made_is_told_and_can_be_left() -> None:
    released = threading.Event()
    states: list[CameraState] = []

    def never() -> Source:
        released.wait(10)
        raise Ended("too late")

    policy = CameraPolicy(down_after_s=0.2)
    camera = Camera("top", never, offer=print, policy=policy, on_state=states.append)
    await camera.start()
    await until(lambda: [state.state for state in states] == ["connecting", "down"])
    begun = time.monotonic()
    await camera.stop()
    assert time.monotonic() - begun < 1.0
    released.set()


async def test_frames_count_on_over_reconnects() -> None:
    async with running() as top:
        for attempt in range(3):
            await until(lambda attempt=attempt: len(top.puppets.made) == attempt + 1)
            top.puppets.now.show(picture(attempt), taken_at=float(attempt))
            top.puppets.now.fail(Ended("the camera closed the stream"))
        await until(lambda: len(top.puppets.made) == 4)
        assert [frame.seq for frame in top.frames] == [1, 2, 3]
        assert top.camera.stats().reconnects == {"ended": 3}


async def test_pixels_cannot_be_written_after_the_hand_over() -> None:
    async with running() as top:
        top.puppets.now.show(picture(1))
        await until(lambda: top.frames)
        with pytest.raises(ValueError, match="read-only"):
            top.frames[0].pixels[:] = 0


async def test_pictures_above_the_rate_are_left_out_and_counted() -> None:
    async with running(policy=CameraPolicy(fps=5)) as top:
        for n in range(20):
            top.puppets.now.show(picture(n), taken_at=n * 0.05)
        await until(lambda: top.camera.stats().received == 20)
        assert 5 <= len(top.frames) <= 6
        assert top.camera.stats().decimated == 20 - len(top.frames)


async def test_repeats_of_one_picture_are_frozen_until_a_new_one_comes() -> None:
    async with running(policy=CameraPolicy(frozen_after_s=0.5)) as top:
        top.puppets.now.show(picture(1))
        await until(lambda: top.camera.state.state == "frozen")
        for n in (1, 2, 3, 4):
            top.puppets.now.show(picture(n))
        await until(lambda: top.camera.state.state == "live")


async def test_a_source_that_does_not_connect_in_time_is_replaced() -> None:
    async with running(lambda: Puppet(deadlines=SOON)) as top:
        await until(lambda: len(top.puppets.made) >= 2)
        assert top.camera.stats().reconnects["unreachable"] >= 1


async def test_a_source_that_falls_silent_is_replaced() -> None:
    async with running(lambda: Puppet(deadlines=SOON)) as top:
        top.puppets.now.show(picture(1))
        await until(lambda: len(top.puppets.made) >= 2)
        assert top.camera.stats().reconnects == {"stalled": 1}


async def test_a_source_that_waits_and_says_so_is_left_alone() -> None:
    async with running(lambda: Puppet(steady=False, deadlines=SOON)) as top:
        for _ in range(20):
            top.puppets.now.do(lambda sink: (sink.connected("folder"), sink.alive())[0])
            await asyncio.sleep(0.02)
        assert len(top.puppets.made) == 1
        assert top.camera.state.state == "live"


async def test_a_reader_that_hangs_is_abandoned_and_its_late_frame_refused() -> None:
    async with running(lambda: Puppet(hangs=True, deadlines=SOON)) as top:
        await until(lambda: len(top.puppets.made) == 2)
        late, now = top.puppets.made
        late.show(picture(1))
        now.show(picture(2))
        await until(lambda: top.frames)
        assert (top.frames[0].pixels == picture(2)).all()
        assert top.camera.stats().abandoned == 1


async def test_readers_that_all_hang_are_never_more_than_the_cap() -> None:
    async with running(lambda: Puppet(hangs=True, deadlines=SOON), CameraPolicy(down_after_s=0.1)) as top:
        await until(lambda: "readers hang" in top.camera.state.reason, within_s=10)
        assert len(top.puppets.made) == MAX_ABANDONED
        top.puppets.made[0].released.set()
        await until(lambda: len(top.puppets.made) == MAX_ABANDONED + 1)


async def test_refused_is_a_state_of_its_own() -> None:
    async with running() as top:
        top.puppets.now.fail(Refused("the camera refuses this user or password (401)"))
        await until(lambda: top.camera.state.state == "refused")
        assert "401" in top.camera.state.reason


async def test_a_source_that_cannot_be_made_is_a_state_and_no_crash() -> None:
    def make() -> Puppet:
        raise Refused("no source of type 'gige' is installed")

    camera = Camera("top", make, offer=lambda frame: None)
    await camera.start()
    await until(lambda: camera.state.state == "refused")
    await camera.stop()


async def test_a_vendor_s_factory_that_fails_is_a_failed_attempt() -> None:
    def make() -> Puppet:
        raise TypeError("no such option")

    camera = Camera("top", make, offer=lambda frame: None)
    await camera.start()
    await until(lambda: camera.stats().reconnects.get("failed"))
    assert camera.state.reason == "the source cannot be made: TypeError"
    await camera.stop()


async def test_an_unknown_exception_of_a_vendor_s_library_is_a_failed_attempt(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async with running() as top:
        top.puppets.now.fail(RuntimeError("rtsp://user:secret@10.0.0.1"))
        await until(lambda: len(top.puppets.made) == 2)
        assert "RuntimeError" in caplog.text
        assert "secret" not in caplog.text + "".join(state.reason for state in top.states)


async def test_down_is_said_after_its_time_and_told_as_an_outage() -> None:
    told = []
    puppets = Puppets()
    policy = CameraPolicy(down_after_s=0.1)
    camera = Camera("top", puppets, offer=lambda frame: None, policy=policy, on_outage=told.append)
    await camera.start()
    await until(lambda: told)
    assert (told[0].kind, told[0].state) == ("camera.down", "down")
    await camera.stop()


async def test_a_dark_camera_is_told_once_it_lasted() -> None:
    told: list[HealthChange] = []
    puppets, limits = Puppets(), HealthLimits(min_duration_s=0.0)
    policy = CameraPolicy(limits=limits)
    camera = Camera("top", puppets, offer=lambda frame: None, policy=policy, on_health=told.append)
    await camera.start()
    await until(lambda: puppets.made)
    puppets.now.show(np.zeros((48, 64, 3), np.uint8))
    await until(lambda: told)
    await camera.stop()
    assert (told[0].finding.kind, told[0].began) == ("dark", True)


async def test_a_bug_in_what_the_camera_calls_is_not_silent() -> None:
    def buggy(state: CameraState) -> None:
        if state.state == "live":
            raise KeyError("bug")

    puppets = Puppets()
    camera = Camera("top", puppets, offer=lambda frame: None, on_state=buggy)
    await camera.start()
    await until(lambda: puppets.made)
    puppets.now.show(picture(1))
    await until(lambda: camera.died)
    puppets.now.released.set()
    with pytest.raises(KeyError):
        await camera.stop()


async def test_a_recording_that_ended_is_not_tried_again() -> None:
    async with running() as top:
        top.puppets.now.show(picture(1))
        top.puppets.now.fail(Ended("the recording is over", final=True))
        await top.camera.finished()
        assert top.camera.state.reason == "the recording is over"
        assert len(top.puppets.made) == 1


async def test_one_camera_that_hangs_does_not_delay_another() -> None:
    async with running(lambda: Puppet(hangs=True, deadlines=SOON)) as bad, running() as good:
        ages = []
        for n in range(1000):
            if len(bad.puppets.made) > 2:
                break
            good.puppets.now.show(picture(n))
            await until(lambda n=n: len(good.frames) == n + 1)
            ages.append(time.time() - good.frames[-1].taken_at)
        assert sorted(ages)[len(ages) // 2] < 0.1
        assert len(bad.puppets.made) > 2


async def test_stopping_does_not_wait_for_the_back_off() -> None:
    async with running() as top:
        top.puppets.now.fail(Refused("no"))
        await until(lambda: top.camera.state.state == "refused")
        start = time.monotonic()
        await top.camera.stop()
        assert time.monotonic() - start < 0.5


async def test_stopping_twice_and_before_starting_is_harmless() -> None:
    camera = Camera("top", Puppets(), offer=lambda frame: None)
    await camera.stop()
    await camera.stop()


@pytest.mark.parametrize("error", [Unreachable("u"), Stalled("s"), Ended("e")])
async def test_every_reason_is_counted_apart(error: Exception) -> None:
    async with running() as top:
        top.puppets.now.fail(error)
        await until(lambda: len(top.puppets.made) == 2)
        assert top.camera.stats().reconnects == {error.reason: 1}  # type: ignore[attr-defined]


async def test_a_skipped_picture_is_counted_under_its_reason() -> None:
    async with running() as top:
        top.puppets.now.do(lambda sink: sink.skipped("damaged"))
        await until(lambda: top.camera.stats().skipped == {"damaged": 1})


async def test_the_offer_is_called_in_the_reader_s_thread() -> None:
    threads: list[str] = []
    puppets = Puppets()
    camera = Camera("top", puppets, offer=lambda frame: threads.append(threading.current_thread().name))
    await camera.start()
    await until(lambda: puppets.made)
    puppets.now.show(picture(1))
    await until(lambda: threads)
    await camera.stop()
    assert threads == ["camera-top"]


def test_the_sink_of_the_supervisor_is_what_sources_are_promised() -> None:
    from stream.reader import Reader

    promised = {name for name in vars(Sink) if not name.startswith("_")}
    assert promised <= set(dir(Reader))


async def test_a_camera_that_gets_another_source_counts_on_and_is_not_called_down() -> None:
    async with running() as top:
        top.puppets.now.show(picture(1))
        await until(lambda: top.camera.state.state == "live")
        other = Puppets()
        top.camera.reconnect(other)
        await until(lambda: other.made)
        other.now.show(picture(2))
        await until(lambda: len(top.frames) == 2)
        assert [frame.seq for frame in top.frames] == [1, 2]
        assert top.camera.stats().reconnects == {}
        assert top.names() == ["connecting", "live", "connecting", "live"]


async def test_what_the_old_source_said_of_its_clock_is_no_news_of_another_one() -> None:
    async with running() as top:
        top.puppets.now.do(lambda sink: sink.clock(4.0))
        await until(lambda: top.camera.stats().clock_offset_s == 4.0)
        top.camera.reconnect(Puppets())
        await until(lambda: top.camera.stats().clock_offset_s is None)


async def test_another_source_need_not_wait_for_the_back_off_of_the_first() -> None:
    async with running() as top:
        top.puppets.now.fail(Refused("the camera refuses this user or password (401)"))
        await until(lambda: top.camera.state.state == "refused")
        top.camera.reconnect(other := Puppets())
        await until(lambda: other.made, within_s=1.0)
        assert top.camera.state.state == "connecting"


class Remembering(Puppet):
    """Is told of the one before."""

    before: Source | None = None

    def resume(self, before: Source) -> None:
        self.before = before


async def test_a_source_that_can_go_on_is_told_where_the_one_before_ended() -> None:
    async with running(Remembering) as top:
        top.puppets.now.fail(Unreachable("the share is gone"))
        await until(lambda: len(top.puppets.made) == 2)
        top.camera.reconnect(other := Puppets())
        await until(lambda: other.made)
        top.camera.reconnect(again := Puppets(Remembering))
        await until(lambda: again.made)
        before = [made.before for made in (*top.puppets.made, again.now) if isinstance(made, Remembering)]
        assert before == [None, *top.puppets.made]


async def test_pictures_that_are_left_out_keep_a_camera_live_between_those_that_are_due() -> None:
    async with running(policy=CameraPolicy(fps=1, down_after_s=0.2)) as top:
        for n in range(60):
            top.puppets.now.show(picture(n))
            await asyncio.sleep(0.02)
        assert 1 <= len(top.frames) <= 3
        assert top.names() == ["connecting", "live"]
        await until(lambda: top.camera.state.state == "down")


async def test_the_first_picture_of_a_connection_is_due() -> None:
    async with running(policy=CameraPolicy(fps=0.05)) as top:
        for attempt in range(2):
            await until(lambda attempt=attempt: len(top.puppets.made) == attempt + 1)
            top.puppets.now.show(picture(attempt))
            await until(lambda attempt=attempt: len(top.frames) == attempt + 1)
            top.puppets.now.fail(Ended("the camera closed the stream"))


async def test_a_recording_that_is_over_gives_way_to_another_one() -> None:
    async with running() as top:
        top.puppets.now.fail(Ended("the recording is over", final=True))
        await top.camera.finished()
        top.camera.reconnect(other := Puppets())
        await until(lambda: other.made)
        other.now.show(picture(2))
        await until(lambda: top.camera.state.state == "live")


async def test_another_rate_and_other_limits_need_no_reconnect() -> None:
    async with running(policy=CameraPolicy(fps=5)) as top:
        for n in range(10):
            top.puppets.now.show(picture(n), taken_at=n * 0.05)
        await until(lambda: top.camera.stats().received == 10)
        few = len(top.frames)
        top.camera.retune(CameraPolicy(fps=20, frozen_after_s=0.1, down_after_s=60))
        for n in range(10, 20):
            top.puppets.now.show(picture(n), taken_at=n * 0.05)
        await until(lambda: len(top.frames) == few + 10)
        await until(lambda: top.camera.state.state == "frozen")
        assert len(top.puppets.made) == 1
