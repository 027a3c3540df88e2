"""Delivery on a server of another make (Debian's Redis 7.0), and the examples that we hand out."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from stream.broker import EmbeddedBroker, Endpoint
from stream.consumer import Consumer
from stream.events import Event
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import KEYS, check_complete, facts, published, publishing, stored, valkey

ROOT = Path(__file__).parents[2]


@asynccontextmanager
async def redis_7(folder: Path) -> AsyncIterator[Endpoint]:
    broker = EmbeddedBroker(folder, binary=Path("/usr/bin/redis-server"))
    try:
        yield await broker.start()
    finally:
        await broker.stop()


async def filled(endpoint: Endpoint, folder: Path, n: int) -> list[Event]:
    outbox = Outbox(folder / "outbox.db")
    async with publishing(Publisher(outbox, endpoint.client, KEYS, maxlen=10_000)) as publisher:
        put = outbox.put(facts(n))
        await published(publisher, outbox)
    outbox.close()
    return put


@pytest.mark.debian
async def test_redis_7_takes_everything_and_gives_it_to_a_group(tmp_path: Path) -> None:
    async with redis_7(tmp_path / "broker") as endpoint, endpoint.client() as client:
        put = await filled(endpoint, tmp_path, 500)
        check_complete(await stored(client), put)
        consumer = Consumer(client, KEYS.events, "mes", until_idle=True)
        assert [event.id async for event in consumer] == [event.id for event in put]


@pytest.mark.debian
async def test_the_example_acl_is_enough_for_us_and_for_a_subscriber(tmp_path: Path) -> None:
    async with redis_7(tmp_path / "broker") as admin, admin.client() as client:
        for line in (ROOT / "deploy/broker/acl.example").read_text().splitlines():
            if line.startswith("user ") and not line.startswith("user default"):
                await client.execute_command("ACL", "SETUSER", *line.split()[1:])
        put = await filled(Endpoint(admin.url, "linewatch", "change-me-1"), tmp_path, 50)
        async with Endpoint(admin.url, "mes", "change-me-2").client() as mes:
            consumer = Consumer(mes, KEYS.events, "mes", until_idle=True)
            assert [event.id async for event in consumer] == [event.id for event in put]


async def run_example(endpoint: Endpoint, *words: str) -> str:
    password = endpoint.password or ""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "BROKER_PASSWORD": password, "REDISCLI_AUTH": password},
        cwd=ROOT,
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(3)]
    if process.returncode is None and "subscriber.py" in words[1]:
        process.kill()
    await process.communicate()
    return b"".join(lines).decode()


async def test_the_python_example_prints_events(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker:
        await filled(broker.endpoint, tmp_path, 3)
        told = await run_example(
            broker.endpoint, sys.executable, "deploy/examples/subscriber.py", broker.endpoint.url, KEYS.events
        )
    assert told.count("camera.flicker") == 3


@pytest.mark.debian
async def test_the_node_and_the_redis_cli_examples_print_events(tmp_path: Path) -> None:
    async with valkey(tmp_path / "broker") as broker:
        await filled(broker.endpoint, tmp_path, 3)
        port = str(urlsplit(broker.endpoint.url).port)
        where = ("127.0.0.1", port, KEYS.events)
        told = await run_example(broker.endpoint, "node", "deploy/examples/subscriber.mjs", *where, "--once")
        assert told.count("camera.flicker") == 3
        told = await run_example(broker.endpoint, "deploy/examples/subscribe.sh", *where)
        assert KEYS.events in told
