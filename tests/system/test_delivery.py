"""Every decided event is in the stream, once, in order, whatever happens to the broker."""

import asyncio
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import pytest_asyncio

from config.load import parse
from stream import claim
from stream.broker import EmbeddedBroker
from stream.claim import Taken
from stream.delivery import Delivery
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import KEYS, check_complete, facts, published, publishing, stored, until, valkey


@pytest_asyncio.fixture
async def broker(tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    async with valkey(tmp_path / "broker") as running:
        yield running


def make(broker: EmbeddedBroker, outbox: Outbox, maxlen: int = 10_000) -> Publisher:
    return Publisher(outbox, lambda: broker.endpoint.client(timeout_s=1.0), KEYS, maxlen=maxlen)


async def test_what_is_put_is_published_in_order(broker: EmbeddedBroker, tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    async with publishing(make(broker, outbox)) as publisher, broker.endpoint.client() as client:
        put = outbox.put(facts(300)) + outbox.put(facts(300, "side"))
        await published(publisher, outbox)
        read = await stored(client)
    check_complete(read, put)
    assert [e.seq for e in read if e.camera == "side"] == list(range(1, 301))
    assert read[0].published_at is not None
    outbox.close()


async def test_a_broker_that_lost_everything_gets_it_again_under_the_same_ids(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    async with publishing(make(broker, outbox)) as publisher, broker.endpoint.client() as client:
        put = outbox.put(facts(600))
        await published(publisher, outbox)
        before = [entry_id for entry_id, _ in await client.xrange(KEYS.events)]
        await client.flushall()
        put += outbox.put(facts(10))
        await published(publisher, outbox)
        read = await stored(client)
        after = [entry_id for entry_id, _ in await client.xrange(KEYS.events)]
    check_complete(read, put)
    assert [e.seq for e in read] == list(range(1, 611))
    assert after[:600] == before
    outbox.close()


async def test_a_process_that_gets_no_thread_publishes_on(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    monkeypatch.setattr("stream.publisher.CHECKPOINT_EVERY_S", 0.01)
    exhausted = ThreadPoolExecutor()
    exhausted.shutdown()
    asyncio.get_running_loop().set_default_executor(exhausted)
    async with publishing(make(broker, outbox)) as publisher:
        await until(lambda: "not written through" in caplog.text)
        outbox.put(facts(3))
        await published(publisher, outbox)
    outbox.close()


async def test_a_publisher_ends_when_it_is_cancelled_whatever_it_does(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "outbox.db")
    for turn in range(40):
        outbox.put(facts(30))
        async with publishing(make(broker, outbox)):
            await asyncio.sleep(turn * 0.0007)
    outbox.close()


async def test_a_copy_of_a_line_elsewhere_does_not_share_its_triggers(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each trigger went to one of the two: half of the parts got the verdict of another belt's pictures."""
    monkeypatch.setattr(claim, "RENEW_EVERY_S", 0.02)

    def line(machine: str) -> Delivery:
        events = f"{{url: '{broker.endpoint.url}', password: '{broker.endpoint.password}'}}"
        settings = parse(f"version: 1\nevents: {events}\n", name="x", folder=tmp_path / machine, env={})
        return Delivery(settings, lambda: None, lambda group: None)

    first, second = line("a"), line("b")
    await first.start()
    try:
        with pytest.raises(Taken, match=r"another Linewatch speaks for linewatch:.* on .*; stop that one"):
            await second.start()
        assert not first.is_taken
        # As when the broker was away at the second one's start.
        async with broker.endpoint.client() as client:
            await client.set(first.keys.owner, '{"run": "0", "n": 1}')
            await asyncio.sleep(0.1)
            assert not first.is_taken  # it may be dead
            await client.set(first.keys.owner, '{"run": "0", "n": 2}')
            await until(lambda: first.is_taken)
    finally:
        await second.stop(0.0)
        await first.stop(0.0)
