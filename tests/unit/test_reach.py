"""Why somebody can't be reached: the system's words, no class's name, no password."""

import errno
import os
import socket
import ssl
import subprocess
import sys
from pathlib import Path

import av.error
import pytest
from redis.exceptions import ConnectionError, TimeoutError

from config.services import EventsSettings
from config.settings import Settings
from stream import reach
from stream.probe import probe_broker
from stream.publisher import explain
from stream.sources import explain as sources


def caused_by(cause: Exception, text: str = "hunter2") -> Exception:
    error = ConnectionError(text)
    error.__cause__ = cause
    return error


REFUSED = OSError(errno.ECONNREFUSED, "Connect call failed ('127.0.0.1', 1)")
WORDS = [
    (REFUSED, "connection refused"),
    (caused_by(REFUSED), "connection refused"),
    (caused_by(caused_by(socket.gaierror(-2, "Name or service not known"))), "the host name is not known"),
    (OSError("Multiple exceptions: [Errno 111] failed ('::1', 1), [Errno 111] failed"), "connection refused"),
    (TimeoutError("Timeout connecting to redis://u:hunter2@h"), "no answer in time"),
    (caused_by(ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] hunter2")), "no secure connection (TLS)"),
    (ConnectionError("hunter2"), "the connection failed"),
]


@pytest.mark.parametrize(("error", "words"), WORDS)
def test_an_error_is_told_in_the_system_s_words(error: Exception, words: str) -> None:
    assert reach.why(error).startswith(words)
    assert explain(error).startswith(f"the broker can't be reached: {words}")
    assert "hunter2" not in explain(error)


def test_an_error_that_is_the_cause_of_its_own_cause_ends_all_the_same() -> None:
    error = ConnectionError("x")
    error.__cause__ = caused_by(error)
    assert reach.why(error) == "the connection failed"


@pytest.mark.parametrize("scheme", ["redis", "redis+cluster"])
async def test_a_port_where_no_broker_listens(scheme: str) -> None:
    answer = await probe_broker(Settings(version=1, events=EventsSettings(url=f"{scheme}://127.0.0.1:1")))
    assert answer.text == f"{scheme}://127.0.0.1:1: the broker can't be reached: connection refused"


@pytest.mark.parametrize("scheme", ["rtsp", "rtsps"])
def test_a_camera_s_name_that_nobody_knows_is_said(scheme: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def resolve(host: str, port: object) -> list[object]:
        if host == "known":
            return []
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    error = av.error.OSError(errno.EIO, os.strerror(errno.EIO))
    told = str(sources.opening(error, f"{scheme}://kamera-1:554/s"))
    assert told.startswith(f"{scheme}://kamera-1:554/s: the host name kamera-1 is not known here")
    assert "host name" not in str(sources.opening(error, f"{scheme}://known:554/s"))
    assert "host name" not in str(sources.opening(error, "/videos/a.mp4"))


def test_the_simulator_says_once_that_its_port_is_taken() -> None:
    script = Path(sys.executable).parent / "linewatch"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        words = [script, "camera-sim", "--port", port]
        done = subprocess.run(words, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        f"camera-sim: cannot listen on 127.0.0.1:{port}: address already in use; choose another --port or "
        "--host\n"
    )
