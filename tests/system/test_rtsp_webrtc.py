"""WebRTC cameras: two aiortc peers and real HTTP on loopback."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

import aioice.ice
import av
import httpx
import pytest
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription, VideoStreamTrack
from fastapi import FastAPI
from pydantic import SecretStr

from config.sources import WebrtcSource as WebrtcSettings
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.sources.base import build
from stream.sources.desk import DESK, PushRefused
from stream.web import whip as whip_routes
from tests.puppets import picture, until

TOKEN = "t0ken-that-nobody-may-see"


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; a test machine may have no other address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda **kind: ["127.0.0.1"])


class Moving(VideoStreamTrack):
    """30 pictures a second, each another one."""

    async def recv(self) -> av.VideoFrame:
        pts, time_base = await self.next_timestamp()
        frame = av.VideoFrame.from_ndarray(picture(pts % 97, (320, 240)), "rgb24")
        frame.pts, frame.time_base = pts, time_base
        return frame


class MediaServer:
    """A WHEP endpoint that nobody needs more than once at a time."""

    def __init__(self) -> None:
        self.peers: list[RTCPeerConnection] = []
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        self.requests.append(head.split(" ")[0])
        if fields.get("authorization") != f"bearer {TOKEN}":
            writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif head.startswith("POST"):
            sdp = await self.answer((await reader.readexactly(int(fields["content-length"]))).decode())
            length = f"Content-Length: {len(sdp)}\r\nConnection: close\r\n\r\n"
            writer.write(f"HTTP/1.1 201 Created\r\nLocation: /session/1\r\n{length}{sdp}".encode())
        else:
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        await writer.drain()
        writer.close()

    async def answer(self, offer: str) -> str:
        peer = new_peer()
        self.peers.append(peer)
        await peer.setRemoteDescription(RTCSessionDescription(offer, "offer"))
        peer.addTrack(Moving())
        await peer.setLocalDescription(await peer.createAnswer())
        return str(peer.localDescription.sdp)


def new_peer() -> RTCPeerConnection:
    return RTCPeerConnection(RTCConfiguration(iceServers=[]))


@contextlib.asynccontextmanager
async def whep(token: str = TOKEN) -> AsyncIterator[tuple[MediaServer, Camera, list[Frame]]]:
    media, frames = MediaServer(), list[Frame]()
    server = await asyncio.start_server(media.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/whep/top"
    settings = WebrtcSettings(type="webrtc", mode="whep", url=url, token=SecretStr(token))
    policy = CameraPolicy(fps=10, grace_s=5.0)
    camera = Camera("top", lambda: build("top", settings), offer=frames.append, policy=policy)
    async with server:
        await camera.start()
        try:
            yield media, camera, frames
        finally:
            await camera.stop()
            await asyncio.gather(*(peer.close() for peer in media.peers))


async def test_whep_pulls_pictures_and_says_goodbye() -> None:
    async with whep() as (media, camera, frames):
        await until(lambda: len(frames) > 3, within_s=15)
        assert frames[-1].pixels.shape == (240, 320, 3)
        assert camera.state.state == "live"
    assert media.requests == ["POST", "DELETE"]


async def test_whep_with_a_wrong_token_is_refused_and_nobody_sees_it() -> None:
    async with whep("wr0ng") as (_, camera, _frames):
        await until(lambda: camera.state.state == "refused")
        assert "refuses this token (401)" in camera.state.reason
        assert "wr0ng" not in camera.state.reason


async def test_whep_comes_back_after_the_server_closed() -> None:
    async with whep() as (media, _, frames):
        await until(lambda: len(frames) > 1, within_s=15)
        await media.peers[0].close()
        await until(lambda: len(media.peers) == 2, within_s=15)
        count = len(frames)
        await until(lambda: len(frames) > count, within_s=15)
        assert [frame.seq for frame in frames] == list(range(1, len(frames) + 1))


@pytest.fixture
def whip_settings() -> Iterator[WebrtcSettings]:
    yield WebrtcSettings(type="webrtc", mode="whip", token=SecretStr(TOKEN))


@contextlib.asynccontextmanager
async def whip(settings: WebrtcSettings) -> AsyncIterator[tuple[Camera, list[Frame]]]:
    frames: list[Frame] = []
    policy = CameraPolicy(fps=10, grace_s=5.0)
    camera = Camera("top", lambda: build("top", settings), offer=frames.append, policy=policy)
    await camera.start()
    try:
        await until(lambda: "waiting" in camera.state.reason)
        yield camera, frames
    finally:
        await camera.stop()


def client() -> httpx.AsyncClient:
    """Asks the page's own routes, without a socket."""
    page = FastAPI()
    page.include_router(whip_routes.build(DESK))
    return httpx.AsyncClient(transport=httpx.ASGITransport(page), base_url="http://page")


async def post(path: str, offer: str) -> tuple[str, str]:
    headers = {"content-type": "application/sdp", "authorization": f"Bearer {TOKEN}"}
    async with client() as http:
        reply = await http.post(path, content=offer, headers=headers)
    assert reply.status_code == 201
    return reply.headers["location"], reply.text


async def test_whip_takes_a_push_and_shows_it(whip_settings: WebrtcSettings) -> None:
    async with whip(whip_settings) as (camera, frames):
        peer = new_peer()
        peer.addTrack(Moving())
        await peer.setLocalDescription(await peer.createOffer())
        url, answer = await post("/whip/top", peer.localDescription.sdp)
        await peer.setRemoteDescription(RTCSessionDescription(answer, "answer"))
        await until(lambda: len(frames) > 3, within_s=15)
        assert camera.state.state == "live"
        with pytest.raises(PushRefused) as second:
            await DESK.push("top", f"Bearer {TOKEN}", peer.localDescription.sdp)
        assert second.value.status == 409
        assert not DESK.end("top", "another's key")
        async with client() as http:
            assert (await http.delete(url)).status_code == 200
        await until(lambda: camera.stats().reconnects == {"ended": 1})
        assert "said goodbye" in camera.state.reason
        await peer.close()


@pytest.mark.parametrize("authorization", [None, "Bearer other", "Basic " + TOKEN, "Bearer"])
async def test_whip_wants_its_token(whip_settings: WebrtcSettings, authorization: str | None) -> None:
    async with whip(whip_settings):
        with pytest.raises(PushRefused) as refused:
            await DESK.push("top", authorization, "v=0")
        assert refused.value.status == 401
        headers = {"content-type": "application/sdp"} | (
            {"authorization": authorization} if authorization else {}
        )
        async with client() as http:
            assert (await http.post("/whip/top", content="v=0", headers=headers)).status_code == 401
            assert (await http.post("/whip/top", content="v=0")).status_code == 415


async def test_whip_of_nonsense_is_refused_and_the_next_one_awaited(whip_settings: WebrtcSettings) -> None:
    async with whip(whip_settings) as (camera, _):
        with pytest.raises(PushRefused) as refused:
            await DESK.push("top", f"Bearer {TOKEN}", "no session description")
        assert refused.value.status == 400
        assert "no video" in str(refused.value)
        await until(lambda: camera.stats().reconnects.get("broken"))
        await until(lambda: "waiting" in camera.state.reason)


async def test_a_push_to_a_camera_that_does_not_wait_is_404() -> None:
    with pytest.raises(PushRefused) as refused:
        await DESK.push("nobody", None, "v=0")
    assert refused.value.status == 404
