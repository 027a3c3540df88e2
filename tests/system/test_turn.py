"""Pictures that only come through a TURN server, which wants a name and a password: Debian's coturn."""

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import aioice.ice
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from pydantic import SecretStr

from config.ice import IceServer
from config.sources import WebrtcSource
from stream.ice import rtc_servers
from stream.sources.desk import DESK
from stream.web.page import LivePage
from stream.web.rtc import RtcOptions
from tests.ports import free_port
from tests.puppets import until
from tests.system.test_rtsp_webrtc import Moving, whip
from tests.system.test_web_video import Watcher
from tests.webline import FakeLine

pytestmark = pytest.mark.debian

NAME, PASSWORD = "linewatch", "turn-s3cret"


@contextlib.asynccontextmanager
async def coturn(folder: Path) -> AsyncIterator[int]:
    """A server on loopback that knows one user; gives its port, for UDP and TCP."""
    port = free_port()
    binary = shutil.which("turnserver")
    assert binary is not None, "coturn is not installed: deploy/debian.sh brings it"
    words = ["-n", "--no-cli", "--no-tls", "--no-dtls", "--lt-cred-mech", "--realm", "line"]
    words += ["--user", f"{NAME}:{PASSWORD}", "--listening-ip", "127.0.0.1", "--relay-ip", "127.0.0.1"]
    words += ["--listening-port", str(port), "--allow-loopback-peers", "--log-file", str(folder / "turn.log")]
    words += ["--pidfile", str(folder / "turn.pid"), "--userdb", str(folder / "turn.db")]
    server = await asyncio.create_subprocess_exec(
        binary, *words, stdout=asyncio.subprocess.DEVNULL, stderr=asyncio.subprocess.DEVNULL
    )
    try:
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", port)
                writer.close()
                await writer.wait_closed()
                break
            assert server.returncode is None, "coturn ended"
            await asyncio.sleep(0.02)
        yield port
    finally:
        server.terminate()
        await server.wait()


@pytest.fixture(autouse=True)
def no_way_but_the_relay(monkeypatch: pytest.MonkeyPatch) -> None:
    """No address of its own on either side: what is left is what the server lends."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **kind: [])


def outside(port: int, transport: str = "udp") -> RTCPeerConnection:
    """Somebody else, whom the server knows."""
    url = f"turn:127.0.0.1:{port}?transport={transport}"
    server = IceServer(url=url, username=NAME, credential=SecretStr(PASSWORD))
    return RTCPeerConnection(RTCConfiguration(iceServers=rtc_servers([server])))


@pytest.mark.parametrize("transport", ["udp", "tcp"])
async def test_a_camera_pushes_through_a_turn_server_that_wants_a_password(
    tmp_path: Path, transport: str
) -> None:
    async with coturn(tmp_path) as port:
        url = f"turn:127.0.0.1:{port}?transport={transport}"
        server = IceServer(url=url, username=NAME, credential=SecretStr(PASSWORD))
        settings = WebrtcSource(type="webrtc", mode="whip", ice_servers=(server,))
        async with whip(settings) as (camera, frames):
            peer = outside(port, transport)
            peer.addTrack(Moving())
            await peer.setLocalDescription(await peer.createOffer())
            _, answer = await DESK.push("top", None, peer.localDescription.sdp)
            assert "typ relay" in answer and "typ host" not in answer
            await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
            await until(lambda: len(frames) > 3, within_s=20)
            assert camera.state.state == "live"
            await peer.close()


async def test_a_turn_server_that_refuses_us_is_said_without_the_password(tmp_path: Path) -> None:
    async with coturn(tmp_path) as port:
        server = IceServer(url=f"turn:127.0.0.1:{port}", username=NAME, credential=SecretStr("wr0ng"))
        settings = WebrtcSource(type="webrtc", mode="whip", ice_servers=(server,), connect_timeout_s=3)
        async with whip(settings) as (camera, _):
            peer = outside(port)
            peer.addTrack(Moving())
            await peer.setLocalDescription(await peer.createOffer())
            await DESK.push("top", None, peer.localDescription.sdp)
            await until(lambda: "gave no relay" in camera.state.reason, within_s=15)
            assert f"turn:127.0.0.1:{port} gave no relay; look at" in camera.state.reason
            assert "wr0ng" not in camera.state.reason
            await peer.close()


@pytest.mark.parametrize("password", [PASSWORD, "wr0ng"])
async def test_live_video_takes_the_relay_too_and_says_when_there_is_none(
    tmp_path: Path, password: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with coturn(tmp_path) as port:
        server = IceServer(url=f"turn:127.0.0.1:{port}", username=NAME, credential=SecretStr(password))
        rtc = RtcOptions(ice_servers=(server,), udp_ports=(52050, 52060))
        page = LivePage(FakeLine.of("top").view(), listen="127.0.0.1:0", max_viewers=3, rtc=rtc)
        await page.start()
        answers = []
        for _ in range(2):
            watcher = Watcher(page, outside(port))
            await watcher.watch()
            answers.append(watcher.answer)
            await watcher.peer.close()
        await page.stop()
    said = [record.message for record in caplog.records if "gave no relay" in record.message]
    if password == PASSWORD:
        assert all("typ relay" in answer for answer in answers) and said == []
    else:
        assert len(said) == 1 and "wr0ng" not in caplog.text
