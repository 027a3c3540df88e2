"""RTSP over real sockets: the camera simulator, what it does wrong, and what we make of it."""

import asyncio
import contextlib
import ipaddress
import itertools
import random
import socket
import ssl
import threading
import time
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import numpy as np
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from numpy.typing import NDArray
from pydantic import SecretStr

from config.sources import RtspSource as RtspSettings
from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.condition import CameraState
from stream.sim.auth import Credentials
from stream.sources.base import SourceError, build
from tests.puppets import until
from tests.servers import RunningSim, rtsp_sim

WHO = Credentials("inspect@1", "p@:/%#? ü")


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
    connect_timeout_s: float = 10.0,
    read_timeout_s: float = 3.0,
    policy: CameraPolicy | None = None,
    tls_ca_file: Path | None = None,
    video: int = 0,
) -> AsyncIterator[Watched]:
    settings = RtspSettings(
        type="rtsp",
        url=url,
        transport=transport,
        username=who.username if who else None,
        password=SecretStr(who.password) if who else None,
        connect_timeout_s=connect_timeout_s,
        read_timeout_s=read_timeout_s,
        tls_ca_file=tls_ca_file,
        video=video,
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
        await until(lambda: top.frames and top.frames[-1].clock == "camera")
        frame = top.frames[-1]
        assert frame.pixels.shape == (240, 320, 3)
        assert abs(frame.taken_at - time.time()) < 0.5
        assert transport.upper() in top.camera.state.reason


@pytest.mark.parametrize("decoder", ["auto", "cuda", "vaapi", "qsv"])
async def test_a_decoder_that_is_not_there_falls_back_to_software(sim: RunningSim, decoder: str) -> None:
    settings = RtspSettings.model_validate({"type": "rtsp", "url": sim.url(), "decoder": decoder})
    watched = Watched(settings, CameraPolicy())
    await watched.camera.start()
    await until(lambda: watched.is_("live"), within_s=10)
    await watched.camera.stop()


async def test_decimation_leaves_out_before_conversion(sim: RunningSim) -> None:
    async with watching(sim.url(), policy=CameraPolicy(fps=5)) as top:
        await until(lambda: top.camera.stats().received >= 20)
        stats = top.camera.stats()
        assert stats.offered + stats.decimated in (stats.received, stats.received - 1)  # one is on its way
        assert 4 <= stats.offered <= 8


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
        async with watching(f"rtsp://127.0.0.1:{mute.getsockname()[1]}/top", connect_timeout_s=1.0) as top:
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
    async with watching(sim.url()) as top:
        await until(lambda: top.is_("live"))
        before = top.camera.stats()
        sim.set("stall", 0.6)
        await until(lambda: top.camera.stats().received > before.received + 5)
        assert top.camera.stats().reconnects == before.reconnects


@contextlib.asynccontextmanager
async def in_pieces(port: int, pause_s: float) -> AsyncIterator[int]:
    """A port that leads there, over a network that delivers the end of whatever the server sends late."""
    links: set[asyncio.Task[None]] = set()

    async def pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, late_s: float) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                for piece in (data[:-10], data[-10:]):
                    writer.write(piece)
                    await asyncio.sleep(late_s)
        writer.close()

    async def link(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        links.add(asyncio.current_task())  # type: ignore[arg-type]
        from_server, to_server = await asyncio.open_connection("127.0.0.1", port)
        await asyncio.gather(pump(reader, to_server, 0.0), pump(from_server, writer, pause_s))

    listener = await asyncio.start_server(link, "127.0.0.1", 0)
    try:
        yield listener.sockets[0].getsockname()[1]
    finally:
        listener.close()
        await asyncio.gather(*links)


async def test_of_messages_that_come_in_pieces_with_a_pause_no_picture_is_lost(sim: RunningSim) -> None:
    """The reader broke its reading off every 0.2 s, and lost the stream where that met half a message."""
    port = urlsplit(sim.url()).port or 0
    async with in_pieces(port, 0.25) as far:
        async with watching(sim.url().replace(f":{port}", f":{far}"), policy=CameraPolicy(fps=None)) as top:
            await until(lambda: len(top.frames) > 15, within_s=20)
            assert top.camera.stats().reconnects == {}
        gaps_s = [b.taken_at - a.taken_at for a, b in itertools.pairwise(top.frames)]
        assert max(gaps_s[5:]) < 0.075  # by the camera's own clock; it makes one every 0.05 s


async def test_a_stalled_server_is_left_after_the_read_deadline(sim: RunningSim) -> None:
    async with watching(sim.url(), read_timeout_s=0.5) as top:
        await until(lambda: top.is_("live"))
        sim.set("stall", 1.2)
        await until(lambda: top.camera.stats().reconnects.get("stalled"))
        await until(lambda: top.is_("live"))


async def test_a_camera_that_sends_one_picture_for_ever_is_frozen(sim: RunningSim) -> None:
    async with watching(sim.url(), policy=CameraPolicy(fps=20, frozen_after_s=0.6)) as top:
        await until(lambda: top.is_("live"))
        sim.set("freeze", 3.0)
        await until(lambda: top.is_("frozen"))
        await until(lambda: top.is_("live"))
        assert top.camera.stats().reconnects == {}


async def test_garbage_is_survived(sim: RunningSim) -> None:
    async with watching(sim.url()) as top:
        await until(lambda: top.is_("live"))
        sim.set("garbage", 0.8)
        count = len(top.frames)
        await until(lambda: top.camera.stats().received > count + 25, within_s=10)
        await until(lambda: top.is_("live"))


async def test_a_camera_that_changes_its_resolution_goes_on_without_a_reconnect() -> None:
    with rtsp_sim(fps=20) as sim:
        async with watching(sim.url()) as top:
            await until(lambda: top.is_("live"))
            sim.set("size", "480x360")
            await until(lambda: top.frames[-1].pixels.shape == (360, 480, 3))
            assert top.camera.stats().reconnects == {}
            assert top.camera.stats().size == (480, 360)


async def test_pictures_that_a_lost_packet_damaged_are_left_out_and_counted() -> None:
    with rtsp_sim(fps=20) as sim:
        sim.set("lose", 0.02)
        async with watching(sim.url(), transport="udp") as top:
            await until(lambda: top.camera.stats().skipped.get("damaged"), within_s=10)
            count = len(top.frames)
            await until(lambda: len(top.frames) > count + 5, within_s=10)
            assert top.camera.stats().reconnects == {}


@pytest.mark.parametrize(("signed_by", "state"), [(None, "live"), ("own", "live"), ("other", "connecting")])
async def test_rtsps_checks_the_camera_s_certificate_if_it_is_told_by_whom(
    tmp_path: Path, signed_by: str | None, state: str
) -> None:
    certificate(tmp_path, "own")
    certificate(tmp_path, "other")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "own.pem", tmp_path / "own.key")
    ca_file = tmp_path / f"{signed_by}.pem" if signed_by else None
    with rtsp_sim(fps=20, tls=context) as sim:
        async with watching(sim.url(), tls_ca_file=ca_file) as top:
            await until(lambda: top.is_("live") or top.camera.stats().reconnects)
            assert top.camera.state.state == state
            assert ("certificate" in top.camera.state.reason) == (signed_by == "other")


def certificate(folder: Path, name: str) -> None:
    """A certificate for 127.0.0.1 that nobody signed but itself (NAME.pem), and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    who = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, name)])
    here = x509.SubjectAlternativeName([x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    now = datetime.now(UTC)
    signed = (
        x509.CertificateBuilder(who, who, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(here, critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    plain = serialization.NoEncryption()
    (folder / f"{name}.pem").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, plain)
    )


async def test_whatever_a_server_answers_is_an_error_in_words_and_never_a_crash() -> None:
    rng = random.Random(1)
    answers = [rng.randbytes(rng.randrange(200)) for _ in range(20)]
    answers += [
        b"RTSP/1.0 200 OK\r\nCSeq: 1\r\nContent-Length: 99999999\r\n\r\nv=0\r\n",
        b"RTSP/1.0 200 OK\r\nCSeq: 2\r\nContent-Type: application/sdp\r\nContent-Length: 4\r\n\r\nv=0\n" * 4,
        b"RTSP/1.0 500 Oh\r\nCSeq: 1\r\n\r\n",
        b"$" * 5000,
        b"HTTP/1.1 200 OK\r\n\r\n<html>",
    ]

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.read(2000)
        writer.write(answers.pop())
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/top"
    async with server:
        while answers:
            settings = RtspSettings(type="rtsp", url=url, connect_timeout_s=0.5)
            with pytest.raises(SourceError, match=r"127\.0\.0\.1"):
                await asyncio.to_thread(build("top", settings).run, Deaf(), threading.Event())


_SDP = b"v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\ns=x\r\nt=0 0\r\nm=video 0 RTP/AVP 96\r\na=rtpmap:96 H264/90000\r\n"


@pytest.mark.parametrize(
    ("at", "answer", "said"),
    [
        ("DESCRIBE", b"", "it hung up, or what it answers is no video"),
        ("SETUP", b"RTSP/1.0 461 No\r\nCSeq: %d\r\n\r\n", "does not send that way; give another transport"),
        ("PLAY", b"", "the camera hung up before the first picture"),
    ],
)
async def test_a_camera_that_breaks_off_while_it_is_asked_is_told_in_words_that_help(
    at: str, answer: bytes, said: str
) -> None:
    more = {"DESCRIBE": b"Content-Type: application/sdp\r\nContent-Length: %d\r\n\r\n%b" % (len(_SDP), _SDP)}
    more["SETUP"] = b"Session: 1\r\nTransport: RTP/AVP/TCP;unicast;interleaved=0-1\r\n\r\n"

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            for number in itertools.count(1):
                method = (await reader.readuntil(b"\r\n\r\n")).decode().partition(" ")[0]
                if method == at:
                    writer.write(answer % number if answer else b"")
                    break
                writer.write(b"RTSP/1.0 200 OK\r\nCSeq: %d\r\n" % number + more.get(method, b"\r\n"))
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        url = f"rtsp://127.0.0.1:{server.sockets[0].getsockname()[1]}/top"
        source = build("top", RtspSettings(type="rtsp", url=url))
        with pytest.raises(SourceError, match=said):
            await asyncio.to_thread(source.run, Deaf(), threading.Event())


class Deaf:
    """A sink for sources that never get so far."""

    def connected(self, what: str) -> None: ...

    def alive(self) -> None: ...

    def due_in_s(self, taken_at: float) -> float:
        return 0.0

    def due(self, taken_at: float) -> bool:
        return False

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None: ...

    def skipped(self, why: str) -> None: ...

    def clock(self, offset_s: float) -> None: ...


async def test_a_server_that_is_gone_and_returns_is_found_again() -> None:
    with rtsp_sim(fps=20) as first:
        async with watching(first.url(), policy=CameraPolicy(down_after_s=0.6)) as top:
            await until(lambda: top.is_("live"))
            first.set("refuse", 1.2)
            await until(lambda: top.is_("down"))
            await until(lambda: top.is_("live"))
        assert top.camera.stats().reconnects["ended"] == 1
