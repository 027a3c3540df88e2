"""What a broker that failed over, or came back empty, gives again is carried out once."""

from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError

from stream.inbox import GROUP, Inbox
from tests.brokers import KEYS, until, valkey
from tests.system.test_inbox import nothing_waits, reading


@pytest.mark.parametrize("at_once", [True, False])
async def test_what_a_broker_that_failed_over_gives_again_is_carried_out_once(
    tmp_path: Path, at_once: bool
) -> None:
    """The new primary may lack the last acknowledgements, and what it gave to whom."""
    taken: list[str] = []

    async def take(entry: str, fields: dict[str, str]) -> bool:
        taken.append(fields["command"])
        return at_once

    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        inbox = Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)
        first = (await client.xadd(KEYS.triggers, {"command": "disable"})).decode()
        async with reading(inbox):
            await until(lambda: taken == ["disable"])
            if at_once:
                await nothing_waits(client)
            await client.xgroup_setid(KEYS.triggers, GROUP, "0")
            await client.xadd(KEYS.triggers, {"command": "enable"})
            await until(lambda: taken[-1] == "enable")
            assert taken == ["disable", "enable"]
            assert at_once or (await client.xpending(KEYS.triggers, GROUP))["min"] == first.encode()
            inbox.settle(first)
            if at_once:
                await nothing_waits(client)


async def test_an_entry_id_that_an_emptied_broker_gives_to_something_new_is_new(tmp_path: Path) -> None:
    taken: list[str] = []

    async def take(entry: str, fields: dict[str, str]) -> bool:
        taken.append(fields["command"])
        return True

    async with (
        valkey(tmp_path) as broker,
        broker.endpoint.client() as client,
        reading(Inbox(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)),
    ):
        await client.xadd(KEYS.triggers, {"command": "disable"}, id="5-0")
        await until(lambda: taken == ["disable"])
        await nothing_waits(client)
        await client.flushall()
        await client.xadd(KEYS.triggers, {"command": "enable"}, id="5-0")
        await until(lambda: taken == ["disable", "enable"])


async def test_what_an_emptied_broker_is_given_under_lower_ids_is_not_trimmed_before_it_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.inbox._TRIM_EVERY_S", 0.0)
    taken: list[str] = []

    async def take(entry: str, fields: dict[str, str]) -> bool:
        taken.append(fields["command"])
        return True

    class Between(Inbox):
        """One entry comes when nothing was found to read, just before the trimming."""

        async def _read(self, client: Redis, start: str, block_ms: int | None) -> list[tuple[bytes, Any]]:
            entries = await super()._read(client, start, block_ms)
            if block_ms and not entries and taken == ["before", "first"] and not await client.exists("once"):
                await client.set("once", 1)
                await client.xadd(KEYS.triggers, {"command": "second"}, id="2000-0")
            return entries

    async with (
        valkey(tmp_path) as broker,
        broker.endpoint.client() as client,
        reading(Between(broker.endpoint.client, KEYS.triggers, KEYS.dead, take)),
    ):
        await client.xadd(KEYS.triggers, {"command": "before"}, id="9000000-0")
        await until(lambda: taken == ["before"])
        await nothing_waits(client)
        await client.flushall()
        await client.xadd(KEYS.triggers, {"command": "first"}, id="1000-0")
        await until(lambda: taken == ["before", "first", "second"])


async def test_a_node_that_is_down_with_the_dead_letters_holds_up_no_trigger(tmp_path: Path) -> None:
    """What can't be read was tried again and again, and nothing behind it was read."""
    taken: list[str] = []

    async def take(entry: str, fields: dict[str, str]) -> bool:
        taken.append(fields["part_id"])
        return True

    async def nobody_answers(*_: object, **__: object) -> None:
        raise ConnectionError("the node of this key is down")

    is_down = True
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:

        def client_of_a_cluster() -> Redis:
            made = broker.endpoint.client()
            if is_down:
                made.xadd = nobody_answers  # type: ignore[method-assign]
            return made

        inbox = Inbox(client_of_a_cluster, KEYS.triggers, KEYS.dead, take)
        await client.xadd(KEYS.triggers, {"part_id": b"\xff"})
        await client.xadd(KEYS.triggers, {"part_id": "a"})
        async with reading(inbox):
            await until(lambda: taken == ["a"])
            await client.xadd(KEYS.triggers, {"part_id": b"\xfe"})
            await client.xadd(KEYS.triggers, {"part_id": "b"})
            await until(lambda: taken == ["a", "b"])
            assert (inbox.counts.reconnects, inbox.counts.dead) == (2, 0)
            is_down, inbox._post_at_s = False, 0.0  # a minute later
            await client.client_kill_filter(_type="normal", skipme=True)
            await nothing_waits(client)
        assert await client.xlen(KEYS.dead) == inbox.counts.dead == 2
