"""One simulated camera and its viewers, without sockets."""

import asyncio
import struct
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import pytest

from stream.sim.camera import MAX_BACKLOG_BYTES, SimCamera, Viewer
from stream.sim.faults import BadFault
from stream.sim.shows import PatternShow

FPS = 100


class Outlet:
    """Keeps what it is given; `backlog` is what it claims to owe."""

    def __init__(self) -> None:
        self.packets: list[bytes] = []
        self.reports: list[bytes] = []
        self.backlog, self.closed = 0, False

    def send(self, packets: list[bytes]) -> None:
        self.packets += packets

    def send_rtcp(self, packet: bytes) -> None:
        self.reports.append(packet)

    def backlog_bytes(self) -> int:
        return self.backlog

    def close(self) -> None:
        self.closed = True

    @property
    def stamps(self) -> list[int]:
        return list(dict.fromkeys(struct.unpack("!I", p[4:8])[0] for p in self.packets))


@asynccontextmanager
async def filming(camera: SimCamera) -> AsyncIterator[None]:
    film = asyncio.create_task(camera.run())
    try:
        yield
    finally:
        film.cancel()
        await asyncio.gather(film, return_exceptions=True)


async def until(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():  # noqa: ASYNC110 - what is waited for happens in the camera, which tells nobody
            await asyncio.sleep(0.005)


@pytest.fixture
def camera() -> SimCamera:
    return SimCamera("top", PatternShow("machined", 1, (320, 240)), FPS)


def attach(camera: SimCamera) -> tuple[Viewer, Outlet]:
    outlet = Outlet()
    viewer = Viewer(outlet)
    camera.attach(viewer)
    return viewer, outlet


async def test_a_picture_is_encoded_once_for_all_viewers(camera: SimCamera) -> None:
    _, a = attach(camera)
    _, b = attach(camera)
    async with filming(camera):
        await until(lambda: len(b.stamps) >= 5)
    assert a.stamps == b.stamps and camera.frames == len(a.stamps)


async def test_who_joins_late_begins_with_a_key_picture_at_once(camera: SimCamera) -> None:
    attach(camera)
    async with filming(camera):
        await until(lambda: camera.frames >= 5)
        _, late = attach(camera)
        await until(lambda: len(late.packets) > 0)
    assert late.packets[0][12] & 0x1F == 24  # parameter sets, and with them a key picture
    assert len(late.reports) == 1


async def test_a_slow_viewer_loses_pictures_up_to_a_key_one_and_slows_nobody(camera: SimCamera) -> None:
    slow, slow_outlet = attach(camera)
    _, quick = attach(camera)
    async with filming(camera):
        await until(lambda: len(slow_outlet.stamps) >= 2)
        slow_outlet.backlog = MAX_BACKLOG_BYTES + 1
        await until(lambda: slow.dropped >= 5)
        had = len(slow_outlet.packets)
        slow_outlet.backlog = 0
        await until(lambda: len(slow_outlet.packets) > had)
    assert slow_outlet.packets[had][12] & 0x1F == 24
    assert len(quick.stamps) == camera.frames


async def test_sequence_numbers_have_no_gap_where_pictures_were_dropped(camera: SimCamera) -> None:
    _, outlet = attach(camera)
    async with filming(camera):
        camera.set("drop", "0.5")
        await until(lambda: camera.dropped >= 3 and len(outlet.packets) > 10)
    numbers = [struct.unpack("!H", p[2:4])[0] for p in outlet.packets]
    assert all((b - a) % 65_536 == 1 for a, b in pairwise(numbers))


async def test_lost_packets_leave_gaps(camera: SimCamera) -> None:
    viewer, outlet = attach(camera)
    camera.set("lose", "0.5")
    async with filming(camera):
        await until(lambda: viewer.packets >= 40)
    assert 0.2 * viewer.packets < len(outlet.packets) < 0.8 * viewer.packets


async def test_nothing_is_filmed_while_nobody_watches_and_nothing_counts_as_skipped(
    camera: SimCamera,
) -> None:
    async with filming(camera):
        viewer, outlet = attach(camera)
        await until(lambda: len(outlet.stamps) >= 2)
        camera.detach(viewer)
        await asyncio.sleep(0)
        frames, skipped = camera.frames, camera.skipped
        await until(lambda: camera.now_s() > 0.5)
        assert camera.frames <= frames + 1  # one may have been in hand
        attach(camera)
        await until(lambda: camera.frames > frames + 1)
    assert camera.skipped - skipped < 0.3 * FPS


async def test_goodbye_is_said_to_every_viewer(camera: SimCamera) -> None:
    _, outlet = attach(camera)
    camera.close()
    assert outlet.closed and outlet.reports[-1][1] == 203


async def test_a_cut_leaves_a_picture_without_its_end(camera: SimCamera) -> None:
    _, outlet = attach(camera)
    camera.set("kill", "1")
    assert outlet.closed and not outlet.packets[-1][1] & 0x80


@pytest.mark.parametrize(
    ("name", "value"), [("phase", "lunch"), ("size", "63x64"), ("size", "x"), ("nap", "1")]
)
async def test_what_cannot_be_set_is_refused(camera: SimCamera, name: str, value: str) -> None:
    with pytest.raises(BadFault):
        camera.set(name, value)
