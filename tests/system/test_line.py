"""The whole line as a process: real RTSP in, the real network, a real broker and a real HTTP client out."""

import asyncio
import contextlib
import json
import os
import signal
import sys
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
import yaml

from engine.artifact import Artifact, save
from engine.images import to_device, to_square
from engine.model.dmdd import SIZES, build_network
from engine.model.teacher import build_teacher
from stream.broker import Endpoint, RunFile
from stream.consumer import Consumer
from stream.events import Event
from stream.sim.auth import Credentials
from stream.sim.shows import PatternShow
from tests.brokers import valkey
from tests.models import good_calibration, tiny_artifact
from tests.servers import RunningSim, rtsp_sim

WHO = Credentials("demo", "p@ss:/%#?word")
SIZE = (320, 240)
LINEWATCH = Path(sys.executable).with_name("linewatch")


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    with rtsp_sim({"top": PatternShow("machined", 1, SIZE)}, fps=5, credentials=WHO) as running:
        yield running


@pytest.fixture(scope="module")
def alarm_level() -> float:
    """A raw level that an untrained network's map exceeds in some places of every picture."""
    import torch

    artifact = tiny_artifact(real="lite", name="top")
    network = build_network("lite").eval()
    network.load_state_dict(dict(artifact.state))
    picture = to_square(PatternShow("machined", 1, SIZE).picture(1.0), artifact.input_px)
    with torch.inference_mode():
        images = to_device([picture], torch.device("cpu"))
        raw = network(images, build_teacher(SIZES["lite"].teacher)(images)).numpy()
    return float(np.quantile(raw, 0.98))


@pytest.fixture(scope="module")
def model(alarm_level: float) -> Artifact:
    """The real network with random weights, calibrated so that `alarm_level` is above its good pictures."""
    return replace(
        tiny_artifact(real="lite", name="top"), calibration=good_calibration(256, low=alarm_level - 0.1)
    )


@dataclass(slots=True)
class Line:
    """A running `linewatch run`, what it said when ready, and where it writes."""

    process: asyncio.subprocess.Process
    told: dict[str, Any]
    folder: Path

    async def end(self, signum: int = signal.SIGTERM) -> int:
        self.process.send_signal(signum)
        return await asyncio.wait_for(self.process.wait(), 20)


def write_config(folder: Path, url: str, broker: Endpoint | None, **detect: Any) -> Path:
    (folder / "camera.password").write_text(WHO.password)
    source = {"type": "rtsp", "url": url, "username": WHO.username, "password": {"file": "camera.password"}}
    events: dict[str, Any] = {"outbox": {"path": "outbox.db"}, "embedded": {"dir": "broker"}}
    if broker is not None:
        (folder / "broker.password").write_text(broker.password or "")
        events |= {"url": broker.url, "password": {"file": "broker.password"}}
    config = {
        "version": 1,
        "defaults": {"fps": 5, "detect": {"on_frames": 2, "update_every_s": 0.5, **detect}},
        "cameras": {"top": {"source": source}},
        "engine": {"backend": "torch", "deadline_ms": 5000, "cache_dir": "engine"},
        "events": events,
        "web": {"listen": "127.0.0.1:0"},
        "models": {"dir": "models"},
        "evidence": {"dir": "evidence"},
    }
    path = folder / "cameras.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


@contextlib.asynccontextmanager
async def running(folder: Path, config: Path) -> AsyncIterator[Line]:
    with (folder / "run.log").open("ab") as log:
        process = await asyncio.create_subprocess_exec(
            LINEWATCH, "run", str(config), "--json", stdout=asyncio.subprocess.PIPE, stderr=log
        )
    assert process.stdout is not None
    try:
        async with asyncio.timeout(60):
            told = json.loads(await process.stdout.readline())
        yield Line(process, told, folder)
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def events_until(endpoint: Endpoint, stream: str, phase: str, within_s: float = 30) -> list[Event]:
    """Everything in the stream, up to the first defect event of this phase."""
    client, read = endpoint.client(), []
    try:
        async with asyncio.timeout(within_s):
            async for event in Consumer(client, stream, f"until-{phase}-{os.urandom(4).hex()}"):
                read.append(event)
                if event.kind == "defect" and event.phase == phase:
                    return read
    finally:
        await client.aclose()
    raise AssertionError("the consumer ended")


async def all_events(endpoint: Endpoint, stream: str) -> list[Event]:
    client = endpoint.client()
    try:
        return [e async for e in Consumer(client, stream, os.urandom(4).hex(), until_idle=True)]
    finally:
        await client.aclose()


async def test_a_camera_becomes_events_and_an_orderly_end_leaves_nothing_open(
    sim: RunningSim, model: Artifact, alarm_level: float, tmp_path: Path
) -> None:
    save(model, tmp_path / "models")
    async with valkey(tmp_path / "valkey") as broker:
        endpoint = broker.endpoint
        config = write_config(tmp_path, sim.url(), endpoint, threshold=alarm_level)
        async with running(tmp_path, config) as line:
            stream = line.told["stream"]
            opened = (await events_until(endpoint, stream, "open"))[-1]
            assert opened.camera == "top"
            assert opened.model is not None and (opened.model.name, opened.model.version) == ("top", 1)
            x0, y0, x1, y1 = opened.regions[0].box_px
            assert 0 <= x0 < x1 <= SIZE[0] and 0 <= y0 < y1 <= SIZE[1]
            assert await line.end() == 0
        read = await all_events(endpoint, stream)
    seqs = [e.seq for e in read if e.camera == "top"]
    assert seqs == list(range(1, len(seqs) + 1))
    defects = [e for e in read if e.kind == "defect"]
    opens = {e.defect_id for e in defects if e.phase == "open"}
    assert opens == {e.defect_id for e in defects if e.phase == "close"}
    assert not (tmp_path / "broker" / "run.json").exists()
    said = (tmp_path / "run.log").read_text()
    assert WHO.password not in said and (endpoint.password or "-") not in said


async def test_after_kill_9_the_next_start_closes_what_was_open_and_loses_nothing(
    sim: RunningSim, model: Artifact, alarm_level: float, tmp_path: Path
) -> None:
    save(model, tmp_path / "models")
    async with valkey(tmp_path / "valkey") as broker:
        endpoint = broker.endpoint
        config = write_config(tmp_path, sim.url(), endpoint, threshold=alarm_level)
        async with running(tmp_path, config) as line:
            stream = line.told["stream"]
            await events_until(endpoint, stream, "update")
            await line.end(signal.SIGKILL)
        async with running(tmp_path, config) as line:
            await line.end()
        read = await all_events(endpoint, stream)
    for camera in ("top", "-"):
        seqs = [e.seq for e in read if e.camera == camera]
        assert seqs == list(range(1, len(seqs) + 1))
    defects = [e for e in read if e.kind == "defect"]
    assert {e.defect_id for e in defects if e.phase == "open"} == {
        e.defect_id for e in defects if e.phase == "close"
    }
    assert any(e.reason is not None and "restart" in e.reason for e in defects)


async def test_the_page_shows_a_camera_without_a_model_and_takes_the_model_up_when_it_comes(
    sim: RunningSim, model: Artifact, alarm_level: float, tmp_path: Path
) -> None:
    config = write_config(tmp_path, sim.url(), None, threshold=alarm_level)
    async with running(tmp_path, config) as line, httpx.AsyncClient(base_url=line.told["page"]) as http:
        assert (await http.get("/ready")).status_code == 200
        assert RunFile.read(tmp_path / "broker" / "run.json").stream == line.told["stream"]
        await camera_is(http, lambda camera: camera["state"] == "live" and camera["model"] is None)
        picture = await http.get("/api/v1/cameras/top/snapshot")
        assert picture.headers["x-live"] == "1" and picture.content[:2] == b"\xff\xd8"
        save(model, tmp_path / "models")
        await camera_is(http, lambda camera: camera["verdict"] is not None and camera["model"] is not None)
        metrics = (await http.get("/metrics")).text
        assert 'linewatch_model_info{camera="top",version="1"} 1.0' in metrics
        assert 'linewatch_frames_total{camera="top",result="inspected"}' in metrics
        broker_pid = children_of(line.process.pid)
        assert await line.end(signal.SIGINT) == 0
    assert broker_pid and not any(map(is_running, broker_pid))


async def camera_is(http: httpx.AsyncClient, wanted: Any, within_s: float = 30) -> None:
    """Read the live feed, as the page does, until its first camera is as wanted."""
    async with asyncio.timeout(within_s), http.stream("GET", "/api/v1/live", timeout=within_s) as feed:
        async for line in feed.aiter_lines():
            if line.startswith("data:") and wanted(json.loads(line[5:])["cameras"][0]):
                return


def children_of(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def names_in(folder: Path) -> list[str]:
    return [path.name for path in folder.iterdir()]


def is_running(pid: int) -> bool:
    return Path(f"/proc/{pid}").exists()


async def test_a_mistake_in_the_config_starts_nothing(tmp_path: Path) -> None:
    config = tmp_path / "cameras.yaml"
    config.write_text("version: 1\ncameras:\n  top:\n    source: {type: rtsp, transprot: tcp}\n")
    process = await asyncio.create_subprocess_exec(
        LINEWATCH, "run", str(config), stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE
    )
    out, err = await process.communicate()
    assert process.returncode == 2
    assert out == b""
    assert b"cameras.yaml:4: cameras.top.source.transprot: unknown key" in err
    assert names_in(tmp_path) == ["cameras.yaml"]
