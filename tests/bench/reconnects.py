"""Memory of the line against its cameras' reconnects.

    python -m tests.bench.reconnects --minutes 5    # 8 cameras, each cut as soon as it is live

The simulator runs in this process, `linewatch run` in its own.
"""

import argparse
import asyncio
import tempfile
from pathlib import Path

import httpx
import yaml

from stream.demo.children import memory_mb
from stream.endings import end
from stream.sim.shows import PatternShow
from tests.servers import RunningSim, rtsp_sim
from tests.system.test_line import WHO, running, write_config

CAMERAS = [f"camera-{number}" for number in range(8)]
ROWS = 10


def config_file(folder: Path, sim: RunningSim) -> Path:
    file = write_config(folder, sim.url(), None)
    config = yaml.safe_load(file.read_text())
    source = config["cameras"].pop("top")["source"]
    config["cameras"] = {name: {"source": source | {"url": sim.url(name)}} for name in CAMERAS}
    config["logs"] = {"level": "error"}
    file.write_text(yaml.safe_dump(config))
    return file


async def cut(http: httpx.AsyncClient, sim: RunningSim) -> None:
    while True:
        for camera in (await http.get("/api/v1/cameras")).json():
            if camera["state"] == "live":
                await asyncio.to_thread(sim.set, "kill", "1", camera["name"])
        await asyncio.sleep(1.0)


async def reconnects(http: httpx.AsyncClient) -> int:
    lines = (await http.get("/metrics")).text.splitlines()
    return int(
        sum(float(line.split()[-1]) for line in lines if line.startswith("linewatch_reconnects_total"))
    )


async def measure(sim: RunningSim, folder: Path, minutes: float) -> None:
    async with (
        running(folder, config_file(folder, sim)) as line,
        httpx.AsyncClient(base_url=line.told["page"]) as http,
    ):
        cutting = asyncio.create_task(cut(http, sim))
        print(f"{'minutes':>8} {'reconnects':>11} {'memory MB':>10}")
        for row in range(1, ROWS + 1):
            await asyncio.sleep(minutes * 60 / ROWS)
            count, memory = await reconnects(http), memory_mb(line.process.pid)[0]
            print(f"{row * minutes / ROWS:>8.1f} {count:>11} {memory:>10.0f}", flush=True)
        await end([cutting])
        await line.end()


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=5.0)
    minutes = parser.parse_args().minutes
    shows = {name: PatternShow("machined", seed, (320, 240)) for seed, name in enumerate(CAMERAS)}
    with tempfile.TemporaryDirectory() as folder, rtsp_sim(shows, fps=8, credentials=WHO) as sim:
        asyncio.run(measure(sim, Path(folder), minutes))


if __name__ == "__main__":
    main()
