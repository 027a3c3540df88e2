"""WebRTC cameras: two aiortc peers and real HTTP on loopback."""

import asyncio
import contextlib
import socket
import time
from collections.abc import AsyncIterator, Iterator
from typing import Any

import aioice.ice
import av
import httpx
import pytest
from aiortc import (
    RTCConfiguration,
    RTCPeerConnection,
    RTCRtpSender,
    RTCSessionDescription,
    VideoStreamTrack,
    rtcrtpreceiver,
)
from aiortc.codecs import h264, vpx
from aiortc.mediastreams import AudioStreamTrack
from fastapi import FastAPI
from pydantic import SecretStr

from config.sources import WebrtcSource as WebrtcSettings
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.sources import webrtc
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

    def __init__(self, session: str) -> None:
        self.session = session
        self.peers: list[RTCPeerConnection] = []
        self.requests: list[str] = []

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append("?")
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        fields = dict(line.lower().split(": ", 1) for line in head.split("\r\n")[1:] if ": " in line)
        self.requests[-1] = head.split(" ")[0]
        if fields.get("authorization") != f"bearer {TOKEN}":
            writer.write(b"HTTP/1.1 401 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        elif head.startswith("POST"):
            sdp = await self.answer((await reader.readexactly(int(fields["content-length"]))).decode())
            more = f"Location: {self.session.format(**fields)}\r\nContent-Length: {len(sdp)}\r\n"
            writer.write(f"HTTP/1.1 201 Created\r\n{more}Connection: close\r\n\r\n{sdp}".encode())
        elif "/mute" in head:
            await reader.read()  # until the client has waited long enough
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
async def whep(
    token: str = TOKEN, path: str = "whep/top", session: str = "/session/1"
) -> AsyncIterator[tuple[MediaServer, Camera, list[Frame]]]:
    media, frames = MediaServer(session), list[Frame]()
    server = await asyncio.start_server(media.serve, "127.0.0.1", 0)
    url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/{path}"
    settings = WebrtcSettings(type="webrtc", mode="whep", url=url, token=SecretStr(token))
    policy = CameraPolicy(fps=10)
    camera = Camera("top", lambda: build("top", settings), offer=frames.append, policy=policy)
    async with server:
        await camera.start()
        try:
            yield media, camera, frames
        finally:
            await camera.stop()
            await asyncio.gather(*(peer.close() for peer in media.peers))


@pytest.mark.parametrize("session", ["/session/1", "/mute"])
async def test_whep_pulls_pictures_and_says_goodbye_though_nobody_answers(session: str) -> None:
    async with whep(session=session) as (media, camera, frames):
        await until(lambda: len(frames) > 3, within_s=15)
        assert frames[-1].pixels.shape == (240, 320, 3)
        assert camera.state.state == "live"
    assert media.requests == ["POST", "DELETE"] and camera.stats().abandoned == 0


async def test_whep_with_a_wrong_token_is_refused_and_nobody_sees_it() -> None:
    async with whep("wr0ng", "admin:Geheim99/whep") as (_, camera, _frames):
        await until(lambda: camera.state.state == "refused")
        assert "/admin:***/whep" in camera.state.reason
        assert "refuses this token (401)" in camera.state.reason
        assert "wr0ng" not in camera.state.reason and "Geheim" not in camera.state.reason


@pytest.mark.parametrize("session", ["http://[nowhere/1", "https://{host}/1"])
async def test_a_session_s_address_that_is_none_or_speaks_otherwise_is_left_alone(session: str) -> None:
    async with whep(session=session) as (media, _, frames):
        await until(lambda: len(frames) > 1, within_s=15)
    assert media.requests == ["POST"]


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


async def push(peer: RTCPeerConnection) -> str:
    """What the peer has goes to the camera; the address that ends it."""
    headers = {"content-type": "application/sdp", "authorization": f"Bearer {TOKEN}"}
    await peer.setLocalDescription(await peer.createOffer())
    async with client() as http:
        reply = await http.post("/whip/top", content=peer.localDescription.sdp, headers=headers)
    assert reply.status_code == 201
    await peer.setRemoteDescription(RTCSessionDescription(reply.text, "answer"))
    return str(reply.headers["location"])


async def test_whip_takes_a_push_and_shows_it(whip_settings: WebrtcSettings) -> None:
    async with whip(whip_settings) as (camera, frames):
        peer = new_peer()
        peer.addTrack(Moving())
        url = await push(peer)
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


async def test_sound_and_a_second_video_are_declined_and_not_heaped_up(whip_settings: WebrtcSettings) -> None:
    async with whip(whip_settings) as (_, frames):
        peer = new_peer()
        for track in (AudioStreamTrack(), Moving(), Moving()):
            peer.addTrack(track)
        await push(peer)
        assert [e.currentDirection for e in peer.getTransceivers()] == ["inactive", "sendonly", "inactive"]
        await until(lambda: len(frames) > 3, within_s=15)
        await peer.close()


class SlowDecoder:
    """A machine that can do three pictures a second."""

    def __init__(self, decoder: Any) -> None:
        self._decoder = decoder

    def decode(self, encoded_frame: object) -> Any:
        time.sleep(0.3)
        return self._decoder.decode(encoded_frame)


async def test_a_push_that_cannot_be_decoded_in_time_ends_in_words_before_its_pictures_are_old(
    whip_settings: WebrtcSettings, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    decoder = rtcrtpreceiver.get_decoder
    monkeypatch.setattr(rtcrtpreceiver, "get_decoder", lambda codec: SlowDecoder(decoder(codec)))
    monkeypatch.setattr(webrtc, "_MAX_UNDECODED", 30)
    async with whip(whip_settings) as (camera, _):
        peer = new_peer()
        peer.addTrack(Moving())
        await push(peer)
        await until(lambda: camera.stats().reconnects == {"broken": 1}, within_s=20)
        await until(lambda: "waiting" in camera.state.reason)
        assert "faster than they can be decoded here" in camera.state.reason
        assert camera.stats().abandoned == 0 and "hangs" not in caplog.text  # for all that waited
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


@pytest.mark.parametrize(
    ("dropped", "said"),
    [
        (("a=mid", "a=group"), "a=mid"),
        (("a=fingerprint",), "no a=fingerprint"),
        (("a=ice-pwd",), "cannot be read"),
        (("a=rtpmap",), "cannot be read"),
    ],
)
async def test_a_push_that_lacks_what_a_connection_needs_is_refused_in_words(
    whip_settings: WebrtcSettings, dropped: tuple[str, ...], said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with whip(whip_settings) as (camera, _):
        peer = new_peer()
        peer.addTrack(Moving())
        peer.addTransceiver("audio")
        await peer.setLocalDescription(await peer.createOffer())
        lines = peer.localDescription.sdp.splitlines(keepends=True)
        poor = "".join(line for line in lines if not line.startswith(dropped))
        with pytest.raises(PushRefused, match=said):
            await DESK.push("top", f"Bearer {TOKEN}", poor)
        await until(lambda: camera.stats().reconnects.get("broken"))
        await peer.close()
    assert "Traceback" not in caplog.text


async def test_a_push_that_contradicts_itself_is_broken_and_no_bug(whip_settings: WebrtcSettings) -> None:
    async with whip(whip_settings) as (camera, _):
        peer = new_peer()
        peer.addTrack(Moving())
        peer.createDataChannel("aiortc cannot close this one")
        await peer.setLocalDescription(await peer.createOffer())
        half = peer.localDescription.sdp.replace("m=video", "x=video")
        with pytest.raises(PushRefused, match="holds no video"):
            await DESK.push("top", f"Bearer {TOKEN}", half)
        await until(lambda: camera.stats().reconnects == {"broken": 1})
        await peer.close()


def lose_a_picture(peer: RTCPeerConnection) -> None:
    """The next one, for good: it doesn't get through when it is sent again either."""
    transport = peer.getSenders()[0].transport
    send, lost = transport._send_rtp, list[bytes]()

    async def lossy(data: bytes) -> None:
        is_rtcp = 192 <= data[1] <= 223
        if not is_rtcp and not lost:
            lost.append(data[4:8])
        if is_rtcp or data[4:8] != lost[0]:
            await send(data)

    transport._send_rtp = lossy


@pytest.mark.parametrize("codec", ["VP8", "H264"])
async def test_pictures_that_a_lost_one_spoils_are_left_out_until_a_key_picture(
    codec: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (h264, vpx):
        monkeypatch.setattr(module, "PACKET_MAX", 150)  # aiortc waits for a lost packet until 512 others came
    settings = WebrtcSettings(type="webrtc", mode="whip", token=SecretStr(TOKEN), read_timeout_s=30)
    async with whip(settings) as (camera, frames):
        peer = new_peer()
        peer.addTrack(Moving())
        offered = RTCRtpSender.getCapabilities("video").codecs
        peer.getTransceivers()[0].setCodecPreferences([c for c in offered if c.mimeType == f"video/{codec}"])
        await push(peer)
        await until(lambda: len(frames) > 3, within_s=15)
        assert camera.stats().skipped == {}
        lose_a_picture(peer)
        await until(lambda: camera.stats().skipped.get("damaged"), within_s=20)
        count, lost_at = len(frames), time.monotonic()
        await until(lambda: len(frames) > count + 3, within_s=15)
        assert time.monotonic() - lost_at < 8.0  # by the key picture, not by the limit
        await peer.close()


async def test_a_stun_server_that_does_not_answer_delays_a_push_and_does_not_end_it() -> None:
    with socket.socket(type=socket.SOCK_DGRAM) as mute:
        mute.bind(("127.0.0.1", 0))
        stun = f"stun:127.0.0.1:{mute.getsockname()[1]}"
        token = SecretStr(TOKEN)
        settings = WebrtcSettings(
            type="webrtc", mode="whip", token=token, ice_servers=(stun,), read_timeout_s=1
        )
        async with whip(settings) as (camera, frames):
            peer = new_peer()
            peer.addTrack(Moving())
            await push(peer)
            await until(lambda: frames, within_s=15)
            assert camera.stats().reconnects == {}
            await peer.close()


async def test_a_push_that_can_never_be_answered_is_given_up() -> None:
    settings = WebrtcSettings(
        type="webrtc", mode="whip", ice_servers=("stun:192.0.2.1",), connect_timeout_s=0.5
    )
    async with whip(settings) as (camera, _):
        peer = new_peer()
        peer.addTrack(Moving())
        await peer.setLocalDescription(await peer.createOffer())
        with pytest.raises(PushRefused, match=r"within 0\.5 s; check ice_servers"):
            await DESK.push("top", None, peer.localDescription.sdp)
        await until(lambda: camera.stats().reconnects == {"unreachable": 1})
        await peer.close()


@pytest.mark.parametrize(
    ("kind", "said"), [("video", "video in no codec .* \\(H.264, VP8\\)"), ("audio", "audio in no codec")]
)
async def test_a_push_in_a_codec_of_another_kind_is_refused_in_words(
    whip_settings: WebrtcSettings, kind: str, said: str, caplog: pytest.LogCaptureFixture
) -> None:
    async with whip(whip_settings) as (camera, _):
        peer = new_peer()
        for each in ("video", "audio"):
            peer.addTransceiver(each, direction="sendonly")
        await peer.setLocalDescription(await peer.createOffer())
        sdp = peer.localDescription.sdp
        for ours in ("VP8/", "H264/", "rtx/") if kind == "video" else ("opus/", "PCMU/", "PCMA/", "G722/"):
            sdp = sdp.replace(ours, "other/")
        with pytest.raises(PushRefused, match=said):
            await DESK.push("top", f"Bearer {TOKEN}", sdp)
        await until(lambda: camera.state.state == "refused")
        assert "Traceback" not in caplog.text and "fails" not in caplog.text
        await until(lambda: camera.stats().reconnects == {"refused": 1})
        await peer.close()


async def test_a_push_to_a_camera_that_does_not_wait_is_404() -> None:
    with pytest.raises(PushRefused) as refused:
        await DESK.push("nobody", None, "v=0")
    assert refused.value.status == 404
