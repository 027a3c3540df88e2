"""Real servers that belong together: a cluster of three, and a primary with its replica and a sentinel."""

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.crc import key_slot
from redis.exceptions import RedisError

from stream.broker import Endpoint
from tests.ports import free_port

PASSWORD = "of-the-servers"
SENTINEL_PASSWORD = "of-the-sentinel"
SLOTS = 16384


@dataclass
class Server:
    """One server process; `process` is None once it was killed."""

    port: int
    process: asyncio.subprocess.Process | None
    client: Redis = field(repr=False)

    def signal(self, number: signal.Signals) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    async def ask(self, *command: str | int) -> Any:
        return await self.client.execute_command(*command)

    async def kill(self) -> None:
        """-9."""
        self.signal(signal.SIGKILL)
        assert self.process is not None
        await self.process.wait()
        self.process = None


@asynccontextmanager
async def server(
    folder: Path, binary: Path, *lines: str, kind: str = "server", password: str = PASSWORD
) -> AsyncIterator[Server]:
    """`lines` are added to its configuration, which stands in a file: a sentinel rewrites its own."""
    folder.mkdir(parents=True)  # noqa: ASYNC240 - a test may wait for its own disk
    port = free_port()
    config = folder / "server.conf"
    config.write_text(
        "\n".join(["bind 127.0.0.1", f"port {port}", f"dir {folder}", *access(password, lines), *lines, ""])
    )
    process = await asyncio.create_subprocess_exec(
        binary,
        config,
        *(["--sentinel"] if kind == "sentinel" else []),
        stdout=asyncio.subprocess.DEVNULL,
    )
    running = Server(port, process, Redis(port=port, password=password, socket_timeout=5))
    try:
        await answers(running.client)
        yield running
    finally:
        await running.client.aclose()
        if running.process is not None:
            with contextlib.suppress(ProcessLookupError):
                process.send_signal(signal.SIGCONT)
                process.kill()
            await process.wait()


def access(password: str, lines: tuple[str, ...]) -> list[str]:
    """An ACL file says all about passwords."""
    return [] if any(line.startswith("aclfile") for line in lines) else [f"requirepass {password}"]


async def answers(client: Redis) -> None:
    async with asyncio.timeout(10):
        while True:
            with contextlib.suppress(RedisError, OSError):
                await client.ping()
                return
            await asyncio.sleep(0.02)


@dataclass(frozen=True)
class Cluster:
    endpoint: Endpoint
    nodes: list[Server]

    def owner(self, key: str) -> int:
        """Which of the three nodes had this key's slot at the start."""
        return key_slot(key.encode()) * 3 // SLOTS

    async def move(self, key: str, to: int) -> None:
        """Moves the slot of a key to another node, with its one key, as an administrator would."""
        slot, source, target = key_slot(key.encode()), self.nodes[self.owner(key)], self.nodes[to]
        source_id, target_id = [(await n.ask("CLUSTER", "MYID")).decode() for n in (source, target)]
        await target.ask("CLUSTER", "SETSLOT", slot, "IMPORTING", source_id)
        await source.ask("CLUSTER", "SETSLOT", slot, "MIGRATING", target_id)
        await source.ask("MIGRATE", "127.0.0.1", target.port, key, 0, 5000, "AUTH", PASSWORD)
        for node in (target, source, *self.nodes):
            await node.ask("CLUSTER", "SETSLOT", slot, "NODE", target_id)


@asynccontextmanager
async def cluster(folder: Path, binary: Path) -> AsyncIterator[Cluster]:
    lines = ("cluster-enabled yes", "cluster-require-full-coverage no", 'save ""')
    async with AsyncExitStack() as stack:
        nodes = [
            await stack.enter_async_context(server(folder / str(n), binary, *lines, cluster_port()))
            for n in range(3)
        ]
        for n, node in enumerate(nodes):
            first, last = -(-n * SLOTS // 3), -(-(n + 1) * SLOTS // 3) - 1
            await node.ask("CLUSTER", "ADDSLOTSRANGE", first, last)
        for node in nodes[1:]:
            port = (await node.ask("CONFIG", "GET", "cluster-port"))[b"cluster-port"]
            await nodes[0].ask("CLUSTER", "MEET", "127.0.0.1", node.port, int(port))
        for node in nodes:
            await all_slots_known(node)
        seeds = ",".join(f"127.0.0.1:{node.port}" for node in nodes[:2])
        yield Cluster(Endpoint(f"redis+cluster://{seeds}", password=PASSWORD), nodes)


def cluster_port() -> str:
    """The default is the port and 10,000, which may be above 65,535."""
    return f"cluster-port {free_port()}"


async def all_slots_known(node: Server) -> None:
    async with asyncio.timeout(20):
        while True:
            told = await node.client.cluster("INFO")
            if (told["cluster_state"], told["cluster_slots_assigned"]) == ("ok", str(SLOTS)):
                return
            await asyncio.sleep(0.05)


@dataclass(frozen=True)
class Pair:
    endpoint: Endpoint
    primary: Server
    replica: Server
    sentinel: Server


@asynccontextmanager
async def watched_pair(folder: Path, binary: Path) -> AsyncIterator[Pair]:
    """The sentinel promotes the replica a second after the primary is gone."""
    lines = (f"masterauth {PASSWORD}", "appendonly no", 'save ""', "repl-diskless-sync-delay 0")
    async with AsyncExitStack() as stack:
        enter = stack.enter_async_context
        primary = await enter(server(folder / "primary", binary, *lines))
        replica = await enter(
            server(folder / "replica", binary, *lines, f"replicaof 127.0.0.1 {primary.port}")
        )
        watch = (
            f"sentinel monitor mine 127.0.0.1 {primary.port} 1",
            f"sentinel auth-pass mine {PASSWORD}",
            "sentinel down-after-milliseconds mine 1000",
            "sentinel failover-timeout mine 3000",
        )
        sentinel = await enter(
            server(folder / "sentinel", binary, *watch, kind="sentinel", password=SENTINEL_PASSWORD)
        )
        async with asyncio.timeout(20):
            while not await sentinel_knows_the_replica(sentinel):  # noqa: ASYNC110
                await asyncio.sleep(0.05)
        url = f"redis+sentinel://127.0.0.1:1,127.0.0.1:{sentinel.port}/mine"
        yield Pair(
            Endpoint(url, password=PASSWORD, sentinel_password=SENTINEL_PASSWORD), primary, replica, sentinel
        )


async def sentinel_knows_the_replica(sentinel: Server) -> bool:
    told = await sentinel.client.sentinel_slaves("mine")
    return any(replica["master-link-status"] == "ok" for replica in told)
