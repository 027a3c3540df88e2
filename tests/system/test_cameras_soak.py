"""Eight cameras with random faults for half an hour, or LINEWATCH_SOAK_MINUTES: `make soak`."""
# ruff: noqa: T201

import asyncio
import os
import random
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median

import httpx
import pytest
import yaml

from stream.broker import RunFile
from stream.endings import end
from stream.sim.shows import PatternShow
from tests.servers import RunningSim, rtsp_sim
from tests.system.test_line import WHO, all_events, running, write_config

MINUTES = float(os.environ.get("LINEWATCH_SOAK_MINUTES", "30"))
CAMERAS = [f"camera-{number}" for number in range(8)]
DOWN_AFTER_S = 6.0
# (fault, value, whether it is an outage): what lasts longer than DOWN_AFTER_S must be told, a short one not.
FAULTS = (
    ("kill", "1", False),
    ("garbage", "0.5", False),
    ("stall", "1", False),
    ("drop", "0.3", False),
    ("stall", "15", True),
    ("refuse", "15", True),
    ("freeze", "30", True),  # until all key pictures of one group are known it may take some groups
)


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    shows = {name: PatternShow("machined", seed, (320, 240)) for seed, name in enumerate(CAMERAS)}
    with rtsp_sim(shows, fps=8, credentials=WHO) as running_sim:
        yield running_sim


class Watch:
    """The line from outside: states by REST, memory and threads by /proc."""

    def __init__(self, http: httpx.AsyncClient, pid: int) -> None:
        self.states: dict[str, str] = {}
        self.memory_mb: list[float] = []
        self.threads: list[int] = []
        self._http, self._pid = http, pid

    async def run(self) -> None:
        while True:
            cameras = (await self._http.get("/api/v1/cameras")).json()
            self.states = {camera["name"]: camera["state"] for camera in cameras}
            self._measure()
            await asyncio.sleep(0.5)

    def _measure(self) -> None:
        lines = Path(f"/proc/{self._pid}/status").read_text().splitlines()
        status = dict(line.split(":", 1) for line in lines)
        self.memory_mb.append(int(status["VmRSS"].split()[0]) / 1024)
        self.threads.append(int(status["Threads"]))

    async def is_(self, camera: str, *states: str, why: str, within_s: float = 45.0) -> None:
        deadline = time.monotonic() + within_s
        while self.states.get(camera) not in states:
            assert time.monotonic() < deadline, (
                f"{camera} is {self.states.get(camera)}, not {states}, after {why}"
            )
            await asyncio.sleep(0.1)


async def trouble(camera: str, sim: RunningSim, watch: Watch, until: float, expected: Counter[str]) -> None:
    """One fault after the other, each one only when the one before is over."""
    rng, fault, value = random.Random(camera), "the start", ""
    while time.monotonic() < until:
        await watch.is_(camera, "live", why=f"{fault} {value}")
        await asyncio.sleep(rng.uniform(3.0, 10.0))
        fault, value, is_outage = rng.choice(FAULTS)
        await asyncio.to_thread(sim.set, fault, value, camera)
        if is_outage:
            expected[camera] += 1
            await watch.is_(camera, "down", "frozen", "refused", why=f"{fault} {value}")
        elif fault == "drop":
            await asyncio.sleep(3.0)
            await asyncio.to_thread(sim.set, "drop", "0", camera)
    await watch.is_(camera, "live", why=f"{fault} {value}")


def written_in(folder: Path) -> dict[Path, bytes]:
    """What the process left on disk, but for the password that it was given."""
    files = [path for path in folder.rglob("*") if path.is_file() and path.name != "camera.password"]
    return {path: path.read_bytes() for path in files}


@pytest.mark.soak
async def test_eight_cameras_with_random_faults_stay_flat_and_every_outage_is_told_once(
    sim: RunningSim, tmp_path: Path
) -> None:
    file = write_config(tmp_path, sim.url(), None)
    config = yaml.safe_load(file.read_text())
    source = config["cameras"].pop("top")["source"]
    config["cameras"] = {name: {"source": source | {"url": sim.url(name)}} for name in CAMERAS}
    config["defaults"] |= {
        "down_after_s": DOWN_AFTER_S,
        "health": {"frozen_after_s": 5.0, "max_flaps_per_hour": 10_000, "rate_below_share": None},
    }
    file.write_text(yaml.safe_dump(config))
    expected: Counter[str] = Counter()
    async with running(tmp_path, file) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        watch = Watch(http, line.process.pid)
        watching = asyncio.create_task(watch.run())
        until = time.monotonic() + MINUTES * 60
        async with asyncio.TaskGroup() as group:
            for camera in CAMERAS:
                group.create_task(trouble(camera, sim, watch, until, expected))
        await asyncio.sleep(3.0)  # an end is told after the camera was live for a second
        await end([watching])
        endpoint = RunFile.read(tmp_path / "broker" / "run.json").endpoint
        events = await all_events(endpoint, line.told["stream"])
        assert await line.end() == 0
    for camera in CAMERAS:
        told = [event.type for event in events if event.camera == camera]
        assert told == ["camera.down", "camera.up"] * expected[camera], camera
    third = len(watch.memory_mb) // 3
    early, late = median(watch.memory_mb[third : 2 * third]), median(watch.memory_mb[2 * third :])
    tenths = [f"{mb:.0f}" for mb in watch.memory_mb[:: max(1, len(watch.memory_mb) // 10)]]
    print(
        f"{MINUTES:g} min, {sum(expected.values())} outages; memory {' '.join(tenths)} MB; threads", end=" "
    )
    print(f"{median(watch.threads[third:]):.0f}, most {max(watch.threads)}")
    assert late < early + 20
    assert max(watch.threads[2 * third :]) <= max(watch.threads[: 2 * third]) + 1
    written = written_in(tmp_path)
    assert len(written) > 2
    assert not [path for path, content in written.items() if WHO.password.encode() in content]
