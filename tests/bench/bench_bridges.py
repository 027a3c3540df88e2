"""Entry in Redis → seen by a peer: `python -m tests.bench.bench_bridges redis webhook modbus opcua mqtt`.

A broker, the bridge in a process of its own, and a peer in this one: an HTTP server, a Modbus client that
polls without a pause, an OPC UA client that subscribes to events every 10 ms, a subscriber of mosquitto.
Prints one JSON line a bridge: milliseconds from just before XADD until the peer has it, the bridge's
memory and CPU, and the machine's load before: on cores that others hold, the way from process to process
takes tens of milliseconds now and then, without a bridge (`redis`) too.
"""

import argparse
import asyncio
import contextlib
import json
import os
import struct
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from stream.bridges import modbus_map as m
from stream.broker import EmbeddedBroker, Endpoint, free_port
from stream.console import linewatch
from stream.consumer import Consumer
from stream.demo.children import memory_mb
from stream.drafts import Drafts, Part
from stream.events import entry_fields
from stream.keys import Keys
from tests.bench.bench_delivery import percentile

KEYS = Keys("linewatch:test:line-1:events")
Seen = Callable[[str], None]
Peer = Callable[[Path, int, Endpoint], contextlib.AbstractAsyncContextManager[tuple[str, Any]]]


@contextlib.asynccontextmanager
async def redis(folder: Path, cameras: int, endpoint: Endpoint) -> AsyncIterator[tuple[str, Any]]:
    """No bridge: a reader of the stream, as the measure of what the machine gives at that moment."""

    async def follow(seen: Seen) -> None:
        async with endpoint.client() as client:
            async for event in Consumer(client, KEYS.events, "bench"):
                seen(event.part_id)

    yield "", follow


@contextlib.asynccontextmanager
async def webhook(folder: Path, cameras: int, endpoint: Endpoint) -> AsyncIterator[tuple[str, Any]]:
    """A server of the standard library."""
    from tests.webhook_peer import SECRET, Peer

    with Peer() as peer:

        async def follow(seen: Seen) -> None:
            loop = asyncio.get_running_loop()

            def behave(event: dict[str, Any]) -> int:
                loop.call_soon_threadsafe(seen, event["part_id"])
                return 204

            peer.behave = behave
            await asyncio.Event().wait()

        yield f'{{type: webhook, url: "{peer.url}", secret: "{SECRET}"}}', follow


@contextlib.asynccontextmanager
async def modbus(folder: Path, cameras: int, endpoint: Endpoint) -> AsyncIterator[tuple[str, Any]]:
    """Polls one camera's block after the other; a result that is overtaken between two polls is not seen."""
    port = free_port()

    async def follow(seen: Seen) -> None:
        # By hand: a client that is asked without a pause shall cost this process little.
        reader, writer = await _connected(port)
        try:
            while True:
                for n in range(min(cameras, 4)):
                    count = m.PART + m.PART_REGISTERS
                    writer.write(struct.pack(">HHHBBHH", n, 0, 6, 1, 3, 64 * (n + 1), count))
                    answer = await reader.readexactly(9 + 2 * count)
                    registers = struct.unpack_from(f">{count}H", answer, 9)
                    if registers[m.RESULT_NO]:
                        seen(m.registers_text(registers[m.PART :]))
        finally:
            writer.close()

    stations = ", ".join(f"c{n}: {{address: {64 * (n + 1)}}}" for n in range(cameras))
    yield f'{{type: modbus, listen: "127.0.0.1:{port}", stations: {{{stations}}}}}', follow


async def _connected(port: int) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """As soon as the bridge listens."""
    while True:
        with contextlib.suppress(OSError):
            return await asyncio.open_connection("127.0.0.1", port)
        await asyncio.sleep(0.1)


@contextlib.asynccontextmanager
async def opcua(folder: Path, cameras: int, endpoint: Endpoint) -> AsyncIterator[tuple[str, Any]]:
    """Subscribes to the events of the server, published every 10 ms."""
    from asyncua import Client

    port = free_port()

    class Handler:
        def __init__(self, seen: Seen) -> None:
            self._seen = seen

        def event_notification(self, event: Any) -> None:
            self._seen(event.PartId)

    async def follow(seen: Seen) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError):
                async with Client(f"opc.tcp://127.0.0.1:{port}/linewatch") as client:
                    subscription = await client.create_subscription(10, Handler(seen))
                    kind = await client.nodes.base_event_type.get_child("2:LinewatchResultEventType")
                    await subscription.subscribe_events(client.nodes.server, kind)
                    await asyncio.Event().wait()
            await asyncio.sleep(0.5)

    yield f'{{type: opcua, listen: "127.0.0.1:{port}"}}', follow


@contextlib.asynccontextmanager
async def mqtt(folder: Path, cameras: int, endpoint: Endpoint) -> AsyncIterator[tuple[str, Any]]:
    """Debian's mosquitto between the bridge and a subscriber."""
    import aiomqtt

    from tests.mosquitto import PASSWORD, USER, Mosquitto

    async with Mosquitto(folder) as broker:

        async def follow(seen: Seen) -> None:
            async with aiomqtt.Client("127.0.0.1", broker.port, username=USER, password=PASSWORD) as client:
                await client.subscribe("linewatch/+/+/+/events/#", qos=1)
                async for message in client.messages:
                    assert isinstance(message.payload, bytes)
                    seen(json.loads(message.payload)["part_id"])

        url = f"mqtt://127.0.0.1:{broker.port}"
        yield f'{{type: mqtt, url: "{url}", username: {USER}, password: "{PASSWORD}"}}', follow


PEERS: dict[str, Peer] = {"redis": redis, "webhook": webhook, "modbus": modbus, "opcua": opcua, "mqtt": mqtt}


@contextlib.asynccontextmanager
async def bridge_of(config: Path | None) -> AsyncIterator[Callable[[], dict[str, float]]]:
    """The bridge `b` as a process of its own; what is yielded tells its memory and processor time."""
    if config is None:
        yield dict
        return
    process = await asyncio.create_subprocess_exec(
        *linewatch(), "bridge", "b", "--config", str(config), stderr=asyncio.subprocess.DEVNULL
    )
    try:
        yield lambda: {"memory_mb": round(memory_mb(process.pid)[0]), "cpu_s": round(_cpu_s(process.pid), 1)}
    finally:
        process.terminate()
        await process.wait()


async def measure(name: str, seconds: float, rate: float, cameras: int) -> dict[str, Any]:
    """`rate` verdicts a second, spread over the first four cameras."""
    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        broker = EmbeddedBroker(folder / "broker")
        endpoint = await broker.start()
        try:
            async with (
                PEERS[name](folder, cameras, endpoint) as (options, follow),
                endpoint.client() as client,
            ):
                config = folder / "cameras.yaml"
                named = ", ".join(
                    f"c{n}: {{source: {{type: pattern}}, frames: every}}" for n in range(cameras)
                )
                config.write_text(
                    f"version: 1\nsite: test\nline: line-1\ncameras: {{{named}}}\nbridges: {{b: {options}}}\n"
                    f'events: {{url: "{endpoint.url}", password: "{endpoint.password}"}}\n'
                )
                async with bridge_of(config if options else None) as used:
                    sent, seen = await _play(client, follow, seconds, rate, min(cameras, 4))
                    told = used()
        finally:
            await broker.stop()
    took_ms = [(seen[part] - at) * 1000 for part, at in sent.items() if part in seen]
    return {
        "bridge": name,
        "cameras": cameras,
        "events": len(sent),
        "seen": len(took_ms),
        "p50_ms": round(percentile(took_ms, 0.5), 2),
        "p99_ms": round(percentile(took_ms, 0.99), 2),
        "max_ms": round(max(took_ms), 2),
        "load": round(load, 1),
        **told,
    }


async def _play(
    client: Any, follow: Any, seconds: float, rate: float, cameras: int
) -> tuple[dict[str, float], dict[str, float]]:
    """When each part's verdict was sent, and when it was seen first."""
    drafts = Drafts("test", "line-1", "c" * 64, time.time)
    sent: dict[str, float] = {}
    seen: dict[str, float] = {}
    ready = asyncio.Event()

    def noted(part: str) -> None:
        seen.setdefault(part, time.perf_counter())
        ready.set()

    task = asyncio.create_task(follow(noted))
    seqs = dict.fromkeys(range(cameras), 0)

    async def send(part: str, n: int) -> None:
        seqs[n] += 1
        event = drafts.verdict(f"c{n}", Part(part), "ok", None, None).model_copy(update={"seq": seqs[n]})
        fields: dict[Any, Any] = dict(entry_fields(event.json_text(), time.time()))
        sent[part] = time.perf_counter()
        await client.xadd(KEYS.events, fields)

    for n in range(600):  # until the bridge is up: what is sent now is not measured
        await send(f"warm-{n}", 0)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(0.1):
                await ready.wait()
                break
    await asyncio.sleep(2.0)
    sent.clear()
    start = time.perf_counter()
    for n in range(int(seconds * rate)):
        await asyncio.sleep(max(0.0, start + n / rate - time.perf_counter()))
        await send(f"p-{n}", n % cameras)
    await asyncio.sleep(1.0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    return sent, seen


def _cpu_s(pid: int) -> float:
    """Processor seconds of a process so far (Linux)."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


async def main(bridges: list[str], seconds: float, rate: float, cameras: int) -> None:
    for name in bridges:
        print(json.dumps(await measure(name, seconds, rate, cameras)), flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bridges", nargs="*", default=list(PEERS), help=", ".join(PEERS))
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--rate", type=float, default=100.0, help="events a second")
    parser.add_argument("--cameras", type=int, default=64)
    asyncio.run(main(**vars(parser.parse_args())))
