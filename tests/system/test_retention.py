"""What the stream keeps, what others take out of it, and that neither is mistaken for a loss."""

import asyncio
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from config.settings import Settings
from stream.broker import EmbeddedBroker, run_file_of
from stream.delivery import Delivery
from stream.lag import GroupLag
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import (
    KEYS,
    SERVERS,
    SERVERS_FROM_7,
    check_complete,
    facts,
    published,
    publishing,
    stored,
    until,
    valkey,
)
from tests.system.test_delivery_faults import Rig


@pytest_asyncio.fixture(params=SERVERS_FROM_7)
async def rig(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Rig]:
    async with valkey(tmp_path / "broker", request.param()) as broker:
        rig = Rig(broker, tmp_path)
        async with publishing(rig.publisher):
            yield rig
        rig.outbox.close()


@pytest_asyncio.fixture(params=SERVERS)
async def broker(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[EmbeddedBroker]:
    async with valkey(tmp_path / "broker", request.param()) as broker:
        yield broker


async def test_the_stream_keeps_about_maxlen_entries_and_the_rest_is_not_sent_again(
    broker: EmbeddedBroker, tmp_path: Path
) -> None:
    outbox = Outbox(tmp_path / "outbox.db", keep=1000)
    publisher = Publisher(outbox, broker.endpoint.client, KEYS, maxlen=1000)
    async with publishing(publisher), broker.endpoint.client() as client:
        outbox.put(facts(3000))
        await published(publisher, outbox)
        outbox.put(facts(1))
        await published(publisher, outbox)
        assert 1000 <= await client.xlen(KEYS.events) < 1200
    assert publisher.state.replayed == 0
    outbox.close()


async def test_entries_beyond_their_age_go_and_are_not_sent_again(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("stream.publisher.TRIM_EVERY_S", 0.0)
    monkeypatch.setattr("stream.publisher.IDLE_CHECK_S", 0.01)
    clock, tick, looks = [time.time() - 7200.0], [0.0], [0]

    def tick_s() -> float:
        looks[0] += 1
        return tick[0]

    outbox = Outbox(tmp_path / "outbox.db")
    publisher = Publisher(
        *(outbox, broker.endpoint.client, KEYS),
        maxlen=1000,
        max_age_s=3600.0,
        now_s=lambda: clock[0],
        tick_s=tick_s,
    )
    async with publishing(publisher), broker.endpoint.client() as client:
        outbox.put(facts(150))
        await published(publisher, outbox)
        assert await client.xlen(KEYS.events) == 150
        clock[0] += 7200.0  # it was set: an MES that is away loses nothing by that
        looks[0] = 0
        await until(lambda: looks[0] > 2)
        assert await client.xlen(KEYS.events) == 150
        clock[0], tick[0] = clock[0] + 90_000.0, tick[0] + 90_000.0
        while await client.xlen(KEYS.events):  # noqa: ASYNC110 - also when nothing is sent
            await asyncio.sleep(0.01)
        young = outbox.put(facts(5))
        await published(publisher, outbox)
        check_complete(await stored(client), young)
        await client.flushall()
        young += outbox.put(facts(1))
        await published(publisher, outbox)
        check_complete(await stored(client), young)
    assert publisher.state.replayed == 5
    outbox.close()


@pytest.mark.parametrize("taken", ["XDEL", "XTRIM"])
async def test_what_was_taken_out_is_told_from_a_loss_although_somebody_wrote_after_it(
    rig: Rig, taken: str
) -> None:
    rig.decide()
    await rig.delivered()
    async with rig.broker.endpoint.client() as client:
        if taken == "XDEL":
            await client.xdel(KEYS.events, *[entry_id for entry_id, _ in await client.xrange(KEYS.events)])
            await client.xadd(KEYS.events, {"foreign": "1"})
        else:
            await client.xadd(KEYS.events, {"foreign": "1"}, maxlen=1, approximate=False)
    rig.decide(4)
    await rig.delivered()
    assert rig.publisher.state.replayed == 0
    for foreign in (1, 200):  # fewer than we had sent, and more
        await rig.ask("DEL", KEYS.events)
        for _ in range(foreign):
            await rig.ask("XADD", KEYS.events, "*", "foreign", "1")
        rig.decide(4)
        await rig.delivered()
        check_complete(await rig.read(), rig.put)


async def test_a_group_that_falls_behind_is_told_before_it_loses_anything(
    broker: EmbeddedBroker, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the server does not count for us, as Redis 6.2."""
    monkeypatch.setattr("stream.delivery._LAG_EVERY_S", 0.05)
    told: list[GroupLag] = []
    events = {
        "url": broker.endpoint.url,
        "password": broker.endpoint.password,
        "maxlen": 100,
        "outbox": {"path": tmp_path / "outbox.db"},
    }
    settings = Settings.model_validate({"version": 1, "events": events})
    delivery = Delivery(settings, lambda: None, told.append)
    key = delivery.keys.events
    async with broker.endpoint.client() as client:
        await client.xgroup_create(key, "mes", id="0", mkstream=True)
        # One that somebody made in his own way keeps nobody from being told.
        await client.xgroup_create(key, "odd", id="18446744073709551615-18446744073709551615")
        delivery.outbox.put(facts(60))
        await delivery.start()
        delivery.announce()
        # The config names this broker; where its folder can't be written, nothing needs to be.
        assert not run_file_of(settings.events).exists()
        await until(lambda: bool(told))
        await delivery.stop(5.0)
        assert (told[0].group, told[0].behind) == ("mes", 60)
        assert delivery.lags == {"mes": 60, "odd": 0}
        assert await client.xlen(key) == 60
