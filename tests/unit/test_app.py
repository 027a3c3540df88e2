"""What a line tells of a camera whose model was refused, or taken out."""

import asyncio
import logging
import time
from pathlib import Path
from typing import Any
from unittest.mock import AsyncMock, Mock

import httpx
import numpy as np
import pytest

from config.load import load
from engine.artifact import save
from engine.core import Frame, Inspection, ModelInfo
from stream import app as app_module
from stream.app import App, LineFailed
from stream.condition import CameraState
from stream.error_codes import NO_MODEL
from stream.outbox import Outbox
from stream.web.access import needed
from tests.models import tiny_artifact

CONFIG = """
version: 1
cameras: {top: {source: {type: pattern}, frames: every}}
models: {dir: models}
engine: {device: cpu}
events: {outbox: {path: outbox.db}}
evidence: {dir: evidence}
web: {listen: "127.0.0.1:0"}
"""


async def test_a_camera_whose_model_was_taken_out_is_not_ready_and_says_why(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        await app._models.look()
        app._overview.state(CameraState("top", "live", "", time.time()))
        told = app._vitals.status(app._camera_views())["top"]
        assert (told["ready"], told["error_code"], told["model_version"]) == (1, 0, "top@1")
        entry = app._library.get("top")
        assert entry is not None
        assert (app._models.model_of("top"), app._models.model_of("side")) == (entry.info, None)
        app._library.discard(entry, "Its model top@1 failed 10 times in a row.")
        [view] = app._camera_views()
        assert (view.model, view.not_inspected) == (None, "Its model top@1 failed 10 times in a row.")
        told = app._vitals.status([view])["top"]
        assert (told["ready"], told["error_code"], told["model_version"]) == (0, NO_MODEL, "")
    finally:
        await app.shutdown()


async def test_the_page_sets_the_alarm_level_of_a_camera_that_has_inspected_nothing(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        await app._models.look()
        await app.page.start()
        async with httpx.AsyncClient(base_url=f"{app.page.url}api/v1/cameras/") as http:
            base = (await http.get("top")).json()["model"]["threshold"]
            answer = await http.put("top/threshold", json={"level": 1.5, "base": base})
            assert answer.status_code == 200, answer.text
            model = (await http.get("top")).json()["model"]
            assert model["threshold"] > base and model["by_hand"]
            await http.put("top/threshold", json={"level": None})
            model = (await http.get("top")).json()["model"]
            assert model["threshold"] == base and not model["by_hand"]
    finally:
        await app.shutdown()


def check_operations(told: dict[str, Any]) -> None:
    """A client made from the document knows where a token goes, what comes, and how a refusal looks."""
    said = {(m.upper(), path): op for path, ops in told["paths"].items() for m, op in ops.items()}
    error = {"application/json": {"schema": {"$ref": "#/components/schemas/ErrorOut"}}}
    for (method, path), operation in said.items():
        role = needed(method, path)
        asked = [{"token": [role]}, {"session": [role]}] if role else []
        assert operation["security"] == ([{"camera": []}] if path.startswith("/whip/") else asked), path
        refusals = {status: answer for status, answer in operation["responses"].items() if status[0] != "2"}
        assert "default" in refusals
        for status, answer in refusals.items():
            assert answer["content"] == error or (path, status) in {
                ("/ready", "503"), ("/startup", "503"), ("/api/v1/config/reload", "422"),
            }, (path, status)  # fmt: skip
    assert told["components"]["securitySchemes"].keys() == {"token", "session", "camera"}
    for path, kind in (("/cameras/{name}/snapshot", "image/jpeg"), ("/mjpeg", "multipart/x-mixed-replace")):
        assert said["GET", f"/api/v1{path}"]["responses"]["200"]["content"].keys() == {kind}
    for method, path, statuses in (
        ("POST", "login", {"401", "409", "429"}),
        ("GET", "cameras/{name}/cost", {"404"}),
        ("PUT", "cameras/{name}/threshold", {"404", "409"}),
        ("PUT", "evidence/{camera}/{stem}/feedback", {"404", "409", "507"}),
    ):
        assert statuses <= said[method, f"/api/v1/{path}"]["responses"].keys(), path


async def test_a_key_that_no_request_has_is_refused_and_changes_nothing(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        await app._models.look()
        await app.page.start()
        async with httpx.AsyncClient(base_url=f"{app.page.url}api/v1/") as http:
            base = (await http.get("cameras/top")).json()["model"]["threshold"]
            wish = {"level": None, "base": base, "treshold": 1.5}
            answer = await http.put("cameras/top/threshold", json=wish)
            assert (answer.status_code, answer.json()["detail"]) == (422, "treshold: unknown key")
            for method, path, said in (
                ("GET", "events?limt=5", "limt: unknown key in the query; there are: limit, camera."),
                ("POST", "config/reload?now=1", "now: unknown key in the query; there is none."),
            ):
                answer = await http.request(method, path)
                assert (answer.status_code, answer.json()["detail"]) == (422, said)
            for path in ("events?limit=5&_=1700000000&t=1", f"{app.page.url}live?from=balancer"):
                assert (await http.get(path)).status_code == 200
            answer = await http.put("cameras/top/threshold", json={"level": 1.2})
            assert answer.json()["detail"].startswith("base is missing: the raw alarm level")
            told = (await http.get("openapi.json")).json()
        check_operations(told)
        bodies = {
            name: schema for name, schema in told["components"]["schemas"].items() if name.endswith("In")
        }
        assert {"CollectIn", "FeedbackIn", "LevelIn", "LoginIn", "TrainIn", "ZonesIn"} <= bodies.keys()
        assert not [name for name, body in bodies.items() if body.get("additionalProperties", True)]
    finally:
        await app.shutdown()


async def test_a_model_that_the_device_refuses_at_start_is_not_in_use_and_the_reason_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        await app._models.look()
        await app._start_engine()
        assert "models are being warmed up" in caplog.text
        [view] = app._camera_views()
        assert view.model is None and "tiny" in view.not_inspected
        assert f"camera top is not inspected: {view.not_inspected}" in caplog.text
    finally:
        await app.shutdown()


async def test_a_line_that_is_ended_while_its_cameras_are_being_connected_leaves_nothing_open(
    tmp_path: Path,
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    app = App(load(tmp_path / "cameras.yaml"))
    app._recorder.start()
    app._recorder.camera_down("top", "no route to the camera")
    await app.shutdown()
    outbox = Outbox(tmp_path / "outbox.db")
    try:
        assert outbox.open_incidents() == []
        assert [event.type for event in outbox.newest("events", 2)] == ["system.stopped", "camera.up"]
    finally:
        outbox.close()


async def test_a_part_that_waits_is_answered_in_time_while_a_training_is_being_ended(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(f"{CONFIG}parts: {{verdict_within_ms: 100}}\n")
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    await app._models.look()
    gateway = app._gateway
    gateway._inboxes = [Mock(finish=AsyncMock())]
    app._tasks = [asyncio.create_task(gateway.parts.run(), name="parts")]
    assert not await gateway.parts.take("1-0", {"camera": "top", "part_id": "A-1", "at": str(time.time())})
    waiting: list[int] = []

    async def ends_slowly() -> None:
        for _ in range(300):
            await asyncio.sleep(0.01)
            waiting.append(gateway.parts.waiting("top"))
            if not waiting[-1]:
                return

    app._teaching.stop = ends_slowly  # type: ignore[method-assign]
    await app.shutdown()
    assert waiting[-1] == 0


async def test_a_part_without_a_picture_is_answered_before_cameras_and_device_have_ended(
    tmp_path: Path,
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    await app._models.look()
    gateway, offered = app._gateway, list[Frame]()
    gateway._inboxes = [Mock(finish=AsyncMock())]
    gateway._offer = lambda frame: offered.append(frame) or True  # type: ignore[func-returns-value]
    app._tasks = [asyncio.create_task(gateway._answer(), name="parts")]
    now = time.time()
    for n in (1, 2):
        part = {"camera": "top", "part_id": f"A-{n}", "at": str(now + n / 10)}
        assert not await gateway.parts.take(f"{n}-0", part)
    await asyncio.sleep(0)
    gateway.holds(Frame("top", 1, now + 0.1, time.monotonic(), np.zeros((2, 2, 3), np.uint8)))
    told: list[tuple[str, str]] = []

    async def ends_slowly() -> None:
        told.extend((event.part_id, event.verdict) for event in app.delivery.outbox.newest("verdicts", 9))
        info = ModelInfo("top", 1, "0", 2.0, 1.0)
        gateway.inspected(Inspection(offered[0], 1.0, 0.0, (), np.zeros((1, 1), np.float32), info, {}))
        told.extend((event.part_id, event.verdict) for event in app.delivery.outbox.newest("verdicts", 1))

    app.lineup.stop = ends_slowly  # type: ignore[method-assign]
    await app.shutdown()
    assert told == [("A-2", "unknown"), ("A-1", "ok")], "what is on the device is still told"


@pytest.mark.parametrize("is_taken", [True, False])
async def test_only_a_picture_that_the_engine_took_waits_for_its_inspection(
    tmp_path: Path, is_taken: bool
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    app = App(load(tmp_path / "cameras.yaml"))
    app._engine = Mock(offer=lambda frame: is_taken)
    try:
        app._offer(Frame("top", 1, 0.0, time.monotonic() - 9.0, np.zeros((2, 2, 3), np.uint8)))
        assert (app._overview.unanswered_s("top") >= 9.0) == is_taken
    finally:
        await app.shutdown()


async def test_no_part_is_lost_between_device_and_event_loop_and_an_overrun_is_answered(
    tmp_path: Path,
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    told: list[tuple[str | None, str]] = []
    try:
        await app._models.look()
        engine = await app._start_engine()
        app._gateway.dropped = lambda frame, reason: told.append((frame.part_id, reason))  # type: ignore[method-assign]
        # The device hands over while the loop takes nothing, as it does all batch long.
        batch, line = 16, 16
        info = ModelInfo("top", 1, "0", 2.0, 1.0)
        for number in range(2 * batch + line):
            frame = Frame("top", number, 0.0, 0.0, np.zeros((2, 2, 3), np.uint8), part_id=f"A-{number}")
            app._hand_over([Inspection(frame, 1.0, 0.0, (), np.zeros((1, 1), np.float32), info, {})])
        assert told == []
        app._hand_over([Inspection(frame, 1.0, 0.0, (), np.zeros((1, 1), np.float32), info, {})])
        assert told == [("A-0", "displaced")]
        assert engine.meter.snapshot().frames["top", "overrun"] == 1
        app._inspections.resize(0)
    finally:
        await app.shutdown()


@pytest.mark.parametrize("told", ["_inspections", "_bare", "_troubles"])
async def test_a_bug_in_what_is_done_with_what_came_ends_the_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, told: str
) -> None:
    """Nothing would be taken any more, and nobody would know."""
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    monkeypatch.setattr(app_module, "_TICK_S", 0.0)
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        getattr(app, told).died = KeyError("a bug")
        with pytest.raises(LineFailed, match="could not be handled: 'a bug'"):
            await app._keep_ticking()
    finally:
        await app.shutdown()
