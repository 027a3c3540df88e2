"""The embedded broker is ours: private, persistent, and never left behind."""

import asyncio
import contextlib
import json
import os
import resource
import signal
import socket
import stat
import sys
import time
from pathlib import Path

import pytest

from stream import broker as broker_module
from stream.broker import BrokerError, EmbeddedBroker, Endpoint, RunFile, server_binary
from tests.brokers import until, valkey
from tests.ports import free_port


async def test_it_asks_for_a_password_and_listens_on_loopback_only(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker:
        async with Endpoint(broker.endpoint.url).client() as stranger:
            with pytest.raises(Exception, match=r"(?i)auth"):
                await stranger.ping()
        async with broker.endpoint.client() as client:
            assert (await client.config_get("bind"))["bind"] == "127.0.0.1"


async def test_its_password_is_in_no_process_list_and_no_open_file(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker:
        password = broker.endpoint.password
        assert password
        assert password not in repr(broker.endpoint)
        assert not told_to_everybody(password, tmp_path)


def told_to_everybody(password: str, folder: Path) -> list[Path]:
    """Command lines of processes, and files that others may read, in which the password stands."""
    told = []
    for line in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            told += [line] if password.encode() in line.read_bytes() else []
    for file in folder.rglob("*"):
        if file.is_file() and stat.S_IMODE(file.stat().st_mode) != 0o600:
            told += [file] if password.encode() in file.read_bytes() else []
    return told


async def test_data_address_and_password_outlive_a_restart(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        before = broker.endpoint
        await client.set("key", "value")
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        assert broker.endpoint == before
        assert await client.get("key") == b"value"


async def test_a_broker_that_dies_is_started_again(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker:
        async with broker.endpoint.client() as client:
            await client.set("key", "value")
        first = broker.pid
        assert first is not None
        os.kill(first, signal.SIGKILL)
        await until(lambda: broker.restarts == 1 and broker.pid != first)
        await broker.wait_ready()
        async with broker.endpoint.client() as client:
            assert await client.get("key") == b"value"


async def test_a_server_that_reads_much_data_back_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was ended before it was through, and started again, for ever."""
    async with valkey(tmp_path / "data") as broker, broker.endpoint.client() as client:
        pipe = client.pipeline(transaction=False)
        for n in range(30_000):
            pipe.set(f"key-{n}", "value")
        await pipe.execute()
    slow = tmp_path / "slow-server"
    slow.write_text(f'#!/bin/sh\nexec "{server_binary()}" "$@" --key-load-delay 10\n')
    slow.chmod(0o700)
    monkeypatch.setattr(broker_module, "READY_WITHIN_S", 1.0)
    begun = time.monotonic()
    async with valkey(tmp_path / "data", slow) as broker, broker.endpoint.client() as client:
        assert time.monotonic() - begun > 1.1
        assert await client.get("key-29999") == b"value"


async def test_a_server_that_can_not_be_started_again_now_is_started_later(tmp_path: Path) -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    async with valkey(tmp_path) as broker:
        first = broker.pid
        assert first is not None
        resource.setrlimit(resource.RLIMIT_NOFILE, (3, hard))  # no further file can be opened
        try:
            os.kill(first, signal.SIGKILL)
            await until(lambda: broker.restarts >= 2)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        await until(lambda: broker.pid != first)
        await broker.wait_ready()


async def killed_when_it_answers(broker: EmbeddedBroker) -> None:
    await broker.wait_ready()
    await asyncio.sleep(0.05)  # its keeper has seen it too
    killed = broker.pid
    assert killed is not None
    os.kill(killed, signal.SIGKILL)
    await until(lambda: broker.pid != killed)


async def test_a_server_that_dies_whenever_it_answers_is_started_more_and_more_seldom(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was started again five times a second, for as long as its trouble lasted."""
    async with valkey(tmp_path) as broker:
        begun = time.monotonic()
        for _ in range(4):
            await killed_when_it_answers(broker)
        assert time.monotonic() - begun > 0.1 + 0.2 + 0.4 + 0.8
        monkeypatch.setattr(broker_module, "_CALM_AFTER_S", 0.0)
        await killed_when_it_answers(broker)  # it may have been ready before that
        begun = time.monotonic()
        await killed_when_it_answers(broker)
        assert time.monotonic() - begun < 1.6, "one that was well for a while is started soon"


async def test_a_second_broker_is_kept_out_of_the_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(broker_module, "STOP_WITHIN_S", 0.2)
    async with valkey(tmp_path):
        with pytest.raises(BrokerError, match="in use by another Linewatch"):
            await EmbeddedBroker(tmp_path).start()
    async with valkey(tmp_path):
        pass


async def test_a_folder_that_can_not_be_made_is_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(BrokerError, match="name another folder"):
        await EmbeddedBroker(tmp_path / "file" / "broker").start()


async def test_ctrl_c_in_our_terminal_does_not_reach_it(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker:
        assert broker.pid is not None
        assert os.getpgid(broker.pid) != os.getpgid(0)


_PARENT = """
import asyncio, sys
from pathlib import Path
from stream.broker import EmbeddedBroker

async def main():
    broker = EmbeddedBroker(Path(sys.argv[1]))
    await broker.start()
    print(broker.pid, flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


async def test_it_ends_when_we_are_killed(tmp_path: Path) -> None:
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    parent.kill()
    await parent.wait()
    await until(lambda: not _runs(child))


async def test_after_a_kill_the_old_server_is_waited_for_and_the_address_stays(tmp_path: Path) -> None:
    """Two servers in one folder would write into one file, and a port that is still taken means another."""
    parent = await asyncio.create_subprocess_exec(
        sys.executable, "-c", _PARENT, str(tmp_path), stdout=asyncio.subprocess.PIPE
    )
    assert parent.stdout is not None
    child = int(await parent.stdout.readline())
    address = json.loads((tmp_path / "address.json").read_text())
    os.kill(child, signal.SIGSTOP)  # as on a disk that takes its time
    parent.kill()
    await parent.wait()
    broker = EmbeddedBroker(tmp_path)
    starting = asyncio.create_task(broker.start())
    try:
        await asyncio.wait([starting], timeout=0.5)
        assert not starting.done()
    finally:
        os.kill(child, signal.SIGCONT)
        endpoint = await starting
        await broker.stop()
    assert endpoint.url.endswith(f":{address['port']}/0")


def _runs(pid: int) -> bool:
    try:
        return "Z" not in Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False


async def test_a_server_that_can_not_start_is_a_sentence(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        broker = EmbeddedBroker(tmp_path, port=taken.getsockname()[1])
        with pytest.raises(BrokerError, match="did not start"):
            await broker.start()


def test_the_run_file_is_for_its_owner_only_and_comes_back(tmp_path: Path) -> None:
    told = RunFile(
        Endpoint(f"redis://127.0.0.1:{free_port()}/0", password="p@:/%#"), "linewatch:a:b:events", 1
    )
    told.write(tmp_path / "run.json")
    assert stat.S_IMODE((tmp_path / "run.json").stat().st_mode) == 0o600
    assert RunFile.read(tmp_path / "run.json") == told


def test_a_run_file_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(BrokerError, match="no Linewatch runs here"):
        RunFile.read(tmp_path / "run.json")
