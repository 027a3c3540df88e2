"""What a scrape of /metrics costs with 64 cameras, alone and over HTTP: `python -m tests.bench.scrape`.

The worst case: every camera has had every result, every way of being lost, every verdict, and a model.
"""

import asyncio
import re
import statistics
import time

import httpx
from prometheus_client import CollectorRegistry

from engine.meter import BATCH_BOUNDS, SECONDS_BOUNDS
from stream import metrics
from stream.sources.base import SourceError
from stream.web.page import LivePage
from stream.web.view import Histogram, LineStats
from tests.webline import FakeLine

CAMERAS, SCRAPES = 64, 50
RESULTS = (
    *("received", "decimated", "skipped", "inspected", "displaced", "late", "refused"),
    *("removed", "stopped", "failed", "no_model", "overrun"),
)
STAGES = ["queue", "upload", "teacher", "student", "maps", "regions"]
GROUPS, BRIDGES = 8, 8
BRIDGE_RESULTS = ("delivered", "failed", "dead", "repeated", "lost", "late")


def reasons() -> list[str]:
    """Every reason code that a source can be lost for."""
    found, waiting = {SourceError.reason}, [SourceError]
    while waiting:
        for kind in waiting.pop().__subclasses__():
            found.add(kind.reason)
            waiting.append(kind)
    return sorted(found)


def full(bounds: tuple[float, ...]) -> Histogram:
    return Histogram(bounds, tuple(range(len(bounds) + 1)), 12.5)


def line() -> FakeLine:
    names = [f"camera-{number:02}" for number in range(CAMERAS)]
    made = FakeLine.of(*names)
    bridges = [f"bridge-{number}" for number in range(BRIDGES)]
    made.stats = LineStats(
        frames={(name, result): 123_456 for name in names for result in RESULTS},
        reconnects={(name, reason): 12 for name in names for reason in reasons()},
        stage_seconds={stage: full(SECONDS_BOUNDS) for stage in STAGES},
        capture_to_event_seconds={name: full(SECONDS_BOUNDS) for name in names},
        batch_size=full(BATCH_BOUNDS),
        queue_depth={"engine": 3, "parts": 1},
        events={"open": 5, "update": 9, "close": 5},
        outbox_pending=12,
        outbox_oldest_s=0.1,
        outbox_dropped=0,
        stream_lag={f"group-{number}": 7 for number in range(GROUPS)},
        broker_retries=1,
        broker_replayed=0,
        evidence_dropped=0,
        device_errors={"DeviceError": 1, "ArtifactError": 2},
        drift=dict.fromkeys(names, 0.12),
        verdicts={(name, verdict): 99 for name in names for verdict in ("ok", "ng", "unknown")},
        bridge_up=dict.fromkeys(bridges, 1.0),
        bridge_pending=dict.fromkeys(bridges, 3.0),
        bridge_events={(bridge, result): 7 for bridge in bridges for result in BRIDGE_RESULTS},
        capture_to_bridge_seconds={bridge: full(SECONDS_BOUNDS) for bridge in bridges},
        inbox={("triggers", "taken"): 1, ("triggers", "dead"): 1, ("commands", "taken"): 1},
    )
    return made


async def main() -> None:
    made = line()
    registry = metrics.registry(made.view(), lambda: metrics.PageStats(3, 1, 1, 1))
    alone = [_timed(registry) for _ in range(SCRAPES)]
    text = metrics.exposition(registry).decode()
    series = sum(not row.startswith("#") for row in text.splitlines())
    page = LivePage(made.view(), listen="127.0.0.1:0")
    await page.start()
    try:
        async with httpx.AsyncClient(base_url=page.url) as client:
            over_http = []
            for _ in range(SCRAPES):
                begun = time.process_time()
                assert re.search("linewatch_ready", (await client.get("/metrics")).text)
                over_http.append((time.process_time() - begun) * 1e3)
    finally:
        await page.stop()
    print(f"{CAMERAS} cameras, {len(reasons())} reasons: {series} series, {len(text) / 1024:.0f} KiB")
    # Processor time: what the event loop has not got for the cameras, however busy the machine is.
    print(f"{'CPU time':<10}  p50 ms  max ms")
    for name, times in (("alone", alone), ("over HTTP", over_http)):
        print(f"{name:<10} {statistics.median(times):7.1f} {max(times):7.1f}")


def _timed(registry: CollectorRegistry) -> float:
    begun = time.process_time()
    metrics.exposition(registry)
    return (time.process_time() - begun) * 1e3


if __name__ == "__main__":
    asyncio.run(main())
