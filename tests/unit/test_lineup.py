"""What the log says of a camera's state."""

import logging
from pathlib import Path
from unittest.mock import Mock

import pytest

from stream.condition import CameraState, State
from stream.lineup import Lineup


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
    lineup = Lineup({}, Path(), offer=Mock(), overview=Mock(), recorder=Mock(), models=Mock(), gateway=Mock())
    with caplog.at_level(logging.INFO, "stream.lineup"):
        lineup._state_changed(CameraState("top", state, reason, 0.0))
    assert [(record.levelname, record.getMessage()) for record in caplog.records] == [(level, text)]
