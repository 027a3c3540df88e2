"""Our RTSP source against a server that nobody here wrote (GStreamer's), and long fuzzing against our own."""

import asyncio
import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.camera import CameraPolicy
from stream.sim.auth import Credentials
from tests.puppets import until
from tests.servers import rtsp_sim
from tests.system.test_rtsp import watching

SERVER = Path(__file__).parents[1] / "gst_server.py"
WHO = Credentials("inspect", "s3cret:@/%#")


@contextlib.contextmanager
def gstreamer(*who: str) -> Iterator[tuple[str, int]]:
    """(address, process id) of a running server."""
    with subprocess.Popen(["/usr/bin/python3", SERVER, *who], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        try:
            yield f"rtsp://127.0.0.1:{process.stdout.readline().strip()}/test", process.pid
        finally:
            process.kill()


@pytest.mark.debian
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_a_foreign_server_s_pictures_come_with_its_own_clock(transport: str) -> None:
    with gstreamer() as (url, _):
        async with watching(url, transport=transport) as top:
            await until(lambda: top.frames and top.frames[-1].clock == "camera", within_s=20)
            assert top.frames[-1].pixels.shape == (480, 640, 3)


@pytest.mark.debian
@pytest.mark.parametrize(("codec", "said"), [("h265", "HEVC"), ("jpeg", "MJPEG")])
@pytest.mark.parametrize("transport", ["tcp", "udp"])
async def test_h265_and_mjpeg_are_decoded_too(codec: str, said: str, transport: str) -> None:
    with gstreamer("--codec", codec) as (url, _):
        async with watching(url, transport=transport) as top:
            await until(lambda: top.frames and top.frames[-1].clock == "camera", within_s=30)
            assert top.frames[-1].pixels.shape == (480, 640, 3)
            assert said in top.camera.state.reason.upper()


@pytest.mark.debian
async def test_of_a_session_with_two_videos_either_can_be_chosen() -> None:
    with gstreamer("--codec", "two") as (url, _):
        for video, shape in ((0, (480, 640, 3)), (1, (240, 320, 3))):
            async with watching(url, video=video) as top:
                await until(lambda: top.frames, within_s=20)
                assert top.frames[-1].pixels.shape == shape
        async with watching(url, video=2) as top:
            await until(lambda: top.is_("refused"), within_s=20)
            assert "has videos 0 to 1, but not 2" in top.camera.state.reason


@pytest.mark.debian
async def test_a_foreign_server_s_digest_takes_our_password_and_no_other() -> None:
    with gstreamer(WHO.username, WHO.password) as (url, _):
        async with watching(url, who=WHO) as top:
            await until(lambda: top.is_("live"), within_s=20)
        async with watching(url, who=Credentials("inspect", "wrong")) as top:
            await until(lambda: top.is_("refused"), within_s=20)


@pytest.mark.debian
async def test_a_foreign_server_that_is_stopped_and_goes_on_is_found_again() -> None:
    with gstreamer() as (url, pid):
        async with watching(url, read_timeout_s=1.0, connect_timeout_s=2.0) as top:
            await until(lambda: top.is_("live"), within_s=20)
            os.kill(pid, signal.SIGSTOP)
            await until(lambda: top.camera.stats().reconnects.get("stalled"), within_s=10)
            os.kill(pid, signal.SIGCONT)
            await until(lambda: top.is_("live"), within_s=20)


@pytest.mark.soak
async def test_ten_thousand_damaged_pictures_cost_neither_memory_nor_threads() -> None:
    with rtsp_sim(fps=100) as sim:
        async with watching(sim.url(), policy=CameraPolicy(fps=10)) as top:
            await until(lambda: top.is_("live"))
            sim.set("garbage", 10_000)
            await asyncio.sleep(10.0)
            memory, threads, first = resident_mb(), threading.active_count(), int(sim.state()["frames"])
            await until(lambda: int(sim.state()["frames"]) > first + 10_000, within_s=600)
            assert threading.active_count() <= threads + 1
            assert resident_mb() < memory + 50
            sim.set("garbage", 0)
            top.frames.clear()
            await until(lambda: top.frames and top.is_("live"), within_s=30)


def resident_mb() -> float:
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20
