"""The camera simulator, played by clients that nobody here wrote, and by a raw one that reads the packets."""

import contextlib
import json
import os
import signal
import socket
import ssl
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

from config.cli import main
from stream.sim.auth import Credentials
from stream.sim.folder import FolderShow, Pace
from stream.sim.messages import parse_answer_head
from stream.sim.remote import RemoteError, ask, tell
from stream.sim.rtp import ntp_to_utc_s
from stream.sim.shows import PatternShow
from tests.certificates import make_certificate
from tests.servers import RunningSim, rtsp_sim

WHO = Credentials("inspect", "p@ss:/%#?")


def play(url: str, frames: int, transport: str = "tcp") -> list[av.VideoFrame]:
    options = {"rtsp_transport": transport, "analyzeduration": "0", "probesize": "32"}
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


@pytest.fixture
def tls_files(tmp_path: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that nobody signed but itself, and its key."""
    made = make_certificate(tmp_path, "127.0.0.1", hosts=("127.0.0.1",))
    return made.cert_file, made.key_file


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
    assert len(steps) >= 8 and all(step > 0 and step % (90_000 // 20) == 0 for step in steps)


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


def test_it_serves_over_tls(tls_files: tuple[Path, Path]) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*tls_files)
    with rtsp_sim(credentials=WHO, fps=20, tls=context) as sim:
        assert sim.url().startswith("rtsps://")
        assert len(play(sim.url(credentials=WHO), 3)) == 3


def test_a_client_that_breaks_tls_is_left_without_a_word(
    tls_files: tuple[Path, Path], caplog: pytest.LogCaptureFixture
) -> None:
    context, ours = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(*tls_files)
    ours.check_hostname, ours.verify_mode = False, ssl.CERT_NONE
    with rtsp_sim(tls=context) as sim, socket.create_connection(("127.0.0.1", sim.port), 5) as plain:
        broken = ours.wrap_socket(plain)
        os.write(broken.fileno(), b"no TLS at all")
        with contextlib.suppress(OSError):
            assert broken.read() == b""
        broken.close()
    assert caplog.text == ""


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


def test_a_raw_client_is_told_what_it_did_wrong() -> None:
    with rtsp_sim() as sim, RawClient(sim) as client:
        assert client.ask("PLAY")[0] == 454
        assert client.ask("RECORD")[0] == 405
        assert client.ask("SETUP", Transport="RTP/AVP;multicast")[0] == 461
        assert client.ask("SET_PARAMETER", body="stall: soon\r\n")[0] == 451
        status, said, _ = client.ask("OPTIONS")
        assert status == 200 and "DESCRIBE" in said["public"]
        client.socket.sendall(b"nonsense\r\n\r\n")
        assert client.file.readline() == b"RTSP/1.0 400 Bad Request\r\n"
    with rtsp_sim() as sim, RawClient(sim) as client:
        assert client.ask("DESCRIBE", "rtsp://[::1/top")[0] == 400


def test_a_session_is_played_kept_alive_paused_and_ended() -> None:
    with rtsp_sim(fps=20) as sim, RawClient(sim) as client:
        status, said, sdp = client.ask("DESCRIBE")
        assert status == 200 and said["content-type"] == "application/sdp" and "H264/90000" in sdp
        client.start()
        assert (
            client.packet()[0] == 1 and client.packet()[0] == 0
        )  # the report comes before the first picture
        assert client.ask("GET_PARAMETER")[0] == 200
        assert sim.state()["viewers"] == "1"
        assert client.ask("PAUSE")[0] == 200
        assert sim.state()["viewers"] == "0"
        assert client.ask("PLAY")[0] == 200
        assert client.ask("TEARDOWN")[0] == 200


def test_kill_cuts_the_connection_and_the_next_one_is_served() -> None:
    with rtsp_sim(fps=20) as sim, RawClient(sim) as client:
        client.start()
        client.packet()
        sim.set("kill", 1)
        while client.file.read(4096):
            pass  # ends when the connection does
        assert play(sim.url(), 2)


def test_refuse_lets_nobody_in_until_it_is_over() -> None:
    with rtsp_sim(fps=20) as sim:
        sim.set("refuse", 60)
        with pytest.raises((av.FFmpegError, OSError)):
            play(sim.url(), 1)
        sim.set("refuse", 0)
        assert play(sim.url(), 1)


def test_a_stall_sends_nothing_and_keeps_the_connection() -> None:
    with rtsp_sim(fps=20) as sim, RawClient(sim) as client:
        client.start()
        client.packet()
        sim.set("stall", 60)
        client.ask("GET_PARAMETER")
        client.socket.settimeout(0.5)
        with pytest.raises(TimeoutError):
            for _ in range(1000):
                client.socket.recv(65536)
        sim.set("stall", 0)
        assert client.socket.recv(1)


def test_a_freeze_repeats_one_picture_with_new_time_stamps() -> None:
    with rtsp_sim(fps=20) as sim:
        sim.set("freeze", 60)
        pictures = play(sim.url(), 12)
        late = [p.to_ndarray(format="gray").astype(int) for p in pictures[-3:]]
        assert abs(late[0] - late[2]).mean() < 1
        assert pictures[-1].pts > pictures[-2].pts


def test_garbage_damages_pictures_and_ends() -> None:
    with rtsp_sim(fps=20) as sim:
        sim.set("garbage", 1.5)
        assert play(sim.url(), 3)  # the decoder finds whole pictures again


def test_the_size_can_change_while_somebody_watches() -> None:
    with rtsp_sim(fps=20) as sim:
        sizes = set()
        with av.open(
            sim.url(), options={"rtsp_transport": "tcp", "probesize": "32"}, timeout=(5.0, 3.0)
        ) as container:
            for frame in container.decode(video=0):
                sizes.add((frame.width, frame.height))
                sim.set("size", "160x120")
                if len(sizes) == 2:
                    break
        assert sizes == {(320, 240), (160, 120)}


async def test_the_remote_control_needs_the_password_and_switches_the_phase(guarded: RunningSim) -> None:
    await tell(guarded.url(), {"phase": "learn"}, WHO)
    assert (await ask(guarded.url(), ["phase"], WHO)) == {"phase": "learn"}
    await tell(guarded.url(), {"phase": "live"}, WHO)
    with pytest.raises(RemoteError, match="401"):
        await tell(guarded.url(), {"phase": "learn"}, Credentials("inspect", "guess"))
    with pytest.raises(RemoteError, match="451"):
        await tell(guarded.url(), {"phase": "lunch"}, WHO)
    assert guarded.state()["phase"] == "live"


def test_a_folder_is_played_with_its_truth(tmp_path: Path) -> None:
    picture = np.full((120, 160, 3), 90, np.uint8)
    broken = picture.copy()
    broken[40:60, 50:90] = 250
    for path, pixels in {"train/good/a": picture, "test/good/b": picture, "test/hole/c": broken}.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        assert cv2.imwrite(f"{tmp_path / path}.png", pixels)
    (tmp_path / "ground_truth/hole").mkdir(parents=True)
    assert cv2.imwrite(str(tmp_path / "ground_truth/hole/c_mask.png"), (broken[..., 0] > 200) * np.uint8(255))
    show = FolderShow(tmp_path, 1, Pace(dwell_s=0.2, good_between=1))
    with rtsp_sim({"top": show}, fps=20, schedule=tmp_path / "schedule") as sim:
        pictures = play(sim.url(), 20)
        (truth,) = next(entry.defects for entry in sim.schedule() if entry.defects)
    x0, y0, x1, y1 = truth.box
    assert truth.kind == "hole" and truth.box == (50, 40, 90, 60)
    seen = [p.to_ndarray(format="gray")[y0:y1, x0:x1].mean() > 200 for p in pictures]
    assert any(seen) and not all(seen)


def start(*arguments: str) -> subprocess.Popen[str]:
    script = Path(sys.executable).with_name("linewatch")
    return subprocess.Popen(
        [script, "camera-sim", "--port", "0", *arguments], stdout=-1, stderr=-1, text=True
    )


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGINT])
def test_the_command_says_where_it_serves_and_ends_when_told(tmp_path: Path, how: signal.Signals) -> None:
    (tmp_path / "pw").write_text(WHO.password + "\n")
    secret = ["--user", WHO.username, "--password-file", str(tmp_path / "pw")]
    with start("--json", "--size", "320x240", "--fps", "20", "--schedule", str(tmp_path), *secret) as process:
        assert process.stdout is not None
        ready = json.loads(process.stdout.readline())
        top, side = ready["streams"]
        assert (top["name"], side["name"], ready["ready"]) == ("top", "side", True)
        assert play(top["url"].replace("://", "://inspect:p%40ss%3A%2F%25%23%3F@"), 2)
        process.send_signal(how)
        out, err = process.communicate(timeout=10)
    assert process.returncode == 0
    assert "p@ss" not in json.dumps(ready) + out + err and err == ""
    assert Path(top["schedule"]).read_text().startswith('{"schema":"camera-schedule/1","camera":"top"')


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--data", "/nowhere"], "/nowhere: no such folder"),
        (["--size", "641x480"], "must be even"),
        (["--fault", "top:stal=2"], "stall"),
        (["--name", "A b"], "want different names"),
        (["--user", "x"], "go together"),
    ],
)
def test_the_command_refuses_what_it_cannot_serve(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["camera-sim", "--port", "0", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and err.count("\n") == 1


def test_a_schedule_that_a_full_disk_does_not_take_ends_it_in_words(tmp_path: Path) -> None:
    (tmp_path / "label.jsonl").symlink_to("/dev/full")
    small = ["--look", "label", "--name", "label", "--size", "320x240", "--schedule", str(tmp_path)]
    with start(*small) as process:
        assert process.stdout is not None
        with contextlib.suppress(av.FFmpegError, OSError):
            play(process.stdout.readline().strip(), 5)
        _, err = process.communicate(timeout=20)
    said = f"{tmp_path / 'label.jsonl'} can't be written: No space left on device\n"
    assert (process.returncode, err) == (1, said)


def test_a_password_that_is_no_text_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pw").write_bytes(b"\xffpw")
    login = ["--user", "x", "--password-file", str(tmp_path / "pw")]
    assert main(["camera-sim", "--port", "0", *login]) == 2
    assert capsys.readouterr().err.endswith(f"--password-file {tmp_path / 'pw'}: is not UTF-8 text\n")


def test_a_fault_can_be_planned_on_the_command_line() -> None:
    with start(
        "--size", "320x240", "--look", "label", "--fps", "20", "--fault", "top:refuse=60@0.2"
    ) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        deadline = time.monotonic() + 10
        with pytest.raises((av.FFmpegError, OSError)):
            while time.monotonic() < deadline:
                play(url, 1)
        process.terminate()
        process.communicate(timeout=10)
    assert process.returncode == 0
