"""Events a second through outbox and broker: `python -m tests.bench.bench_delivery` prints one JSON line.

put_*     one event a transaction, as the recorder does it, in microseconds, while the publisher sends
drain_*   a backlog of `--backlog` entries of other cameras, while live events come at 50/s
"""

import argparse
import asyncio
import json
import tempfile
import time
from pathlib import Path

from stream.drafts import region
from stream.events import Event, rfc3339, utc_seconds
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import DRAFTS, KEYS, publishing, stored, valkey
from tests.unit.test_incidents import defect


def example(camera: str) -> Event:
    """As large as a real one: two regions and a model."""
    regions = (region(defect(64, 48), (640, 480)), region(defect(200, 300), (640, 480)))
    event = DRAFTS.fact("defect", "update", camera, phase="update")
    return event.model_copy(
        update={"regions": regions, "config_sha256": "c" * 64, "detected_at": rfc3339(time.time())}
    )


def percentile(values: list[float], share: float) -> float:
    return sorted(values)[int(share * (len(values) - 1))]


async def sustained(outbox: Outbox, publisher: Publisher, seconds: float) -> dict[str, float]:
    """As many puts as one core gives, the publisher beside it on the same event loop."""
    puts: list[float] = []
    start = time.perf_counter()
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
        "put_p50_us": round(percentile(puts, 0.5) * 1e6),
        "put_p99_us": round(percentile(puts, 0.99) * 1e6),
        "put_max_us": round(max(puts) * 1e6),
    }


async def drain(outbox: Outbox, publisher: Publisher, backlog: int) -> dict[str, float]:
    """Empties a backlog while live events of another camera come; `live_*` is put → sent."""
    for _ in range(backlog // 1000):
        outbox.put([example("behind") for _ in range(1000)])
    start = time.perf_counter()
    drained_s = 0.0
    async with publishing(publisher):
        while outbox.pending > 50 or not drained_s:
            outbox.put([example("live")])
            publisher.wake()
            await asyncio.sleep(0.02)
            if outbox.pending <= 50:
                drained_s = time.perf_counter() - start
        await publisher.drained(60)
    return {"backlog": backlog, "drain_s": round(drained_s, 1)}


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
            told |= await drain(outbox, make(), backlog)
            live = [
                (utc_seconds(e.published_at) - utc_seconds(e.detected_at)) * 1000
                for e in await stored(client)
                if e.camera == "live" and e.published_at
            ]
            told |= {
                "live_p50_ms": round(percentile(live, 0.5), 1),
                "live_p99_ms": round(percentile(live, 0.99), 1),
            }
            outbox.close()
    print(json.dumps(told))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--backlog", type=int, default=100_000)
    asyncio.run(main(**vars(parser.parse_args())))
