"""A broker without memory: the oldest entries of ours go, and what is decided later gets in."""

import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
from redis.exceptions import ExecAbortError, OutOfMemoryError

from stream.broker import EmbeddedBroker
from stream.events import Event
from stream.outbox import Outbox
from stream.publisher import Publisher, explain
from stream.room import FLOOR
from tests.brokers import DRAFTS, KEYS, SERVERS, published, publishing, stored, until

# Some 3,000 events of this size fill the broker.
MEMORY_MB, LARGE = 8, {"text": 2000 * "x"}


class Rig:
    def __init__(self, broker: EmbeddedBroker, folder: Path) -> None:
        self.outbox = Outbox(folder / "outbox.db")
        self.client = broker.endpoint.client()
        self.publisher = Publisher(self.outbox, broker.endpoint.client, KEYS, maxlen=100_000)
        self.put: list[Event] = []

    def decide(self, n: int) -> None:
        self.put += self.outbox.put([DRAFTS.fact("camera", "flicker", "top", detail=LARGE) for _ in range(n)])
        self.publisher.wake()


@pytest_asyncio.fixture(params=SERVERS)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    broker = EmbeddedBroker(tmp_path / "broker", binary=request.param(), max_memory_mb=MEMORY_MB)
    await broker.start()
    rig = Rig(broker, tmp_path)
    try:
        async with rig.client, publishing(rig.publisher):
            yield rig
    finally:
        await broker.stop()
        rig.outbox.close()


async def test_streams_longer_than_fit_lose_their_oldest_entries_and_take_the_newest(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    """It took nothing more, for good: XADD is refused before it trims."""
    for _ in range(8):
        rig.decide(1000)
        await published(rig.publisher, rig.outbox)
    there = await stored(rig.client)
    assert FLOOR <= len(there) < len(rig.put)
    assert [event.id for event in there] == [event.id for event in rig.put[-len(there) :]]
    assert rig.publisher.state.replayed == 0
    (said,) = [line for line in caplog.messages if "to make room" in line]
    assert f"oldest entries of {KEYS.events} were let go" in said
    assert "events.embedded.max_memory_mb" in said


async def test_what_somebody_else_fills_is_waited_for_and_does_not_empty_our_streams(
    rig: Rig, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.WARNING)
    rig.decide(FLOOR + 300)
    await published(rig.publisher, rig.outbox)
    await rig.client.config_set("maxmemory", 1)
    rig.decide(100)
    await until(lambda: rig.publisher.state.retries >= 4)
    assert FLOOR <= await rig.client.xlen(KEYS.events) < FLOOR + 100
    assert rig.publisher.state.error == explain(OutOfMemoryError("command not allowed"))
    assert len([line for line in caplog.messages if line.startswith("events wait")]) == 1
    await rig.client.config_set("maxmemory", 0)
    await published(rig.publisher, rig.outbox)
    there = await stored(rig.client)
    assert [event.id for event in there] == [event.id for event in rig.put[-len(there) :]]


@pytest.mark.parametrize(
    "error",
    [
        OutOfMemoryError(
            "Command # 7 (XADD linewatch:…) of pipeline caused error: command not allowed when …"
        ),
        ExecAbortError(
            "Transaction discarded because of: OOM command not allowed when used memory > 'maxmemory'."
        ),
    ],
)
def test_a_broker_that_is_full_is_told_in_the_same_words_each_time(error: Exception) -> None:
    assert explain(error) == (
        "the broker has no memory left; raise events.embedded.max_memory_mb (maxmemory at a broker of your "
        "own) or lower events.maxlen"
    )
