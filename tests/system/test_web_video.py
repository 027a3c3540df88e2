"""Video by WHEP between a real server and a real WebRTC peer, over the loopback interface."""

import asyncio
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import aioice.ice
import httpx
import numpy as np
import pytest
import pytest_asyncio
from aiortc import RTCConfiguration, RTCPeerConnection, RTCSessionDescription
from aiortc.mediastreams import MediaStreamTrack

from stream.web.page import LivePage
from stream.web.rtc import RtcOptions, advertised, without_names
from tests.webline import FakeLine, inspection

BOX = (200, 100, 440, 300)
PORTS = (52000, 52040)


@pytest.fixture(autouse=True)
def loopback_only(monkeypatch: pytest.MonkeyPatch) -> None:
    """aioice leaves 127.0.0.1 out; here it is the only address."""
    monkeypatch.setattr(aioice.ice, "get_host_addresses", lambda use_ipv4, use_ipv6: ["127.0.0.1"])


@pytest_asyncio.fixture
async def page() -> AsyncIterator[LivePage]:
    line = FakeLine.of("top")
    page = LivePage(line.view(), listen="127.0.0.1:0", max_viewers=3, rtc=RtcOptions(udp_ports=PORTS))
    await page.start()
    showing = asyncio.create_task(keep_showing(page))
    yield page
    showing.cancel()
    await page.stop()


async def keep_showing(page: LivePage) -> None:
    seq = 0
    while True:
        seq += 1
        page.show(inspection("top", seq, box=BOX, size=(640, 480)))
        await asyncio.sleep(0.05)


@dataclass
class Watcher:
    """A browser without a window."""

    page: LivePage
    peer: RTCPeerConnection = field(
        default_factory=lambda: RTCPeerConnection(RTCConfiguration(iceServers=[]))
    )
    answer: str = ""
    location: str = ""

    async def watch(self) -> MediaStreamTrack:
        """POST the offer; the track that comes back."""
        arrived: asyncio.Future[MediaStreamTrack] = asyncio.get_running_loop().create_future()
        self.peer.on("track", arrived.set_result)
        self.peer.addTransceiver("video", direction="recvonly")
        await self.peer.setLocalDescription(await self.peer.createOffer())
        async with httpx.AsyncClient(base_url=self.page.url) as http:
            answer = await http.post(
                "/whep/top",
                content=self.peer.localDescription.sdp,
                headers={"content-type": "application/sdp"},
            )
        assert answer.status_code == 201, answer.text
        self.answer, self.location = answer.text, answer.headers["location"]
        await self.peer.setRemoteDescription(RTCSessionDescription(answer.text, "answer"))
        return await asyncio.wait_for(arrived, 5)


@pytest_asyncio.fixture
async def watchers(page: LivePage) -> AsyncIterator[list[Watcher]]:
    watchers = [Watcher(page) for _ in range(3)]
    yield watchers
    await asyncio.gather(*(watcher.peer.close() for watcher in watchers))


async def picture(track: MediaStreamTrack) -> np.ndarray:
    frame = await asyncio.wait_for(track.recv(), 5)
    return np.asarray(frame.to_ndarray(format="rgb24")).astype(int)


async def test_the_overlay_is_in_the_video_within_a_second(watchers: list[Watcher]) -> None:
    track = await watchers[0].watch()
    began = time.monotonic()
    shown = await picture(track)
    assert time.monotonic() - began < 1.0
    assert shown.shape == (480, 640, 3)
    x0, y0, x1, y1 = BOX
    red, green, blue = shown[y0 + 8 : y1 - 8, x0 + 8 : x1 - 8].mean((0, 1))
    assert red > green + 60 and red > blue + 60


async def test_the_video_ends_for_a_viewer_who_may_look_no_more(
    page: LivePage, watchers: list[Watcher], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.web.rtc._LOOK_EVERY_S", 0.05)
    allowed = True
    monkeypatch.setattr("stream.web.access._reaches", lambda role, wanted: allowed)
    track = await watchers[0].watch()
    await picture(track)
    allowed = False
    async with asyncio.timeout(5):
        while page.stats().viewers:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_viewers_share_one_encoding_and_a_late_one_starts_at_once(
    page: LivePage, watchers: list[Watcher]
) -> None:
    tracks = [await watchers[0].watch()]
    for _ in range(10):
        await picture(tracks[0])
    tracks.append(await watchers[1].watch())
    await picture(tracks[1])
    before = page.stats().drawn
    for _ in range(10):
        await asyncio.gather(*(picture(track) for track in tracks))
    assert page.stats().drawn - before < 20


async def test_ports_come_from_the_range(watchers: list[Watcher]) -> None:
    await watchers[0].watch()
    ports = [int(r.split()[5]) for r in watchers[0].answer.splitlines() if r.startswith("a=candidate")]
    assert ports
    assert all(PORTS[0] <= port <= PORTS[1] for port in ports)


async def test_ending_a_session_gives_the_seat_back(page: LivePage, watchers: list[Watcher]) -> None:
    await watchers[0].watch()
    assert page.stats().viewers == 1
    async with httpx.AsyncClient(base_url=page.url) as http:
        assert (await http.delete(watchers[0].location)).status_code == 200
        assert (await http.delete(watchers[0].location)).status_code == 404
    assert page.stats().viewers == 0


async def test_a_browser_that_goes_away_gives_the_seat_back(page: LivePage, watchers: list[Watcher]) -> None:
    track = await watchers[0].watch()
    await picture(track)
    await watchers[0].peer.close()
    async with asyncio.timeout(5), httpx.AsyncClient(base_url=page.url) as http:
        while (await http.get("/api/v1/stats")).json()["page"]["viewers"]:
            pass


async def test_stopping_ends_the_video_at_once(page: LivePage, watchers: list[Watcher]) -> None:
    await picture(await watchers[0].watch())
    began = time.monotonic()
    await page.stop()
    assert time.monotonic() - began < 2.0
    assert page.stats().viewers == 0


BAD_OFFERS = [
    ("", 409),
    ("hello", 409),
    ("v=0\r\n", 409),
    ("v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=-\r\nt=0 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n", 409),
    ("v=0\r\nm=video x y\r\na=rtpmap:1 VP8/90000\r\n", 409),
    ("v=0\r\nm=video 9 UDP/TLS/RTP/SAVPF 97\r\na=rtpmap:97 VP8/90000\r\na=fmtp:98 apt=97\r\n", 409),
    ("x" * 100_000, 413),
]


async def test_a_bad_offer_is_refused_with_a_sentence_and_leaves_nothing(page: LivePage) -> None:
    async with httpx.AsyncClient(base_url=page.url) as http:
        for offer, status in BAD_OFFERS:
            refused = await http.post("/whep/top", content=offer, headers={"content-type": "application/sdp"})
            assert (refused.status_code, type(refused.json()["detail"])) == (status, str), offer
        assert (await http.post("/whep/left", content="v=0")).status_code == 404
        assert (await http.post("/whep/top", content="v=0")).status_code == 415
    assert page.stats().viewers == 0


@pytest.mark.parametrize(
    ("pattern", "other"),
    [("(VP8|H264|rtx)/90000", "AV1/90000"), ("opus/48000/2|PCM./8000|G722/8000", "AAC/1"), ("a=mid:.*", "")]
    + [(rf"a={name}:.*\r\n", "") for name in ("fingerprint", "ice-ufrag", "ice-pwd")],
)
async def test_an_offer_that_does_not_fit_is_refused_with_a_sentence(
    page: LivePage, pattern: str, other: str
) -> None:
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    for kind in ("video", "audio"):
        browser.addTransceiver(kind, direction="recvonly")
    await browser.setLocalDescription(await browser.createOffer())
    offer = re.sub(pattern, other, browser.localDescription.sdp)
    async with httpx.AsyncClient(base_url=page.url) as http:
        refused = await http.post("/whep/top", content=offer, headers={"content-type": "application/sdp"})
    assert (refused.status_code, refused.json()["detail"][:9]) == (409, "The offer")
    assert page.stats().viewers == 0
    await browser.close()


@pytest.mark.parametrize("kind", ["video", "application"])
async def test_an_offer_with_a_line_of_no_known_kind_is_refused_and_leaves_nothing(
    page: LivePage, kind: str
) -> None:
    """aiortc raises for such an offer, and again when what it made of it is closed."""
    browser = RTCPeerConnection(RTCConfiguration(iceServers=[]))
    browser.addTransceiver("video", direction="recvonly")
    browser.createDataChannel("x")
    await browser.setLocalDescription(await browser.createOffer())
    offer = browser.localDescription.sdp.replace(f"m={kind}", "m=foo")
    async with httpx.AsyncClient(base_url=page.url) as http:
        refused = await http.post("/whep/top", content=offer, headers={"content-type": "application/sdp"})
    assert (refused.status_code, refused.json()["detail"][:9]) == (409, "The offer")
    assert page._whep._sessions == {}
    await page.stop()
    await browser.close()


async def test_a_session_that_does_not_close_keeps_neither_the_others_nor_the_page_from_stopping(
    page: LivePage, watchers: list[Watcher], monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for watcher in watchers[:2]:
        await picture(await watcher.watch())
    first, second = (session.peer for session in page._whep._sessions.values())
    whole = first.close

    async def fails() -> None:
        await whole()
        raise OSError("no such socket")

    monkeypatch.setattr(first, "close", fails)
    await page.stop()
    assert (second.connectionState, page._whep._sessions, page.stats().viewers) == ("closed", {}, 0)
    assert caplog.text.count("a viewer's connection did not close") == 1
    async with httpx.AsyncClient() as http:
        with pytest.raises(httpx.ConnectError):
            await http.get(page.url)


def test_the_advertised_address_replaces_the_machines_own() -> None:
    sdp = "c=IN IP4 10.0.0.5\r\na=candidate:1 1 udp 2130706431 10.0.0.5 50001 typ host\r\na=mid:0\r\n"
    wanted = "c=IN IP4 192.0.2.7\r\na=candidate:1 1 udp 2130706431 192.0.2.7 50001 typ host\r\na=mid:0\r\n"
    assert advertised(sdp, "192.0.2.7") == wanted
    assert advertised(sdp, None) == sdp


def test_names_are_not_looked_up() -> None:
    sdp = (
        "a=candidate:1 1 udp 1 3f2a.local 5000 typ host generation 0\r\n"
        "a=candidate:2 1 udp 1 10.0.0.9 5000 typ host\r\na=end-of-candidates\r\n"
    )
    assert without_names(sdp) == "a=candidate:2 1 udp 1 10.0.0.9 5000 typ host\r\na=end-of-candidates\r\n"
