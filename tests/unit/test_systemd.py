"""systemd hears when we are ready, that we live, and when we stop; without it nothing happens."""

import asyncio
import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream import systemd
from stream.endings import end


@pytest.fixture(params=["/", "@"])
def ear(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[socket.socket]:
    path = str(tmp_path / "notify") if request.param == "/" else f"@linewatch-test-{os.getpid()}"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(path.replace("@", "\0") if request.param == "@" else path)
        listening.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", path)
        yield listening


def test_facts_arrive_as_one_message(ear: socket.socket) -> None:
    assert systemd.notify("READY=1", "STATUS=fine")
    assert ear.recv(4096) == b"READY=1\nSTATUS=fine"


@pytest.mark.parametrize("address", ["", "/nowhere/notify", "vsock:2:1234"])
def test_without_somebody_who_listens_nothing_fails(address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NOTIFY_SOCKET", address)
    assert not systemd.notify("READY=1")


async def test_the_watchdog_is_told_twice_in_its_time(
    ear: socket.socket, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", "20000")
    monkeypatch.setenv("WATCHDOG_PID", str(os.getpid()))
    watched = asyncio.create_task(systemd.keep_watched())
    for _ in range(3):
        assert await asyncio.to_thread(ear.recv, 4096) == b"WATCHDOG=1"
    await end([watched])


@pytest.mark.parametrize(("usec", "pid"), [("", ""), ("0", ""), ("x", ""), ("1000000", "1")])
async def test_a_watchdog_that_asks_nobody_or_another_process_is_left_alone(
    usec: str, pid: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WATCHDOG_USEC", usec)
    if pid:
        monkeypatch.setenv("WATCHDOG_PID", pid)
    await systemd.keep_watched()
