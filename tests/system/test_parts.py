"""Triggers in, verdicts out: a real RTSP camera, the real network, a real broker, the line as a process."""

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import cv2
import httpx
import numpy as np
import pytest
import pytest_asyncio
import yaml
from redis.asyncio import Redis

from config.load import load
from engine.artifact import save
from stream.app import App
from stream.camera import Camera
from stream.events import Event, parse_entry, utc_seconds
from stream.inbox import GROUP
from stream.keys import Keys
from stream.sim.shows import PatternShow
from tests.brokers import valkey
from tests.models import tiny_artifact
from tests.servers import RunningSim, rtsp_sim
from tests.system.test_line import SIZE, WHO, Line, running, write_config

KEYS = Keys("linewatch:site:line:events")
# One line for all tests of this file: it takes seconds to start.
pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.usefixtures("no_task_left_in_module")]


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    shows = {name: PatternShow("machined", 1, SIZE) for name in ("top", "bare")}
    with rtsp_sim(shows, fps=10, credentials=WHO) as running_sim:
        yield running_sim


class Plc:
    """A gateway at the broker: sends, and reads what was answered."""

    def __init__(self, client: Redis, line: Line) -> None:
        self.client, self.line = client, line

    async def trigger(self, part_id: str, camera: str = "top", **more: str | bytes) -> str:
        fields: dict[Any, Any] = {
            "camera": camera,
            "part_id": part_id,
            "job_id": "j1",
            "at": str(time.time()),
        }
        return str((await self.client.xadd(KEYS.triggers, fields | more)).decode())

    async def command(self, **fields: str) -> Event:
        wanted: dict[Any, Any] = dict(fields)
        entry = (await self.client.xadd(KEYS.commands, wanted)).decode()
        said = {fields.get("id", entry)}
        while not (found := [e for e in await self.read(KEYS.answers) if e.detail["id"] in said]):  # noqa: ASYNC110
            await asyncio.sleep(0.02)
        return found[0]

    async def read(self, key: str) -> list[Event]:
        return [parse_entry(fields) for _, fields in await self.client.xrange(key)]

    async def verdicts(self, *parts: str, within_s: float = 3.0) -> list[Event]:
        """Those on these parts, once each of them has one."""
        async with asyncio.timeout(within_s):
            while True:
                found = [e for e in await self.read(KEYS.verdicts) if e.part_id in parts]
                if {e.part_id for e in found} == set(parts):
                    return found
                await asyncio.sleep(0.01)

    async def status(self, camera: str) -> dict[str, str]:
        told: Any = await self.client.hgetall(KEYS.status(camera))
        return {name.decode(): value.decode() for name, value in told.items()}


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def plc(sim: RunningSim, tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Plc]:
    """A line with triggered cameras; `bare` has no model, the pictures of `pushed` come with the triggers."""
    tmp_path = tmp_path_factory.mktemp("line")
    for version in (1, 2):
        save(tiny_artifact(real="lite", name="top", version=version), tmp_path / "models")
    async with valkey(tmp_path / "valkey") as broker:
        path = write_config(tmp_path, sim.url(), broker.endpoint)
        config = yaml.safe_load(path.read_text())
        top = config["cameras"]["top"] | {"frames": "every", "model": "top@1"}
        bare = {"source": top["source"] | {"url": sim.url("bare")}, "frames": "every"}
        pushed = {"source": {"type": "pushed"}, "frames": "every", "model": "top@1"}
        config["cameras"] = {"top": top, "bare": bare, "pushed": pushed}
        config["defaults"]["fps"] = 10
        config["triggers"] = {"frame_within_ms": 1500}  # however busy the simulator's machine is
        path.write_text(yaml.safe_dump(config))
        async with running(tmp_path, path) as line, broker.endpoint.client() as client:
            plc = Plc(client, line)
            await live(plc)
            yield plc


async def live(plc: Plc, within_s: float = 15.0) -> None:
    """Pictures come: a trigger is answered by one. Those before it are answered too, as unknown."""
    async with asyncio.timeout(within_s):
        for n in range(100):
            await plc.trigger(f"first-{n}")
            (verdict,) = await plc.verdicts(f"first-{n}")
            if verdict.verdict != "unknown":
                return


async def test_each_trigger_gets_one_verdict_in_time(plc: Plc) -> None:
    parts, sent = [f"p{n}" for n in range(12)], {}
    for part in parts:
        sent[part] = await plc.trigger(part)
        await asyncio.sleep(0.1)  # the line's beat
    await plc.trigger("p3")  # a gateway that repeats itself
    await plc.trigger("late", at=str(time.time() - 3600))
    await plc.trigger("modelless", camera="bare")
    everything = [*parts, "late", "modelless"]
    verdicts = await plc.verdicts(*everything)
    assert sorted(e.part_id for e in verdicts) == sorted(everything)
    by_part = {e.part_id: e for e in verdicts}
    for part in parts:
        event = by_part[part]
        asked_s = int(sent[part].split("-")[0]) / 1000
        assert event.verdict in ("ok", "ng") and event.kind == "part" and event.job_id == "j1"
        assert 0 <= utc_seconds(event.captured_at) - asked_s + 0.01 < 1.5
        assert utc_seconds(event.detected_at) - asked_s < 2.5
        assert event.detail == {"trigger": sent[part]}
    assert (by_part["late"].verdict, by_part["late"].reason) == ("unknown", "late")
    assert (by_part["modelless"].verdict, by_part["modelless"].reason) == ("unknown", "no model")
    in_stream = [e.id for e in await plc.read(KEYS.events) if e.kind == "part"]
    assert [e.id for e in await plc.read(KEYS.verdicts)] == in_stream


async def test_what_is_malformed_is_a_dead_letter_and_the_next_one_is_read(plc: Plc) -> None:
    client = plc.client
    await plc.trigger("x", camera="left")
    await client.xadd(KEYS.triggers, {"part": "1"})
    await client.xadd(KEYS.triggers, {"camera": "top", "part_id": "y", "at": "soon"})
    await client.xadd(KEYS.triggers, {b"camera": b"\xff\xfe", b"part_id": b"z"})
    await client.xadd(KEYS.commands, {"value": "1"})
    await plc.trigger("good")
    (good,) = await plc.verdicts("good")
    assert good.verdict != "unknown"
    answer = await plc.command(command="explode", camera="top")
    assert answer.detail["answer"] == "refused"
    reasons = [fields[b"dead_reason"].decode() for _, fields in await client.xrange(KEYS.dead)]
    assert len(reasons) == 5
    assert "there is no camera 'left' on this line" in " ".join(reasons)
    assert not [e for e in await plc.read(KEYS.verdicts) if e.part_id in "xyz"]
    async with httpx.AsyncClient(base_url=plc.line.told["page"]) as http:
        metrics = (await http.get("/metrics")).text
    assert 'linewatch_inbox_total{result="dead",stream="triggers"} 4.0' in metrics
    assert 'linewatch_inbox_up{stream="commands"} 1.0' in metrics
    assert 'linewatch_verdicts_total{camera="top",verdict="unknown"}' in metrics


async def test_commands_are_carried_out_and_answered(plc: Plc) -> None:
    done = await plc.command(command="model", camera="top", value="top@2", id="c1")
    assert (done.type, done.detail["answer"], done.reason) == (
        "system.command",
        "done",
        "inspected with top@2",
    )
    await plc.trigger("after")
    (verdict,) = await plc.verdicts("after")
    assert verdict.model is not None and verdict.model.version == 2
    missing = await plc.command(command="model", camera="top", value="top@9", id="c2")
    assert missing.detail["answer"] == "refused" and missing.reason is not None
    assert (await plc.command(command="threshold", camera="top", value="1e6", id="c3")).detail[
        "answer"
    ] == "done"
    await plc.trigger("tolerant")
    (verdict,) = await plc.verdicts("tolerant")
    assert (verdict.verdict, verdict.threshold) == ("ok", 1e6)
    assert (await plc.command(command="threshold", camera="top", value="nan")).detail["answer"] == "refused"
    await plc.command(command="disable", camera="top")
    await plc.trigger("unseen")
    (verdict,) = await plc.verdicts("unseen")
    assert (verdict.verdict, verdict.reason) == ("unknown", "camera disabled")
    await plc.command(command="enable", camera="top", id="c4")
    await plc.trigger("seen")
    (verdict,) = await plc.verdicts("seen")
    assert verdict.verdict == "ok"
    counted = len([e for e in await plc.read(KEYS.verdicts) if e.camera == "top"])
    async with asyncio.timeout(3):
        while (status := await plc.status("top"))["result_no"] != str(counted):  # noqa: ASYNC110
            await asyncio.sleep(0.05)
    assert (status["ready"], status["model_version"]) == ("1", "top@2")


async def test_a_picture_that_comes_with_its_trigger_is_the_one_that_is_judged(plc: Plc) -> None:
    picture = cv2.cvtColor(PatternShow("machined", 1, SIZE).picture(1.0), cv2.COLOR_RGB2BGR)
    png, jpeg = (bytes(cv2.imencode(kind, picture)[1]) for kind in (".png", ".jpg"))
    await plc.trigger("png", camera="pushed", picture=png)
    await plc.trigger("jpeg", camera="pushed", picture=jpeg)
    await plc.trigger("none", camera="pushed")
    await plc.trigger("broken", camera="pushed", picture=png[:100])
    by_part = {event.part_id: event for event in await plc.verdicts("png", "jpeg", "none", within_s=10)}
    assert {by_part[part].verdict for part in ("png", "jpeg")} <= {"ok", "ng"}
    assert by_part["png"].model is not None and by_part["png"].model.name == "top"
    assert (by_part["none"].verdict, by_part["none"].reason) == ("unknown", "no frame")
    dead = await plc.client.xrange(KEYS.dead)
    assert dead[-1][1][b"part_id"] == b"broken"
    assert dead[-1][1][b"dead_reason"].startswith(b"the picture can't be read")


async def test_pictures_that_waited_for_the_start_are_judged_while_other_cameras_connect(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    are_judged, start = asyncio.Event(), Camera.start

    async def slow_start(camera: Camera) -> None:
        if camera.name == "first":
            await are_judged.wait()
        await start(camera)

    monkeypatch.setattr(Camera, "start", slow_start)
    save(tiny_artifact(real="lite", name="pushed"), tmp_path / "models")
    picture = bytes(cv2.imencode(".png", np.full((60, 80, 3), 90, np.uint8))[1])
    parts = [f"A-{n}" for n in range(6)]
    async with valkey(tmp_path / "valkey") as broker, broker.endpoint.client() as client:
        path = write_config(tmp_path, "", broker.endpoint)
        pushed = {"source": {"type": "pushed"}, "frames": "every"}
        config = yaml.safe_load(path.read_text()) | {"parts": {"verdict_within_ms": 60_000}}
        config["cameras"] = {"first": {"source": {"type": "pattern"}}, "pushed": pushed}
        path.write_text(yaml.safe_dump(config))
        app = App(load(path))
        keys = app.delivery.keys
        for part in parts:
            fields: dict[Any, Any] = {"camera": "pushed", "part_id": part, "picture": picture}
            await client.xadd(keys.triggers, fields)
        starting = asyncio.create_task(app.startup(), name="startup")
        try:
            async with asyncio.timeout(50):
                while await client.xlen(keys.verdicts) < len(parts):  # noqa: ASYNC110
                    await asyncio.sleep(0.02)
            assert not starting.done()
        finally:
            are_judged.set()
            await starting
            await app.shutdown()
        told = [parse_entry(fields) for _, fields in await client.xrange(keys.verdicts)]
    assert [event.part_id for event in told] == parts
    assert {event.verdict for event in told} <= {"ok", "ng"}


async def test_at_an_orderly_end_what_waits_is_answered_and_acknowledged(plc: Plc) -> None:
    await plc.trigger("last", at=str(time.time() + 0.8))
    async with asyncio.timeout(2):
        while (await plc.client.xpending(KEYS.triggers, GROUP))["pending"] == 0:  # noqa: ASYNC110
            await asyncio.sleep(0.01)
    assert await plc.line.end() == 0
    (verdict,) = await plc.verdicts("last")
    assert (verdict.verdict, verdict.reason) == ("unknown", "stopped")
    assert (await plc.client.xpending(KEYS.triggers, GROUP))["pending"] == 0
