"""A subscriber gets every event, and what it can't digest does not stop it."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.asyncio import Redis
from redis.exceptions import OutOfMemoryError

from config.broker_url import BrokerUrl
from stream import leftovers
from stream.consumer import Consumer
from stream.events import entry_fields, parse_entry
from stream.lag import group_lags
from stream.links import connect
from stream.outbox import Outbox
from tests.brokers import KEYS, SERVERS, facts, valkey


@pytest_asyncio.fixture(params=SERVERS)
async def client(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Redis]:
    async with valkey(tmp_path / "broker", request.param()) as broker, broker.endpoint.client() as client:
        yield client


def reader(client: Redis, name: str = "one", idle_ms: int = 60_000) -> Consumer:
    return Consumer(client, KEYS.events, "mes", name=name, idle_ms=idle_ms, until_idle=True)


async def publish(client: Redis, tmp_path: Path, n: int) -> list[int]:
    outbox = Outbox(tmp_path / "outbox.db")
    for event in outbox.put(facts(n)):
        await client.xadd(KEYS.events, dict(entry_fields(event.json_text(), 1_700_000_001.0)))  # type: ignore[arg-type]
    outbox.close()
    return list(range(1, n + 1))


async def test_a_group_that_is_made_late_begins_at_the_first_event(client: Redis, tmp_path: Path) -> None:
    numbers = await publish(client, tmp_path, 100)
    consumer = reader(client)
    assert [event.seq async for event in consumer] == numbers
    assert (await client.xpending(KEYS.events, "mes"))["pending"] == 0
    assert consumer.counts.lost == 0


async def test_a_broker_that_is_full_lets_a_group_read_what_it_has(client: Redis, tmp_path: Path) -> None:
    """It refuses to make a group, also one that is there."""
    numbers = await publish(client, tmp_path, 10)
    assert [event.seq async for event in reader(client)] == numbers
    outbox = Outbox(tmp_path / "outbox.db")
    (more,) = outbox.put(facts(1))
    outbox.close()
    await client.xadd(KEYS.events, dict(entry_fields(more.json_text(), 1_700_000_001.0)))  # type: ignore[arg-type]
    await client.config_set("maxmemory", 1)
    assert [event.seq async for event in reader(client, "restarted")] == [more.seq]
    with pytest.raises(OutOfMemoryError):
        _ = [event async for event in Consumer(client, KEYS.events, "new", until_idle=True)]


async def test_a_body_that_raises_gets_its_event_again(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 3)
    consumer = reader(client)
    with pytest.raises(ZeroDivisionError):
        async for _ in consumer:
            raise ZeroDivisionError
    assert [event.seq async for event in consumer] == [1, 2, 3]


async def test_a_dead_consumers_events_go_to_another(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 3)
    async for _ in reader(client, "dies"):
        break
    assert [event.seq async for event in reader(client, "other", idle_ms=0)] == [1, 2, 3]


async def test_a_slow_consumers_events_are_not_worked_on_by_two(client: Redis, tmp_path: Path) -> None:
    """What it had read and not come to yet was taken over, and then worked on by both."""
    await publish(client, tmp_path, 10)
    consumer, other = reader(client, "slow"), reader(client, "other")
    slow = aiter(consumer)
    worked_on = [(await anext(slow)).seq]
    # Its body takes a minute.
    consumer._here_since -= 60.0
    ids = [entry_id for entry_id, _ in await client.xrange(KEYS.events)]
    await client.xclaim(KEYS.events, "mes", "slow", 0, ids, idle=60_000, justid=True)
    worked_on.append((await anext(slow)).seq)
    worked_on += [event.seq async for event in other]
    worked_on += [event.seq async for event in slow]
    assert worked_on == list(range(1, 11))
    assert other.counts.claimed == 8


async def test_an_event_that_kills_its_reader_becomes_a_dead_letter(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 2)
    consumer = reader(client)
    for _ in range(5):
        async for event in consumer:
            assert event.seq == 1
            break
    assert [event.seq async for event in consumer] == [2]
    ((_, fields),) = await client.xrange(KEYS.dead)
    assert parse_entry(fields).seq == 1
    assert b"too often" in fields[b"dead_reason"]
    assert consumer.counts.dead == 1


async def test_a_foreign_entry_is_skipped_and_counted(client: Redis, tmp_path: Path) -> None:
    await client.xadd(KEYS.events, {"hello": "world"})
    await publish(client, tmp_path, 1)
    consumer = reader(client)
    assert [event.seq async for event in consumer] == [1]
    assert consumer.counts.foreign == 1


async def test_an_event_under_two_entry_ids_is_seen_once(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 2)
    ((_, first),) = await client.xrange(KEYS.events, count=1)
    await client.xadd(KEYS.events, first)
    consumer = reader(client)
    assert [event.seq async for event in consumer] == [1, 2]
    assert consumer.counts.repeated == 1


async def test_entries_trimmed_under_a_reader_are_counted(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 3)
    async for _ in reader(client, "dies"):
        break
    await client.xtrim(KEYS.events, maxlen=1, approximate=False)
    consumer = reader(client, "other", idle_ms=0)
    assert [event.seq async for event in consumer] == [3]
    assert consumer.counts.trimmed == 2


async def test_the_lag_of_a_group_is_known(client: Redis, tmp_path: Path) -> None:
    assert await group_lags(client, KEYS.events) == []
    await client.xgroup_create(KEYS.events, "mes", id="0", mkstream=True)
    await publish(client, tmp_path, 7)
    (group,) = await group_lags(client, KEYS.events, unread=lambda read_up_to: 7)  # Redis 6.2 can't say it
    assert (group.group, group.lag, group.pending, group.oldest_ms) == ("mes", 7, 0, None)


async def test_the_age_of_what_a_group_has_not_settled_is_known(client: Redis) -> None:
    await client.xgroup_create(KEYS.events, "mes", id="0", mkstream=True)

    async def oldest_ms() -> int | None:
        (group,) = await group_lags(client, KEYS.events, ages=True)
        return group.oldest_ms

    assert await oldest_ms() is None
    for ms in (1000, 2000):
        await client.xadd(KEYS.events, {"n": ms}, id=f"{ms}-0")
    assert await oldest_ms() == 1000
    await client.xreadgroup("mes", "one", {KEYS.events: ">"}, count=1)
    assert await oldest_ms() == 1000
    await client.xack(KEYS.events, "mes", "1000-0")
    assert await oldest_ms() == 2000
    await client.xgroup_create(KEYS.events, "odd", id="18446744073709551615-18446744073709551615")
    told = {group.group: group.oldest_ms for group in await group_lags(client, KEYS.events, ages=True)}
    assert told == {"mes": 2000, "odd": None}


async def test_a_reader_goes_on_when_the_broker_comes_back(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker:
        client = broker.endpoint.client()
        await publish(client, tmp_path, 2)
        consumer = Consumer(client, KEYS.events, "mes", name="one", block_ms=100)
        numbers = []
        async for event in consumer:
            numbers.append(event.seq)
            if event.seq == 2:
                await broker.stop()
                await broker.start()
                async with broker.endpoint.client() as other:
                    await publish(other, tmp_path, 1)
            if len(numbers) == 3:
                break
        await client.aclose()
    assert numbers == [1, 2, 3]
    assert consumer.counts.lost == 0


async def consumers(client: Redis) -> list[str]:
    return [told["name"].decode() for told in await client.xinfo_consumers(KEYS.events, "mes")]


async def test_one_that_is_named_by_chance_leaves_its_group_once_it_has_settled_all(
    client: Redis, tmp_path: Path
) -> None:
    await publish(client, tmp_path, 3)
    one = Consumer(client, KEYS.events, "mes", until_idle=True)
    async for event in one:
        if event.seq == 2:
            await one._leave()
            assert await consumers(client) == [one.name], "what it has not acknowledged would go with it"
            break
    assert [event.seq async for event in one] == [2, 3]
    assert await consumers(client) == []
    assert [event.seq async for event in reader(client)] == []
    assert await consumers(client) == ["one"], "a name that was given is its giver's"


async def test_one_that_is_named_by_chance_takes_out_those_that_are_gone_for_a_day(
    client: Redis, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each `linewatch events --follow --group` left one, and so did each crash."""
    await publish(client, tmp_path, 3)
    assert [event.seq async for event in reader(client, "empty")] == [1, 2, 3]
    await publish(client, tmp_path, 1)
    async for _ in reader(client, "holds"):
        break
    assert [event.seq async for event in Consumer(client, KEYS.events, "mes", until_idle=True)] == []
    assert await consumers(client) == ["empty", "holds"], "it may be back within a day"
    monkeypatch.setattr(leftovers, "IDLE_MS", 200)
    await asyncio.sleep(0.25)
    assert [event.seq async for event in reader(client, "fresh")] == []
    assert await consumers(client) == ["empty", "fresh", "holds"], "a name that was given tidies nothing"
    assert [event.seq async for event in Consumer(client, KEYS.events, "mes", until_idle=True)] == []
    assert await consumers(client) == ["fresh", "holds"], "what it holds would be forgotten with it"


async def test_one_that_may_not_leave_its_group_stays_without_a_word(client: Redis, tmp_path: Path) -> None:
    rights = ("on", ">strict", "~*", "+@all", "-xgroup", "+xgroup|create")
    await client.execute_command("ACL", "SETUSER", "strict", *rights)
    await publish(client, tmp_path, 2)
    where = client.connection_pool.connection_kwargs
    async with Redis(host=where["host"], port=where["port"], username="strict", password="strict") as strict:
        one = Consumer(strict, KEYS.events, "mes", until_idle=True)
        assert [event.seq async for event in one] == [1, 2]
    assert await consumers(client) == [one.name]


@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+sentinel://127.0.0.1:1/mymaster"])
def test_a_client_that_decodes_is_refused_at_once(url: str) -> None:
    client = connect(BrokerUrl.parse(url), {"decode_responses": True}, {})
    with pytest.raises(ValueError, match="without decode_responses=True"):
        Consumer(client, KEYS.events, "mes")


async def test_a_client_of_a_cluster_that_decodes_is_refused_too() -> None:
    nodes = "redis+cluster://127.0.0.1:1"
    with pytest.raises(ValueError, match="without decode_responses=True"):
        Consumer(connect(BrokerUrl.parse(nodes), {"decode_responses": True}, {}), KEYS.events, "mes")
    Consumer(connect(BrokerUrl.parse(nodes), {}, {}), KEYS.events, "mes")


def holder(client: Redis) -> Consumer:
    return Consumer(client, KEYS.events, "bridge", name="one", until_idle=True)


async def test_held_events_are_settled_in_any_order(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 5)
    consumer = holder(client)
    held = [item async for item in consumer.held()]
    assert [item.event.seq for item in held] == [1, 2, 3, 4, 5]
    for item in reversed(held[1:]):
        await consumer.settle(item)
    assert (await client.xpending(KEYS.events, "bridge"))["pending"] == 1
    again = [item async for item in holder(client).held()]
    assert [item.event.seq for item in again] == [1], "what is not settled comes again at the next start"


async def test_what_is_held_over_many_restarts_is_no_dead_letter(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 2)
    for _ in range(10):
        assert [item.event.seq async for item in holder(client).held()] == [1, 2]
    assert await client.xlen(KEYS.dead) == 0


async def test_a_held_event_that_comes_again_is_given_once_and_settled_whole(
    client: Redis, tmp_path: Path
) -> None:
    await publish(client, tmp_path, 1)
    ((_, fields),) = await client.xrange(KEYS.events)
    consumer, held = holder(client), []
    async for item in consumer.held():
        held.append(item)
        if len(held) == 1:
            await client.xadd(KEYS.events, fields)
    assert len(held) == 1 and len(held[0].entries) == 2
    await consumer.settle(held[0])
    assert (await client.xpending(KEYS.events, "bridge"))["pending"] == 0


async def test_reading_waits_while_too_many_are_held(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 10)
    consumer = holder(client)
    reading = aiter(consumer.held(most=3))
    held = [await anext(reading) for _ in range(3)]
    fourth = asyncio.ensure_future(anext(reading))
    done, _ = await asyncio.wait([fourth], timeout=0.1)
    assert not done
    await consumer.settle(held[1])
    assert (await fourth).event.seq == 4


async def test_a_rejected_event_is_a_dead_letter_with_its_reason(client: Redis, tmp_path: Path) -> None:
    await publish(client, tmp_path, 1)
    consumer = holder(client)
    async for item in consumer.held():
        await consumer.reject(item, "the peer will not have it")
    ((_, letter),) = await client.xrange(KEYS.dead)
    assert (parse_entry(letter).seq, letter[b"dead_reason"]) == (1, b"the peer will not have it")
    assert (await client.xpending(KEYS.events, "bridge"))["pending"] == 0
