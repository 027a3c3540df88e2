"""One drawing for all viewers; a slow viewer slows nobody and sees the newest."""

import asyncio
from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from stream.overlay import Absence
from stream.web.errors import Full
from stream.web.hub import Hub
from stream.web.scene import PLAIN, Picture
from stream.web.viewers import Seats, Viewer
from tests.webline import FakeLine, inspection


@pytest.fixture
def line() -> FakeLine:
    return FakeLine.of("top", "side")


@pytest_asyncio.fixture
async def hub(line: FakeLine) -> AsyncIterator[Hub]:
    hub = Hub(line.view().cameras, seats=Seats(4), max_fps=1000)
    yield hub
    hub.close()


async def next_of(viewer: Viewer[Picture]) -> Picture:
    picture = await asyncio.wait_for(viewer.next(), 5)
    assert picture is not None
    return picture


async def test_nothing_is_drawn_while_nobody_watches(hub: Hub) -> None:
    for seq in range(5):
        hub.show(inspection(seq=seq))
    await asyncio.sleep(0)
    assert hub.counts().drawn == 0


async def test_a_new_viewer_sees_the_newest_picture_at_once(hub: Hub) -> None:
    old, new = inspection(seq=1), inspection(seq=2)
    hub.show(old)
    hub.show(new)
    with hub.watch(["top"]) as viewer:
        assert (await next_of(viewer)).taken_at == new.frame.taken_at


async def test_many_viewers_share_one_drawing(hub: Hub) -> None:
    with hub.watch(["top"]) as a, hub.watch(["top"]) as b, hub.watch(["top"]) as c:
        for viewer in (a, b, c):
            await next_of(viewer)  # WAITING
        drawn = hub.counts().drawn
        hub.show(inspection())
        pictures = [await next_of(viewer) for viewer in (a, b, c)]
        assert all(picture is pictures[0] for picture in pictures)
        assert hub.counts().drawn == drawn + 1


async def test_a_viewer_that_comes_later_gets_the_same_drawing(hub: Hub) -> None:
    hub.show(inspection())
    with hub.watch(["top"]) as first:
        shown = await next_of(first)
        with hub.watch(["top"]) as second:
            assert await next_of(second) is shown
    assert hub.counts().drawn == 1


async def test_a_slow_viewer_finds_the_newest_and_its_misses_are_counted(hub: Hub) -> None:
    with hub.watch(["top"]) as slow, hub.watch(["top"]) as quick:
        for viewer in (slow, quick):
            await next_of(viewer)
        for seq in range(1, 5):
            newest = inspection(seq=seq)
            hub.show(newest)
            assert (await next_of(quick)).taken_at == newest.frame.taken_at
        assert (await next_of(slow)).taken_at == newest.frame.taken_at
        assert slow.dropped == 3
    assert hub.counts().dropped == 3


async def test_pictures_faster_than_the_drawing_are_overtaken_and_counted(hub: Hub) -> None:
    with hub.watch(["top"]) as viewer:
        await next_of(viewer)
        for seq in range(1, 11):
            newest = inspection(seq=seq)
            hub.show(newest)
        await next_of(viewer)
        assert (await next_of(viewer)).taken_at == newest.frame.taken_at
        assert hub.counts().overtaken == 8


async def test_one_seat_watches_many_cameras_in_turn(hub: Hub) -> None:
    hub.show(inspection("top"))
    hub.show(inspection("side"))
    with hub.watch(["top", "side"]) as viewer:
        assert {(await next_of(viewer)).camera, (await next_of(viewer)).camera} == {"top", "side"}


async def test_looks_are_drawn_apart(hub: Hub) -> None:
    hub.show(inspection(box=(40, 40, 120, 120)))
    with hub.watch(["top"]) as drawn, hub.watch(["top"], PLAIN) as plain:
        assert (await next_of(drawn)).jpeg != (await next_of(plain)).jpeg


async def test_a_camera_that_goes_down_shows_so_and_keeps_saying_since_when(hub: Hub, line: FakeLine) -> None:
    hub.show(inspection())
    with hub.watch(["top"]) as viewer:
        assert (await next_of(viewer)).live
        line.set("top", state="down", reason="No answer.", since=100.0)
        hub.camera_changed()
        offline = await next_of(viewer)
        assert not offline.live
        assert not (await next_of(viewer)).live  # the ticking picture
        hub.show(inspection(seq=2))  # a late frame changes nothing
        line.set("top", state="live", reason="")
        hub.camera_changed()
        while not (back := await next_of(viewer)).live:
            pass
        assert back.jpeg != offline.jpeg


async def test_a_camera_that_is_back_shows_no_picture_from_before(hub: Hub, line: FakeLine) -> None:
    hub.show(inspection())
    on_the_device = inspection(seq=2)
    with hub.watch(["top"]) as viewer:
        assert (await next_of(viewer)).live
        line.set("top", state="down", reason="No answer.")
        hub.camera_changed()
        assert not (await next_of(viewer)).live
        hub.show(on_the_device)
        line.set("top", state="live", reason="")
        hub.camera_changed()
        assert not (await next_of(viewer)).live  # WAITING
        new = inspection(seq=3)
        hub.show(new)
        while not (shown := await next_of(viewer)).live:
            pass
        assert shown.taken_at == new.frame.taken_at


async def test_a_camera_that_was_removed_says_so(hub: Hub, line: FakeLine) -> None:
    hub.show(inspection())
    with hub.watch(["top"]) as viewer:
        await next_of(viewer)
        line.cameras = line.cameras[1:]
        assert not (await next_of(viewer)).live


async def test_a_camera_that_was_removed_says_since_when(line: FakeLine) -> None:
    now = [1000.0]
    hub = Hub(line.view().cameras, seats=Seats(4), max_fps=1000, utc=lambda: now[0])
    with hub.watch(["top"]) as viewer:
        await next_of(viewer)
        line.cameras = []
        hub.camera_changed()
        now[0] = 1090.0
        hub.camera_changed()
        scene = hub._scene("top")
        assert isinstance(scene, Absence) and scene.since == 1000.0
    hub.close()


async def test_seats_are_bounded_and_given_back(hub: Hub) -> None:
    viewers = [hub.watch(["top"]) for _ in range(4)]
    with pytest.raises(Full, match="4 streams"):
        hub.watch(["top"])
    with viewers[0]:
        pass
    with hub.watch(["top"]), viewers[1], viewers[2], viewers[3]:
        pass


async def test_closing_ends_every_wait(hub: Hub) -> None:
    with hub.watch(["top"]) as viewer:
        await next_of(viewer)
        waiting = asyncio.ensure_future(viewer.next())
        await asyncio.sleep(0)
        hub.close()
        assert await waiting is None
    with hub.watch(["top"]) as late:
        assert await late.next() is None


async def test_a_drawing_that_fails_does_not_stop_the_next(hub: Hub) -> None:
    said = asyncio.Event()
    asyncio.get_running_loop().set_exception_handler(lambda *_: said.set())
    broken = inspection(seq=1)
    object.__setattr__(broken, "map_small", None)
    with hub.watch(["top"]) as viewer:
        await next_of(viewer)
        hub.show(broken)
        await asyncio.wait_for(said.wait(), 5)
        hub.show(inspection(seq=2))
        assert (await next_of(viewer)).live
