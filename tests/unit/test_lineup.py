"""What the log says of a camera's state, and when its answer changes."""

import logging
import threading
from collections.abc import Mapping
from pathlib import Path
from unittest.mock import AsyncMock, Mock

import pytest

from config.changes import compare
from config.settings import CameraSettings, Settings
from stream.condition import CameraState, State
from stream.lineup import Lineup
from tests.puppets import until


@pytest.mark.parametrize(
    ("state", "reason", "level", "text"),
    [
        ("connecting", "connecting", "INFO", "camera top is connecting"),
        ("live", "H.264 over TCP", "INFO", "camera top is live: H.264 over TCP"),
        ("refused", "10.0.0.1 refuses", "WARNING", "camera top is refused: 10.0.0.1 refuses"),
        ("down", "no answer", "WARNING", "camera top is down: no answer"),
        ("frozen", "all the same", "WARNING", "camera top is frozen: all the same"),
    ],
)
def test_a_state_is_said_once_and_trouble_is_a_warning(
    state: State, reason: str, level: str, text: str, caplog: pytest.LogCaptureFixture
) -> None:
    lineup = lineup_of({})
    with caplog.at_level(logging.INFO, "stream.lineup"):
        lineup._state_changed(CameraState("top", state, reason, 0.0))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, text)]


def settings_of(frames: str) -> Settings:
    camera = {"source": {"type": "pattern"}, "frames": frames, "detect": {"on_frames": 3, "off_frames": 6}}
    return Settings.model_validate({"version": 1, "cameras": {"top": camera}})


def lineup_of(cameras: Mapping[str, CameraSettings]) -> Lineup:
    return Lineup(
        dict(cameras),
        Path(),
        offer=Mock(),
        overview=Mock(),
        recorder=Mock(),
        models=AsyncMock(),
        gateway=Mock(),
    )


async def test_a_part_is_one_picture_and_one_answer_whatever_the_hysteresis() -> None:
    latest, every = settings_of("latest"), settings_of("every")
    lineup = lineup_of(latest.cameras)
    assert lineup.hysteresis == {"top": (3, 6)}
    lineup._engine, lineup.running["top"] = Mock(), Mock()
    await lineup.change(compare(latest, every))
    assert lineup.hysteresis == {"top": (1, 1)}


async def test_a_disk_of_good_pictures_that_hangs_keeps_no_camera_from_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """And they are read once: what a model that is loaded before the start asks for counts."""
    goes_on, read, cameras = threading.Event(), list[str](), dict[str, Mock]()

    def view(folder: Path) -> None:
        read.append(folder.parent.name)
        goes_on.wait(10)

    def camera(name: str, *_: object, **__: object) -> Mock:
        return cameras.setdefault(name, Mock(start=AsyncMock(), stop=AsyncMock()))

    monkeypatch.setattr("stream.lineup.trained_view", view)
    monkeypatch.setattr("stream.lineup.Camera", camera)
    top = settings_of("latest").cameras["top"]
    lineup = lineup_of({"top": top, "side": top})
    await lineup.take_view("top")
    await lineup.start(Mock())
    assert [camera.start.await_count for camera in cameras.values()] == [1, 1]
    goes_on.set()
    await until(lambda: all(camera.set_view.called for camera in cameras.values()))
    await lineup.stop()
    assert read == ["top", "side"]
