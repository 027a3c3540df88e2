"""The camera simulator, played by clients that nobody here wrote, and by a raw one that looks at the packets."""

import asyncio
import base64
import json
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from stream.sim.auth import Credentials, authorization
from stream.sim.folder import FolderShow, Pace
from stream.sim.messages import parse_answer_head
from stream.sim.remote import RemoteError, ask, tell
from stream.sim.rtp import ntp_to_utc_s
from stream.sim.shows import PatternShow
from tests.servers import RunningSim, rtsp_sim

WHO = Credentials("inspect", "p@ss:/%#?")


def play(url: str, frames: int, transport: str = "tcp") -> list[av.VideoFrame]:
    options = {
        "rtsp_transport": transport,
        "fflags": "nobuffer",
        "analyzeduration": "200000",
        "probesize": "32768",
    }
    with av.open(url, options=options, timeout=(5.0, 3.0)) as container:
        pictures = []
        for frame in container.decode(video=0):
            pictures.append(frame)
            if len(pictures) == frames:
                break
        return pictures


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningSim]:
    with rtsp_sim(credentials=WHO, schedule=tmp_path_factory.mktemp("schedule"), fps=20) as sim:
        yield sim


class RawClient:
    """RTSP and interleaved RTP with nothing between us and the bytes."""

    def __init__(self, sim: RunningSim, name: str = "top") -> None:
        self.url = sim.url(name)
        self.socket = socket.create_connection(("127.0.0.1", sim.port), 5)
        self.file = self.socket.makefile("rb")
        self.headers: dict[str, str] = {}

    def __enter__(self) -> "RawClient":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self.socket.close()

    def ask(
        self, method: str, url: str | None = None, body: str = "", **headers: str
    ) -> tuple[int, dict[str, str], str]:
        lines = [f"{method} {url or self.url} RTSP/1.0", "CSeq: 1"]
        lines += [f"{k.replace('_', '-')}: {v}" for k, v in (self.headers | headers).items()]
        if body:
            lines.append(f"Content-Length: {len(body)}")
        self.socket.sendall(("\r\n".join([*lines, "", ""]) + body).encode())
        while (first := self.file.read(1)) == b"$":
            self._packet()
        head = first
        while not head.endswith(b"\r\n\r\n"):
            head += self.file.read(1)
        status, said = parse_answer_head(head)
        return status, dict(said), self.file.read(int(dict(said).get("content-length", "0"))).decode()

    def start(self) -> None:
        assert self.ask("DESCRIBE")[0] == 200
        status, said, _ = self.ask(
            "SETUP", self.url + "/trackID=0", Transport="RTP/AVP/TCP;unicast;interleaved=0-1"
        )
        assert status == 200
        self.headers["Session"] = said["session"].partition(";")[0]
        assert self.ask("PLAY")[0] == 200

    def _packet(self) -> tuple[int, bytes]:
        channel, length = struct.unpack("!BH", self.file.read(3))
        return channel, self.file.read(length)

    def packet(self) -> tuple[int, bytes]:
        assert self.file.read(1) == b"$"
        return self._packet()


@pytest.mark.parametrize("transport", ["tcp", "udp"])
def test_pyav_plays_the_stream_with_a_password_full_of_signs(guarded: RunningSim, transport: str) -> None:
    pictures = play(guarded.url(credentials=WHO), 12, transport)
    assert {(p.width, p.height) for p in pictures} == {(320, 240)}
    steps = np.diff([p.pts for p in pictures if p.pts is not None])
    assert len(steps) >= 8 and set(steps) == {90_000 // 20}


@pytest.mark.parametrize("scheme", ["basic", "digest"])
def test_one_scheme_alone_is_enough(scheme: str) -> None:
    with rtsp_sim(credentials=WHO, schemes=(scheme,), fps=20) as sim:
        assert play(sim.url(credentials=WHO), 1)


def test_opencv_plays_the_stream_too(guarded: RunningSim) -> None:
    capture = cv2.VideoCapture(guarded.url(credentials=WHO), cv2.CAP_FFMPEG)
    try:
        taken, picture = capture.read()
    finally:
        capture.release()
    assert taken and picture.shape == (240, 320, 3)


def test_what_arrives_is_what_was_filmed(guarded: RunningSim) -> None:
    picture = play(guarded.url(credentials=WHO), 8)[-1].to_ndarray(format="rgb24").astype(int)
    filmed = PatternShow("machined", 1, (320, 240)).picture(1.0).astype(int)
    assert abs(picture[:20].mean() - filmed[:20].mean()) < 6  # the belt: no channel swapped, no range lost
    assert (abs(picture[:20].mean((0, 1)) - filmed[:20].mean((0, 1))) < 6).all()


def test_a_wrong_password_is_401(guarded: RunningSim) -> None:
    with pytest.raises(av.HTTPUnauthorizedError):
        play(guarded.url(credentials=Credentials("inspect", "other")), 1)


def test_an_unknown_path_is_404(guarded: RunningSim) -> None:
    with pytest.raises(av.HTTPNotFoundError):
        play(guarded.url("bottom", credentials=WHO), 1)


def test_the_schedule_has_the_time_stamps_and_wall_clock_of_the_frames(tmp_path: Path) -> None:
    began = time.time()
    with rtsp_sim(schedule=tmp_path, fps=20) as sim, RawClient(sim) as client:
        client.start()
        stamps, clock = [], {}
        while len(sim.schedule()) < 3:
            channel, packet = client.packet()
            if channel == 0:
                stamps.append(struct.unpack("!I", packet[4:8])[0])
            else:
                seconds, fraction, stamp = struct.unpack("!III", packet[8:20])
                clock[stamp] = ntp_to_utc_s(seconds, fraction)
        entries = sim.schedule()
    stamp, utc_s = next(iter(clock.items()))
    assert {entry.rtp for entry in entries[:-1]} <= set(stamps)
    for entry in entries:
        assert entry.captured_at_s == pytest.approx(utc_s + (entry.rtp - stamp) / 90_000, abs=1e-4)
        assert began <= entry.captured_at_s <= time.time()
