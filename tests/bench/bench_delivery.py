"""Events a second through outbox and broker: `python -m tests.bench.bench_delivery` prints one JSON line.

put_*     one event a transaction, as the recorder does it, in microseconds, while the publisher sends
drain_*   a backlog of `--backlog` entries of four other cameras, while live events come at 50/s
live_*    from the decision about such a live event to its arrival at a subscriber in another process
*_cpu_s   processor time of this process: what is comparable when the machine is busy with other work
"""

import argparse
import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from stream.broker import RunFile
from stream.drafts import region
from stream.events import Event, rfc3339, utc_seconds
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import DRAFTS, KEYS, publishing, valkey
from tests.unit.test_incidents import defect


def example(camera: str) -> Event:
    """As large as a real one: two regions and a model."""
    regions = (region(defect(64, 48), (640, 480)), region(defect(200, 300), (640, 480)))
    event = DRAFTS.fact("defect", "update", camera, phase="update")
    now = rfc3339(time.time())
    more = {"regions": regions, "config_sha256": "c" * 64, "captured_at": now, "detected_at": now}
    return event.model_copy(update=more)


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


async def sustained(outbox: Outbox, publisher: Publisher, seconds: float) -> dict[str, float]:
    """As many puts as one core gives, the publisher beside it on the same event loop."""
    puts: list[float] = []
    start, cpu = time.perf_counter(), time.process_time()
    while time.perf_counter() - start < seconds:
        for _ in range(20):
            before = time.perf_counter()
            outbox.put([example("top")])
            puts.append(time.perf_counter() - before)
        publisher.wake()
        # The recorder's caller is an event loop that also serves the page: it yields after each decision.
        await asyncio.sleep(0.001 if outbox.pending > 1000 else 0)
    await publisher.drained(60)
    return {
        "events_per_s": round(len(puts) / (time.perf_counter() - start)),
        "events_per_cpu_s": round(len(puts) / (time.process_time() - cpu)),
        "put_p50_us": round(percentile(puts, 0.5) * 1e6),
        "put_p99_us": round(percentile(puts, 0.99) * 1e6),
        "put_max_us": round(max(puts) * 1e6),
    }


async def drain(outbox: Outbox, publisher: Publisher, backlog: int) -> dict[str, float]:
    """Empties a backlog while live events of another camera come."""
    for n in range(backlog // 1000):
        outbox.put([example(f"behind-{n % 4}") for _ in range(1000)])
    start, cpu = time.perf_counter(), time.process_time()
    drained_s = 0.0
    async with publishing(publisher):
        while outbox.pending > 50 or not drained_s:
            outbox.put([example("live")])
            publisher.wake()
            await asyncio.sleep(0.02)
            if outbox.pending <= 50:
                drained_s = time.perf_counter() - start
        await publisher.drained(60)
    cpu_s = time.process_time() - cpu
    return {"backlog": backlog, "drain_s": round(drained_s, 1), "drain_cpu_s": round(cpu_s, 1)}


async def subscribe(run_file: Path) -> None:
    """Prints how long each live event was under way, in ms, until it is killed."""
    where, last = RunFile.read(run_file), "0"
    async with where.endpoint.client() as client:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        while True:
            told: Any = await client.xread({where.stream: last}, count=500, block=1000)
            now = time.time()
            for _, entries in told or []:
                last = entries[-1][0]
                for _, fields in entries:
                    if fields[b"camera"] == b"live":
                        sys.stdout.write(f"{(now - utc_seconds(fields[b'captured_at'].decode())) * 1000}\n")
            sys.stdout.flush()


async def main(seconds: float, backlog: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        async with valkey(Path(folder) / "broker") as broker, broker.endpoint.client() as client:
            outbox = Outbox(Path(folder) / "outbox.db")

            def make() -> Publisher:
                return Publisher(outbox, broker.endpoint.client, KEYS, maxlen=1_000_000)

            async with publishing(make()) as publisher:
                told = await sustained(outbox, publisher, seconds)
            await client.delete(KEYS.events)
            outbox.close()
            outbox = Outbox(Path(folder) / "second.db")
            run_file = Path(folder) / "run.json"
            RunFile(broker.endpoint, KEYS.events, os.getpid()).write(run_file)
            words = (sys.executable, "-m", "tests.bench.bench_delivery", "--subscribe", str(run_file))
            subscriber = await asyncio.create_subprocess_exec(*words, stdout=asyncio.subprocess.PIPE)
            assert subscriber.stdout is not None
            await subscriber.stdout.readline()
            told |= await drain(outbox, make(), backlog)
            await asyncio.sleep(1.0)  # for what is under way
            subscriber.terminate()
            live = [float(line) for line in (await subscriber.communicate())[0].split()]
            told |= {
                "live": len(live),
                "live_p50_ms": round(percentile(live, 0.5), 1),
                "live_p99_ms": round(percentile(live, 0.99), 1),
            }
            outbox.close()
    print(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--backlog", type=int, default=100_000)
    parser.add_argument("--subscribe", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    asyncio.run(subscribe(args.subscribe) if args.subscribe else main(args.seconds, args.backlog))
