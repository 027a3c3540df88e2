"""What others write for us is read once it can be, answered once, and acknowledged after that."""

import asyncio
import contextlib
import os
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from config.services import PartsSettings, TriggersSettings
from config.settings import CameraSettings
from engine.core import Frame
from stream.broker import EmbeddedBroker, Endpoint
from stream.endings import end
from stream.inbox import GROUP, Inbox, Malformed
from stream.outbox import Outbox
from stream.parts import Parts
from stream.recorder import Recorder
from tests.brokers import KEYS, SERVERS, until, valkey
from tests.unit.test_triggers import inspection

TOP = {
    "top": CameraSettings.model_validate({"source": {"type": "pattern"}, "frames": "every", "model": "top@1"})
}


@contextlib.asynccontextmanager
async def reading(inbox: Inbox) -> AsyncIterator[None]:
    task = asyncio.create_task(inbox.run(), name="inbox")
    try:
        yield
    finally:
        await end([task])


class Desk:
    """Parts of one camera with a device that answers at once, over an outbox; and their inbox."""

    def __init__(self, outbox: Outbox, endpoint: Endpoint, *, acknowledges: bool = True) -> None:
        self.outbox = outbox
        self.recorder = Recorder(outbox, site="test", line="line-1")
        self.parts = Parts(
            TOP,
            PartsSettings(),
            TriggersSettings(frame_within_ms=60_000),  # a broker takes its time to stop
            recorder=self.recorder,
            offer=self._offer,
            has_model=lambda camera: True,
            show=lambda frame: None,
            on_settled=lambda entry: self.inbox.settle(entry),
        )
        self.parts.recall(outbox.newest("verdicts", 100))
        self.inbox = Inbox(
            endpoint.client,
            KEYS.triggers,
            KEYS.dead,
            self.parts.take,
            lambda: acknowledges,
        )

    def _offer(self, frame: Frame) -> bool:
        asyncio.get_running_loop().call_soon(self.parts.inspected, inspection(frame))
        return True

    def picture(self, seq: int) -> None:
        now = time.time()
        self.parts.holds(Frame("top", seq, now, time.monotonic(), np.zeros((4, 4, 3), np.uint8)))

    def verdicts(self) -> list[tuple[str, str]]:
        return [(e.part_id, e.verdict) for e in reversed(self.outbox.newest("verdicts", 100))]


async def trigger(client: Redis, part_id: str) -> None:
    fields: dict[Any, Any] = {"camera": "top", "part_id": part_id, "at": str(time.time())}
    await client.xadd(KEYS.triggers, fields)


async def nothing_waits(client: Redis) -> None:
    async with asyncio.timeout(5):
        while (await client.xpending(KEYS.triggers, GROUP))["pending"]:  # noqa: ASYNC110
            await asyncio.sleep(0.02)


async def test_a_trigger_that_was_answered_before_a_crash_is_not_answered_again(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        outbox = Outbox(tmp_path / "outbox.db")
        crashed = Desk(outbox, broker.endpoint, acknowledges=False)
        await trigger(client, "a")
        await trigger(client, "b")
        async with reading(crashed.inbox):
            await until(lambda: crashed.parts.waiting("top") == 2)
            crashed.picture(1)
            await until(lambda: len(crashed.verdicts()) == 2)
        assert (await client.xpending(KEYS.triggers, GROUP))["pending"] == 2
        again = Desk(outbox, broker.endpoint)
        async with reading(again.inbox):
            await trigger(client, "c")
            await until(lambda: again.parts.waiting("top") == 1)
            again.picture(1)
            await until(lambda: len(again.verdicts()) == 3)
            await nothing_waits(client)
        assert again.verdicts() == [("a", "ok"), ("b", "ok"), ("c", "ok")]
        outbox.close()


async def test_a_trigger_that_was_read_but_not_answered_is_answered_by_the_next_run(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        outbox = Outbox(tmp_path / "outbox.db")
        crashed = Desk(outbox, broker.endpoint)
        await trigger(client, "a")
        async with reading(crashed.inbox):
            await until(lambda: crashed.parts.waiting("top") == 1)
        again = Desk(outbox, broker.endpoint)
        async with reading(again.inbox):
            await until(lambda: again.parts.waiting("top") == 1)
            again.parts.end()
            await nothing_waits(client)
        assert again.verdicts() == [("a", "unknown")]
        outbox.close()


async def test_a_broker_that_is_killed_costs_no_trigger_its_verdict(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker:
        outbox = Outbox(tmp_path / "outbox.db")
        desk = Desk(outbox, broker.endpoint)
        async with reading(desk.inbox):
            async with broker.endpoint.client() as client:
                await trigger(client, "a")
                await until(lambda: desk.parts.waiting("top") == 1)
                await broker.stop()
                await until(lambda: desk.inbox.error is not None)
                desk.picture(1)
                await until(lambda: desk.verdicts() == [("a", "ok")])
            await broker.start()
            async with broker.endpoint.client() as client:
                await trigger(client, "b")
                await until(lambda: desk.parts.waiting("top") == 1)
                desk.picture(2)
                await until(lambda: desk.verdicts() == [("a", "ok"), ("b", "ok")])
                await nothing_waits(client)
        assert desk.inbox.error is None and desk.inbox.counts.reconnects > 0
        outbox.close()


async def test_triggers_that_an_acl_forbids_to_read_are_a_trouble_until_it_permits_them(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        user = ("ACL", "SETUSER", "line", "on", ">pw", "~*", "+@all")
        await client.execute_command(*user)
        ours = replace(broker.endpoint, username="line", password="pw")
        inbox = Inbox(ours.client, KEYS.triggers, KEYS.dead, settled_at_once)
        with caplog.at_level("INFO", "stream.inbox"):
            async with reading(inbox):
                await trigger(client, "a")
                await until(lambda: inbox.counts.taken == 1)
                assert inbox.trouble is None
                await client.execute_command(*user, "-xreadgroup")
                await until(lambda: inbox.counts.reconnects > 3)
                assert "the broker's ACL forbids" in str(inbox.trouble)
                await client.execute_command(*user, "+xreadgroup")
                await trigger(client, "b")
                await until(lambda: inbox.counts.taken == 2)
                assert inbox.trouble is None
        said = [text.partition(": ")[0] for text in caplog.messages]
        assert said == [f"{KEYS.triggers} can't be read", f"{KEYS.triggers} is read again"]


async def test_an_entry_that_kills_its_reader_again_and_again_is_buried(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        await client.xadd(KEYS.commands, {"command": "poison"})
        died = 0

        async def take(entry: str, fields: dict[str, str]) -> bool:
            if fields["command"] == "poison":
                raise ZeroDivisionError
            return True

        for _ in range(8):
            inbox = Inbox(broker.endpoint.client, KEYS.commands, KEYS.dead, take)
            async with asyncio.timeout(5):
                task = asyncio.create_task(inbox.run())
                await until(lambda: task.done() or inbox.counts.dead == 1)  # noqa: B023
            if not task.done():
                break
            assert isinstance(task.exception(), ZeroDivisionError)
            died += 1
        assert died == 5
        await client.xadd(KEYS.commands, {"command": "fine"})
        await until(lambda: inbox.counts.taken == 1)
        task.cancel()
        await asyncio.wait([task])
        ((_, letter),) = await client.xrange(KEYS.dead)
        assert letter[b"dead_reason"] == b"delivered too often without being settled"
        assert letter[b"command"] == b"poison" and letter[b"dead_stream"] == KEYS.commands.encode()


async def test_a_broker_that_takes_no_dead_letter_does_not_stop_the_reader(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        await client.set(KEYS.dead, "no stream")
        outbox = Outbox(tmp_path / "outbox.db")
        desk = Desk(outbox, broker.endpoint)
        await client.xadd(KEYS.triggers, {"camera": "left"})
        await trigger(client, "a")
        async with reading(desk.inbox):
            await until(lambda: desk.parts.waiting("top") == 1)
            desk.picture(1)
            await until(lambda: desk.verdicts() == [("a", "ok")])
            assert desk.inbox.counts.reconnects == 0
            assert (await client.xpending(KEYS.triggers, GROUP))["pending"] > 0
            await client.delete(KEYS.dead)
            await client.client_kill_filter(_type="normal", skipme=True)
            await nothing_waits(client)
        assert await client.xlen(KEYS.dead) == desk.inbox.counts.dead == 1
        outbox.close()


async def test_what_was_settled_long_ago_is_trimmed_and_nothing_that_waits(tmp_path: Path) -> None:
    async def take(entry: str, fields: dict[str, str]) -> bool:
        if entry == "1000-0":
            raise Malformed("no trigger")
        return entry != "1500000-0"

    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        await client.set(KEYS.dead, "no stream")  # what can't be buried holds up nothing
        for start in range(1000, 3_001_000, 1_000_000):  # 3000 entries, one a second
            async with client.pipeline(transaction=False) as pipe:
                for ms in range(start, start + 1_000_000, 1000):
                    pipe.xadd(KEYS.triggers, {"n": ms}, id=f"{ms}-0")
                await pipe.execute()
        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        async with reading(inbox):
            await until(lambda: inbox.counts.taken == 3000)
            await trimmed_to(client, 1500)
            await client.xadd(KEYS.triggers, {"n": "last"}, id="9000000-0")
            inbox.settle("1500000-0")
            await until(lambda: inbox.counts.taken == 3001)
        assert (await client.xrange(KEYS.triggers, count=1))[0][0] <= b"1500000-0"


async def test_what_was_settled_long_ago_is_trimmed_also_where_little_comes(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        for ms in range(1000, 1_000_000, 1000):
            await client.xadd(KEYS.triggers, {"n": ms}, id=f"{ms}-0")
        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, settled_at_once)
        async with reading(inbox):
            await until(lambda: inbox.counts.taken == 999)
            await nothing_waits(client)
        later = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, settled_at_once)
        async with reading(later):
            await client.xadd(KEYS.triggers, {"n": "last"}, id="1000000-0")
            await trimmed_to(client, 600)


async def settled_at_once(entry: str, fields: dict[str, str]) -> bool:
    return True


PICTURE = os.urandom(1 << 20)


async def pushed(client: Redis, part_id: str, picture: bytes = PICTURE) -> str:
    fields: dict[Any, Any] = {"camera": "top", "part_id": part_id, "picture": picture}
    return str((await client.xadd(KEYS.triggers, fields)).decode())


async def parts_in_the_stream(client: Redis) -> list[str]:
    return [fields[b"part_id"].decode() for _, fields in await client.xrange(KEYS.triggers)]


async def emptied_to(client: Redis, *parts: str) -> None:
    async with asyncio.timeout(10):
        while await parts_in_the_stream(client) != list(parts):  # noqa: ASYNC110
            await asyncio.sleep(0.02)


@contextlib.asynccontextmanager
async def small(folder: Path, binary: Path | None = None) -> AsyncIterator[EmbeddedBroker]:
    """A broker that a few dozen pictures fill."""
    broker = EmbeddedBroker(folder, binary=binary, max_memory_mb=32)
    await broker.start()
    try:
        yield broker
    finally:
        await broker.stop()


async def filled(client: Redis) -> None:
    with pytest.raises(OutOfMemoryError):
        for n in range(100):
            await pushed(client, f"{n}")


async def test_pictures_that_are_settled_do_not_fill_the_broker(tmp_path: Path) -> None:
    async with small(tmp_path) as broker, broker.endpoint.client() as client:
        await trigger(client, "text")
        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, settled_at_once)
        async with reading(inbox):
            for n in range(80):
                await pushed(client, f"{n}")
                await until(lambda: inbox.counts.taken == n + 2)  # noqa: B023
            await emptied_to(client, "text")
            await nothing_waits(client)


async def test_a_picture_stays_until_its_trigger_is_settled(tmp_path: Path) -> None:
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:

        async def take(entry: str, fields: dict[str, str]) -> bool:
            return fields["part_id"] != "waits"

        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        waits = await pushed(client, "waits")
        await pushed(client, "a")
        async with reading(inbox):
            await emptied_to(client, "waits")
        again = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        async with reading(again):
            await until(lambda: again.counts.taken == 1)
            assert await parts_in_the_stream(client) == ["waits"]
            again.settle(waits)
            await emptied_to(client)


@pytest.mark.parametrize("binary", SERVERS)
async def test_a_line_that_comes_up_at_a_broker_full_of_settled_pictures_frees_them(
    binary: Any, tmp_path: Path
) -> None:
    """As an older version of ours left it, or one that was killed between acknowledgement and deletion."""
    async with small(tmp_path, binary()) as broker, broker.endpoint.client() as client:
        await client.xgroup_create(KEYS.triggers, GROUP, id="0", mkstream=True)
        await trigger(client, "text")
        await filled(client)
        told: Any = await client.xreadgroup(GROUP, "line", {KEYS.triggers: ">"}, count=100)
        waits, *settled = [entry for entry, fields in told[0][1] if fields[b"part_id"] != b"text"]
        await client.xack(KEYS.triggers, GROUP, *settled)
        taken: list[str] = []

        async def take(entry: str, fields: dict[str, str]) -> bool:
            taken.append(fields["part_id"])
            return fields["part_id"] != "0"

        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        async with reading(inbox):
            await until(lambda: "0" in taken)
            assert await parts_in_the_stream(client) == ["text", "0"]
            assert sorted(taken) == ["0", "text"], "what was settled is not taken again"
            inbox.settle(waits.decode())
            await emptied_to(client, "text")


async def test_pictures_that_can_not_be_read_and_fill_the_broker_are_buried(
    tmp_path: Path,
) -> None:
    async with small(tmp_path) as broker, broker.endpoint.client() as client:

        async def take(entry: str, fields: dict[str, str]) -> bool:
            raise Malformed("the picture can't be read")

        await client.xgroup_create(KEYS.triggers, GROUP, id="0", mkstream=True)
        await filled(client)
        there = await client.xlen(KEYS.triggers)
        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        async with reading(inbox):
            await emptied_to(client)
            await nothing_waits(client)
        assert 0 < await client.xlen(KEYS.dead) == inbox.counts.dead <= there


async def test_a_broker_whose_acl_forbids_the_deletion_is_not_filled_either(tmp_path: Path) -> None:
    """The example of an ACL as it was when pictures were only trimmed."""
    async with small(tmp_path) as broker, broker.endpoint.client() as client:
        await filled(client)
        await client.execute_command("ACL", "SETUSER", "older", "on", ">pw", "~*", "+@all", "-xdel")
        older = replace(broker.endpoint, username="older", password="pw")
        inbox = Inbox(older.client, KEYS.triggers, KEYS.dead, settled_at_once)
        async with reading(inbox):
            for n in range(80):
                async with asyncio.timeout(10):
                    while await client.xlen(KEYS.triggers) > 20:  # noqa: ASYNC110
                        await asyncio.sleep(0.02)
                await pushed(client, f"{n}")
                await until(lambda: inbox.counts.taken > n)  # noqa: B023


async def trimmed_to(client: Redis, about: int) -> None:
    """A server trims whole blocks of at most a hundred entries."""
    async with asyncio.timeout(5):
        while not about <= await client.xlen(KEYS.triggers) < about + 200:  # noqa: ASYNC110
            await asyncio.sleep(0.02)
