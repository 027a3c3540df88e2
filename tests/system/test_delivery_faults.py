"""Whatever is done to a real broker: every decided event is in the stream, once, and in order."""

import asyncio
import contextlib
import os
import random
import shutil
import signal
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest
import pytest_asyncio
from redis.exceptions import ResponseError

from stream.broker import EmbeddedBroker, Endpoint
from stream.drafts import Drafts
from stream.events import Event
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import (
    KEYS,
    SERVERS,
    Cutter,
    check_complete,
    facts,
    published,
    publishing,
    stored,
    until,
    valkey,
)

TIMEOUT_S = 0.5


class Rig:
    """A broker, an outbox and a publisher; `put` is everything that was decided."""

    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        self.broker, self.folder = broker, folder
        self.clock_shift_s = 0.0
        self.outbox = Outbox(folder / "outbox.db", now_s=self.now_s)
        self.drafts = Drafts("test", "line-1", None, self.now_s)
        self.put: list[Event] = []
        self.endpoint: Endpoint | None = None
        self.publisher = Publisher(
            self.outbox,
            lambda: (self.endpoint or broker.endpoint).client(TIMEOUT_S),
            KEYS,
            maxlen=100_000,
            now_s=self.now_s,
        )

    def now_s(self) -> float:
        return time.time() + self.clock_shift_s

    def decide(self, n: int = 100) -> None:
        cameras = ["top"] * n + ["side"] * (n // 4)
        self.put += self.outbox.put([self.drafts.fact("camera", "flicker", camera) for camera in cameras])
        self.publisher.wake()

    async def delivered(self) -> None:
        await published(self.publisher, self.outbox)

    async def until_refused(self, because: str = "") -> None:
        """The publisher has noticed, and says why."""
        await until(lambda: self.publisher.state.error is not None and because in self.publisher.state.error)

    async def ask(self, *command: str | int) -> object:
        async with self.broker.endpoint.client() as client:
            return await client.execute_command(*command)

    async def read(self) -> list[Event]:
        async with self.broker.endpoint.client() as client:
            return await stored(client)


@pytest_asyncio.fixture(params=SERVERS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with valkey(tmp_path / "broker", request.param()) as broker:
        rig = Rig(broker, tmp_path)
        async with publishing(rig.publisher):
            yield rig
        rig.outbox.close()


async def killed(rig: Rig) -> None:
    assert rig.broker.pid is not None
    os.kill(rig.broker.pid, signal.SIGKILL)
    rig.decide()
    await rig.until_refused()


async def stopped(rig: Rig) -> None:
    await rig.broker.stop()
    for _ in range(3):
        rig.decide(20)
        retries = rig.publisher.state.retries
        await until(lambda: rig.publisher.state.retries > retries)  # noqa: B023
    await rig.broker.start()


def data_of(broker: EmbeddedBroker) -> Path:
    """A folder, or before Redis 7 a file."""
    folder = broker.folder / "appendonlydir"
    return folder if folder.exists() else broker.folder / "appendonly.aof"


def copy(source: Path, to: Path) -> None:
    shutil.copytree(source, to) if source.is_dir() else shutil.copy(source, to)


def remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


async def restarted_empty(rig: Rig) -> None:
    await rig.broker.stop()
    remove(data_of(rig.broker))
    rig.decide()
    await rig.until_refused()
    await rig.broker.start()


async def restored_from_a_backup(rig: Rig) -> None:
    data, backup = data_of(rig.broker), rig.folder / "backup"
    await rig.broker.stop()
    copy(data, backup)
    await rig.broker.start()
    rig.decide()
    await rig.delivered()
    await rig.broker.stop()
    remove(data)
    copy(backup, data)
    await rig.broker.start()


async def restored_and_written_to(rig: Rig) -> None:
    """Our ids are below the top then: what was lost must come back under new ones."""
    await restarted_empty(rig)
    await rig.ask("XADD", KEYS.events, "*", "foreign", "1")


async def made_readonly(rig: Rig) -> None:
    await rig.ask("REPLICAOF", "127.0.0.1", 1)
    rig.decide()
    await rig.until_refused("read only")
    await rig.ask("REPLICAOF", "NO", "ONE")


async def out_of_memory(rig: Rig) -> None:
    await rig.ask("CONFIG", "SET", "maxmemory", 1)
    rig.decide()
    await rig.until_refused("memory")
    await rig.ask("CONFIG", "SET", "maxmemory", 0)


async def password_changed(rig: Rig) -> None:
    async with rig.broker.endpoint.client() as admin:
        await admin.execute_command("CONFIG", "SET", "requirepass", "another")
        await admin.execute_command("CLIENT", "KILL", "SKIPME", "yes")
        rig.decide()
        await rig.until_refused("password")
        await admin.execute_command("CONFIG", "SET", "requirepass", rig.broker.endpoint.password)


async def acl_forbids(rig: Rig) -> None:
    await rig.ask("ACL", "SETUSER", "default", "-xadd")
    rig.decide()
    await rig.until_refused("ACL")
    await rig.ask("ACL", "SETUSER", "default", "+xadd")


async def paused(rig: Rig) -> None:
    assert rig.broker.pid is not None
    os.kill(rig.broker.pid, signal.SIGSTOP)
    rig.decide()
    await rig.until_refused()
    rig.decide()
    os.kill(rig.broker.pid, signal.SIGCONT)


async def key_of_another_type(rig: Rig) -> None:
    await rig.ask("RENAME", KEYS.events, "aside")
    await rig.ask("SET", KEYS.events, "a string")
    rig.decide()
    await rig.until_refused("WRONGTYPE")
    await rig.ask("RENAME", "aside", KEYS.events)


async def foreign_writer_ahead_of_us(rig: Rig) -> None:
    await rig.ask("XADD", KEYS.events, f"{int(time.time() * 1000) + 3_600_000}-7", "foreign", "1")
    rig.decide()


async def foreign_bytes_under_an_id_of_ours(rig: Rig) -> None:
    async with rig.broker.endpoint.client() as client:
        ((newest, _),) = await client.xrevrange(KEYS.events, count=1)
        await client.delete(KEYS.events)
        await client.xadd(KEYS.events, {"id": b"\xff"}, id=newest)


async def foreign_writer_at_the_end_of_all_ids(rig: Rig) -> None:
    """A stream that takes nothing more: it is said what to do, and the line goes on."""
    await rig.ask("XADD", KEYS.events, "18446744073709551615-18446744073709551615", "foreign", "1")
    rig.decide()
    await rig.until_refused("delete that stream's key")
    await rig.ask("DEL", KEYS.events)


async def clock_set_back(rig: Rig) -> None:
    rig.clock_shift_s = -3600.0
    rig.decide()
    await rig.delivered()


async def clock_set_ahead_and_back(rig: Rig) -> None:
    rig.clock_shift_s = 3600.0
    rig.decide()
    await rig.delivered()
    rig.clock_shift_s = 0.0
    rig.decide()


async def disk_refuses(rig: Rig) -> None:
    """First the entry ids can't be written down, then not what the broker has acknowledged."""
    for refused in ("NEW.ms IS NOT OLD.ms", "NEW.acked <> OLD.acked"):
        rig.outbox._db.execute(
            f"CREATE TRIGGER refuse BEFORE UPDATE ON event WHEN {refused} "
            "BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
        )
        rig.decide()
        await rig.until_refused("disk I/O error")
        rig.outbox._db.execute("DROP TRIGGER refuse")
        await rig.delivered()


Fault = Callable[[Rig], Awaitable[None]]
FAULTS: list[Fault] = [
    stopped,
    killed,
    restarted_empty,
    restored_from_a_backup,
    restored_and_written_to,
    made_readonly,
    out_of_memory,
    password_changed,
    acl_forbids,
    paused,
    key_of_another_type,
    foreign_writer_ahead_of_us,
    foreign_bytes_under_an_id_of_ours,
    foreign_writer_at_the_end_of_all_ids,
    clock_set_back,
    clock_set_ahead_and_back,
    disk_refuses,
]


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.__name__)
async def test_nothing_is_lost_doubled_or_disordered(rig: Rig, fault: Fault) -> None:
    rig.decide()
    await rig.delivered()
    await fault(rig)
    rig.decide()
    await rig.delivered()
    check_complete(await rig.read(), rig.put)
    assert rig.publisher.state.error is None


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_a_broker_that_is_away_for_ten_minutes_gets_everything(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker:
        rig = Rig(broker, tmp_path)
        async with publishing(rig.publisher):
            rig.decide()
            await rig.delivered()
            await broker.stop()
            for _ in range(600):
                rig.decide(8)
                await asyncio.sleep(1.0)
            assert rig.outbox.pending == 6000
            await broker.start()
            await rig.delivered()
        check_complete(await rig.read(), rig.put)
        rig.outbox.close()


async def test_a_network_that_cuts_replies_short_loses_and_doubles_nothing(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker, Cutter(broker.endpoint, random.Random(7)) as cutter:
        rig = Rig(broker, tmp_path)
        rig.endpoint = cutter.endpoint
        async with publishing(rig.publisher):
            while cutter.cuts < 10:
                rig.decide(8)
                await asyncio.sleep(0.005)
            cutter.calm = True
            await rig.delivered()
        check_complete(await rig.read(), rig.put)
        rig.outbox.close()


@pytest.mark.parametrize("taken", ["XDEL", "XTRIM"])
async def test_what_a_consumer_takes_out_of_the_stream_is_not_sent_again(rig: Rig, taken: str) -> None:
    """Also when the broker then comes back from a backup: only what it lost is sent again."""

    async def take_out() -> None:
        async with rig.broker.endpoint.client() as client:
            ids = [entry_id for entry_id, _ in await client.xrange(KEYS.events)]
            await (client.xdel(KEYS.events, *ids) if taken == "XDEL" else client.xtrim(KEYS.events, maxlen=0))

    rig.decide()
    await rig.delivered()
    await take_out()
    for _ in range(3):
        rig.decide(8)
        await rig.delivered()
        assert len(await rig.read()) == 10
        await take_out()
    before = rig.publisher.state.replayed
    await restored_from_a_backup(rig)
    rig.decide(4)
    await rig.delivered()
    check_complete(await rig.read(), rig.put[-130:])
    assert (before, rig.publisher.state.replayed) == (0, 125)


@pytest.mark.parametrize("ahead_ms", [0, 10_000])
async def test_a_chatty_foreign_writer_does_not_stop_us(rig: Rig, ahead_ms: int) -> None:
    """Not even one whose clock is ahead of ours, so that our ids are taken before we use them."""
    enough = asyncio.Event()

    async def chatter() -> None:
        async with rig.broker.endpoint.client() as client:
            while not enough.is_set():
                wished = f"{int(time.time() * 1000) + ahead_ms}-*" if ahead_ms else "*"
                with contextlib.suppress(ResponseError):  # below ours already
                    await client.xadd(KEYS.events, {"foreign": "1"}, id=wished)

    async with asyncio.TaskGroup() as group:
        group.create_task(chatter())
        group.create_task(chatter())
        rig.decide(300)
        try:
            await rig.delivered()
        finally:
            enough.set()
    check_complete(await rig.read(), rig.put)


async def test_a_broker_that_is_away_at_the_start_is_not_fatal(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    broker = EmbeddedBroker(tmp_path / "broker")
    broker.endpoint = Endpoint("redis://127.0.0.1:1/0")
    publisher = Publisher(outbox, lambda: broker.endpoint.client(TIMEOUT_S), KEYS, maxlen=1000)
    put = outbox.put(facts(10))
    async with publishing(publisher):
        await until(lambda: "can't be reached" in (publisher.state.error or ""))
        await broker.start()
        await published(publisher, outbox)
        async with broker.endpoint.client() as client:
            check_complete(await stored(client), put)
    await broker.stop()
    outbox.close()
