"""What a line tells of a camera whose model was refused, or taken out."""

import time
from pathlib import Path

import pytest

from config.load import load
from engine.artifact import save
from stream.app import App
from stream.condition import CameraState
from stream.snapshot import NO_MODEL
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
        app._library.discard(entry, "Its model top@1 failed 10 times in a row.")
        [view] = app._camera_views()
        assert (view.model, view.not_inspected) == (None, "Its model top@1 failed 10 times in a row.")
        told = app._vitals.status([view])["top"]
        assert (told["ready"], told["error_code"], told["model_version"]) == (0, NO_MODEL, "")
    finally:
        await app.shutdown()


async def test_a_model_that_the_device_refuses_at_start_is_not_in_use_and_the_reason_is_kept(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "cameras.yaml").write_text(CONFIG)
    save(tiny_artifact(name="top"), tmp_path / "models")
    app = App(load(tmp_path / "cameras.yaml"))
    try:
        await app._models.look()
        await app._start_engine()
        [view] = app._camera_views()
        assert view.model is None and "tiny" in view.not_inspected
        assert f"camera top is not inspected: {view.not_inspected}" in caplog.text
    finally:
        await app.shutdown()
