"""RTSP over real sockets: the camera simulator, what it does wrong, and what we make of it."""

import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator

import pytest
from pydantic import SecretStr

from config.sources import RtspSource as RtspSettings
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.condition import CameraState
from stream.sim.auth import Credentials
from stream.sources.base import build
from tests.puppets import until
from tests.servers import RunningSim, rtsp_sim

WHO = Credentials("ins:pect@1".replace(":", ""), "p@:/%#? ü")


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    with rtsp_sim(fps=20) as running:
        yield running


class Watched:
    """A camera of the real kind, and all that it told."""

    def __init__(self, settings: RtspSettings, policy: CameraPolicy) -> None:
        self.frames: list[Frame] = []
        self.states: list[CameraState] = []
        self.camera = Camera(
            "top",
            lambda: build("top", settings),
            offer=self.frames.append,
            policy=policy,
            on_state=self.states.append,
            rng=lambda: 0.5,
        )

    def is_(self, state: str) -> bool:
        return self.camera.state.state == state


@contextlib.asynccontextmanager
async def watching(
    url: str,
    *,
    transport: str = "tcp",
    who: Credentials | None = None,
    read_timeout_s: float = 1.0,
    policy: CameraPolicy | None = None,
) -> AsyncIterator[Watched]:
    settings = RtspSettings(
        type="rtsp",
        url=url,
        transport=transport,
        username=who.username if who else None,
        password=SecretStr(who.password) if who else None,
        connect_timeout_s=2.0,
        read_timeout_s=read_timeout_s,
    )
    watched = Watched(settings, policy or CameraPolicy(fps=20, down_after_s=2.0))
    await watched.camera.start()
    try:
        yield watched
    finally:
        await watched.camera.stop()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_pictures_come_at_native_size_and_in_time(sim: RunningSim, transport: str) -> None:
    async with watching(sim.url(), transport=transport) as top:
        await until(lambda: len(top.frames) > 20)
        frame = top.frames[-1]
        assert frame.pixels.shape == (240, 320, 3)
        assert frame.clock == "camera"
        assert abs(frame.taken_at - time.time()) < 0.5
        assert transport.upper() in top.camera.state.reason


async def test_decimation_leaves_out_before_conversion(sim: RunningSim) -> None:
    async with watching(sim.url(), policy=CameraPolicy(fps=5)) as top:
        await until(lambda: top.camera.stats().received >= 40)
        stats = top.camera.stats()
        assert stats.offered + stats.decimated in (stats.received, stats.received - 1)  # one is on its way
        assert 8 <= stats.offered <= 13


@pytest.mark.parametrize("scheme", ["basic", "digest"])
async def test_passwords_of_all_characters_work(scheme: str) -> None:
    with rtsp_sim(credentials=WHO, schemes=(scheme,)) as guarded:
        async with watching(guarded.url(), who=WHO) as top:
            await until(lambda: top.is_("live"))


async def test_a_wrong_password_is_refused_in_words_and_never_shown(
    capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = Credentials("inspect", "s3cr3t%@/word")
    with rtsp_sim(credentials=WHO) as guarded:
        async with watching(guarded.url(), who=wrong) as top:
            await until(lambda: top.is_("refused"))
            assert "refuses this user or password (401)" in top.camera.state.reason
    said = capfd.readouterr()
    everything = said.out + said.err + caplog.text + repr(top.states) + repr(vars(top.camera))
    assert "s3cr3t" not in everything


async def test_a_path_that_is_not_there_is_refused(sim: RunningSim) -> None:
    async with watching(sim.url() + "-not") as top:
        await until(lambda: top.is_("refused"))
        assert "404" in top.camera.state.reason


async def test_a_port_where_nothing_listens_is_unreachable_and_soon_down() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    async with watching(f"rtsp://127.0.0.1:{port}/top", policy=CameraPolicy(down_after_s=0.5)) as top:
        await until(lambda: top.is_("down"))
        assert "connection refused" in top.camera.state.reason


async def test_a_server_that_accepts_and_says_nothing_meets_the_connect_deadline() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with watching(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/top") as top:
            await until(lambda: top.camera.stats().reconnects)
            assert top.camera.stats().reconnects.keys() == {"unreachable"}


async def test_a_killed_connection_comes_back_within_three_seconds_and_frames_count_on(
    sim: RunningSim,
) -> None:
    async with watching(sim.url()) as top:
        await until(lambda: top.is_("live"))
        sim.set("kill", 1)
        before, start = top.camera.stats().offered, time.monotonic()
        await until(lambda: not top.is_("live"))
        await until(lambda: top.is_("live"))
        assert time.monotonic() - start < 3.0
        await until(lambda: len(top.frames) > before + 2)
        assert [frame.seq for frame in top.frames] == list(range(1, len(top.frames) + 1))


async def test_a_short_pause_is_no_reconnect(sim: RunningSim) -> None:
    async with watching(sim.url(), read_timeout_s=3.0) as top:
        await until(lambda: top.is_("live"))
        sim.set("stall", 0.8)
        count = top.camera.stats().received + 20
        await until(lambda: top.camera.stats().received > count)
        assert top.camera.stats().reconnects == {}


async def test_a_stalled_server_is_left_after_the_read_deadline(sim: RunningSim) -> None:
    async with watching(sim.url(), read_timeout_s=0.5) as top:
        await until(lambda: top.is_("live"))
        sim.set("stall", 1.2)
        await until(lambda: top.camera.stats().reconnects.get("stalled"))
        await until(lambda: top.is_("live"))


async def test_a_camera_that_sends_one_picture_for_ever_is_frozen(sim: RunningSim) -> None:
    async with watching(sim.url(), policy=CameraPolicy(fps=20, frozen_after_s=0.6)) as top:
        await until(lambda: top.is_("live"))
        sim.set("freeze", 4.0)
        await until(lambda: top.is_("frozen"))
        await until(lambda: top.is_("live"))
        assert top.camera.stats().reconnects == {}


async def test_garbage_is_survived(sim: RunningSim) -> None:
    async with watching(sim.url()) as top:
        await until(lambda: top.is_("live"))
        sim.set("garbage", 1.5)
        count = len(top.frames)
        await until(lambda: top.camera.stats().received > count + 40, within_s=10)
        await until(lambda: top.is_("live"))


async def test_a_server_that_is_gone_and_returns_is_found_again() -> None:
    with rtsp_sim() as first:
        port = first.port
        async with watching(first.url(), policy=CameraPolicy(down_after_s=0.6)) as top:
            await until(lambda: top.is_("live"))
            first.set("refuse", 1.2)
            await until(lambda: top.is_("down"))
            await until(lambda: top.is_("live"))
        assert top.camera.stats().reconnects["ended"] == 1
        assert port == first.port
