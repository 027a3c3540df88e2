"""The same promises behind a sentinel and in a cluster: nothing lost, doubled or disordered."""

import asyncio
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from config.settings import Settings
from stream.bridges import process
from stream.bridges.process import Bridge
from stream.broker import Endpoint
from stream.consumer import Consumer
from stream.delivery import Delivery
from stream.doctor import services as doctor
from stream.endings import end
from stream.events import Event
from stream.inbox import Inbox
from stream.outbox import Outbox
from stream.probe import probe_broker
from stream.publisher import Publisher
from stream.status import StatusBoard
from tests.bridgeline import settings_with
from tests.brokers import KEYS, SERVERS_FROM_7, check_complete, facts, published, publishing, stored, until
from tests.clusters import PASSWORD, SENTINEL_PASSWORD, cluster, watched_pair
from tests.system.test_inbox import reading

BOTH = ("events", "verdicts")


@pytest.fixture(params=SERVERS_FROM_7)
def binary(request: pytest.FixtureRequest) -> Path:
    return request.param()


def make(endpoint: Endpoint, outbox: Outbox) -> Publisher:
    return Publisher(outbox, lambda: endpoint.client(timeout_s=1.0), KEYS, maxlen=100_000)


async def read_by_a_group(endpoint: Endpoint, key: str) -> list[Event]:
    async with endpoint.client() as client:
        return [event async for event in Consumer(client, key, "mes", until_idle=True)]


@asynccontextmanager
async def following(endpoint: Endpoint) -> AsyncIterator[list[Event]]:
    """A subscriber that goes on through whatever is done to the broker."""
    read: list[Event] = []

    async def follow() -> None:
        async with endpoint.client(timeout_s=1.0) as client:
            async for event in Consumer(client, KEYS.events, "follower", block_ms=100):
                read.append(event)

    task = asyncio.create_task(follow(), name="follower")
    try:
        yield read
    finally:
        await end([task])


async def test_behind_a_sentinel_a_primary_that_dies_costs_nothing(binary: Path, tmp_path: Path) -> None:
    """Not even what it had acknowledged and its replica had not got."""
    async with watched_pair(tmp_path, binary) as pair:
        outbox = Outbox(tmp_path / "outbox.db")
        publisher = make(pair.endpoint, outbox)
        async with publishing(publisher), following(pair.endpoint) as followed:
            put = outbox.put(facts(300))
            await published(publisher, outbox)
            await until(lambda: len(followed) == 300)
            assert await pair.primary.ask("WAIT", 1, 5000) == 1
            pair.replica.signal(signal.SIGSTOP)
            await pair.primary.ask("CLIENT", "KILL", "TYPE", "replica")
            put += outbox.put(facts(40))
            await published(publisher, outbox)
            await pair.primary.kill()
            pair.replica.signal(signal.SIGCONT)
            put += outbox.put(facts(40))
            await published(publisher, outbox)
            await until(lambda: len(followed) == 380)
            assert {event.id for event in followed} == {event.id for event in put}
        check_complete(await stored(pair.replica.client), put)
        assert publisher.state.replayed >= 40  # more where the sentinel was hasty on a busy machine
        assert [e.id for e in await read_by_a_group(pair.endpoint, KEYS.events)] == [e.id for e in put]
        outbox.close()


async def test_in_a_cluster_each_key_goes_to_its_node(binary: Path, tmp_path: Path) -> None:
    async with cluster(tmp_path, binary) as nodes:
        assert len({nodes.owner(key) for key in (KEYS.events, KEYS.verdicts, KEYS.status("top"))}) > 1
        outbox = Outbox(tmp_path / "outbox.db")
        publisher = make(nodes.endpoint, outbox)
        async with publishing(publisher), following(nodes.endpoint) as followed:
            put = outbox.put(facts(300), BOTH)
            await published(publisher, outbox)
            await until(lambda: len(followed) == 300)
            await nodes.move(KEYS.events, to=(nodes.owner(KEYS.events) + 1) % 3)
            put += outbox.put(facts(100), BOTH)
            await published(publisher, outbox)
            await until(lambda: len(followed) == 400)
            check_complete(followed, put)
        for key in (KEYS.events, KEYS.verdicts):
            check_complete(await read_by_a_group(nodes.endpoint, key), put)
        outbox.close()


async def test_a_node_that_is_down_holds_up_only_its_own_keys(binary: Path, tmp_path: Path) -> None:
    async with cluster(tmp_path, binary) as nodes:
        assert nodes.owner(KEYS.events) != nodes.owner(KEYS.verdicts)
        outbox = Outbox(tmp_path / "outbox.db")
        publisher = make(nodes.endpoint, outbox)
        async with publishing(publisher):
            outbox.put(facts(3), BOTH)
            await published(publisher, outbox)
            down = nodes.nodes[nodes.owner(KEYS.events)]
            down.signal(signal.SIGSTOP)
            outbox.put(facts(50), BOTH)
            publisher.wake()
            await until(lambda: not outbox.take("verdicts", 1))
            assert outbox.pending == 50
            await until(lambda: publisher.state.error is not None)
            outbox.put(facts(50), BOTH)  # also after the map of the cluster was read again
            await until(lambda: not outbox.take("verdicts", 1))
            assert outbox.pending == 100
            down.signal(signal.SIGCONT)
            await published(publisher, outbox)
        outbox.close()


async def test_status_triggers_and_dead_letters_work_in_a_cluster(binary: Path, tmp_path: Path) -> None:
    async with cluster(tmp_path, binary) as nodes, nodes.endpoint.client() as client:
        taken: list[str] = []

        async def take(entry: str, fields: dict[str, str]) -> bool:
            taken.append(fields["part_id"])
            return True

        await client.xadd(KEYS.triggers, {"part_id": "a"})
        await client.xadd(KEYS.triggers, {"part_id": b"\xff"})
        await client.xadd(KEYS.triggers, {"part_id": "b"})
        inbox = Inbox(nodes.endpoint.client, KEYS.triggers, KEYS.dead, take)
        async with reading(inbox):
            await until(lambda: taken == ["a", "b"])
        (letter,) = await client.xrange(KEYS.dead)
        assert b"not UTF-8" in letter[1][b"dead_reason"]
        board = StatusBoard(nodes.endpoint.client, KEYS, lambda: {"top": {"ready": 1}, "side": {"ready": 0}})
        await board.write(client)
        await board.beat(client)
        assert await client.hgetall(KEYS.status("top")) == {b"ready": b"1"}
        assert await client.exists(KEYS.heartbeat) == 1
        assert await board.cleared()
        assert await client.hget(KEYS.status("top"), "ready") == b"0"


@pytest.mark.parametrize(
    ("url", "why"),
    [
        ("redis+sentinel://127.0.0.1:1/mine", "a sentinel can't be reached: connection refused"),
        ("redis+cluster://127.0.0.1:1", "can't be reached"),
    ],
)
async def test_one_that_is_away_at_the_start_is_waited_for_and_said_in_a_sentence(
    url: str, why: str, tmp_path: Path
) -> None:
    endpoint = Endpoint(url, password="hidden")
    outbox = Outbox(tmp_path / "outbox.db")
    publisher = make(endpoint, outbox)
    outbox.put(facts(1))
    inbox = Inbox(endpoint.client, KEYS.triggers, KEYS.dead, take_nothing)
    async with publishing(publisher), reading(inbox):
        await until(lambda: publisher.state.retries > 1 and inbox.counts.reconnects > 1)
    assert why in str(publisher.state.error) and why in str(inbox.error)
    assert not await StatusBoard(endpoint.client, KEYS, lambda: {"top": {"ready": 1}}).cleared()
    told = await probe_broker(Settings.model_validate({"version": 1, "events": {"url": url}}))
    assert not told.ok and why in told.text and len(told.text) < 160
    outbox.close()


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1/mine", "redis+cluster://127.0.0.1:1"])
async def test_one_that_is_away_at_the_start_ends_no_line(url: str, tmp_path: Path) -> None:
    events = {"url": url, "outbox": {"path": tmp_path / "outbox.db"}}
    settings = Settings.model_validate({"version": 1, "events": events})
    delivery = Delivery(settings, lambda: None, lambda group: None)
    await delivery.start()
    assert delivery.endpoint is not None
    board = StatusBoard(delivery.endpoint.client, delivery.keys, lambda: {"top": {"ready": 1}})
    status = asyncio.create_task(board.run(), name="status")
    try:
        delivery.outbox.put(facts(1))
        await until(lambda: delivery.state.retries > 1)
        assert delivery.died is None
        assert not status.done()
    finally:
        await end([status])
        await delivery.stop(0.0)


@pytest.mark.parametrize("url", ["redis+sentinel://127.0.0.1:1/mine", "redis+cluster://127.0.0.1:1"])
async def test_nor_a_bridge(url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    settings = settings_with(
        tmp_path, 'mes: {type: webhook, url: "http://127.0.0.1:1/", secret: "0123456789abcdef"}'
    )
    stop, reported = asyncio.Event(), asyncio.Event()
    monkeypatch.setattr(process, "heed_cancellation", reported.set)  # after each report, also one that failed
    task = asyncio.create_task(Bridge("mes", settings, Endpoint(url), KEYS.events).run(stop), name="bridge")
    reporting = asyncio.create_task(reported.wait(), name="reported")
    await asyncio.wait([task, reporting], return_when=asyncio.FIRST_COMPLETED)
    assert not task.done()
    stop.set()
    await asyncio.gather(task, reporting)


async def take_nothing(entry: str, fields: dict[str, str]) -> bool:
    raise AssertionError(entry)


async def test_check_and_doctor_reach_it_and_name_a_wrong_password(binary: Path, tmp_path: Path) -> None:
    async with cluster(tmp_path / "c", binary) as nodes, watched_pair(tmp_path / "p", binary) as pair:
        for endpoint in (nodes.endpoint, pair.endpoint):
            right = {
                "url": endpoint.url,
                "password": PASSWORD,
                "sentinel": {"password": SENTINEL_PASSWORD},
                "outbox": {"path": tmp_path / "outbox.db"},
            }
            settings = Settings.model_validate({"version": 1, "events": right})
            assert (await probe_broker(settings)).ok
            found = await doctor.broker(settings, running=False)
            assert "answers, " in found.text, found
            wrong = Settings.model_validate({"version": 1, "events": right | {"password": "wrong"}})
            assert "user or password" in (await probe_broker(wrong)).text
        for url, login, said in (
            (pair.endpoint.url, "wrong", "check events.sentinel.username and events.sentinel.password"),
            (f"{pair.endpoint.url}s", SENTINEL_PASSWORD, "the sentinels name no primary now"),
        ):
            events = {"url": url, "sentinel": {"password": login}}
            told = await probe_broker(Settings.model_validate({"version": 1, "events": events}))
            assert said in told.text
