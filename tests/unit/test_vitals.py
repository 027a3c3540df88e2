"""What the PLC is told of a camera whose pictures come far apart."""

import time
from unittest.mock import Mock

import pytest

from config.settings import CameraSettings, Settings
from stream.condition import CameraState
from stream.overview import Overview
from stream.snapshot import BLIND
from stream.vitals import Vitals
from stream.web.view import ModelView
from tests.unit.test_overview import Clock, inspection


@pytest.mark.parametrize("live_s", [60.0, -3600.0])  # the clock was set back an hour since
@pytest.mark.parametrize(
    ("fps", "idle_s", "code"),
    [(10.0, 5.0, 0), (10.0, 5.1, BLIND), (0.1, 29.9, 0), (0.1, 30.1, BLIND)],
)
def test_a_camera_is_blind_when_an_inspection_is_overdue_at_its_own_rate(
    fps: float, idle_s: float, code: int, live_s: float
) -> None:
    clock = Clock()
    overview = Overview(clock)
    overview.add("top")
    overview.state(CameraState("top", "live", "", time.time() - live_s))
    overview.model("top", ModelView("top", 1))
    overview.inspected(inspection(clock.now))
    clock.now += idle_s
    settings = CameraSettings.model_validate({"source": {"type": "pattern"}, "fps": fps})
    gateway = Mock()
    gateway.parts.waiting.return_value = 0
    gateway.counts.side_effect = lambda name, counts: counts
    vitals = Vitals(
        Settings(version=1),
        {"top": settings},
        recorder=Mock(disk_error=None),
        delivery=Mock(),
        gateway=gateway,
        overview=overview,
    )
    told = vitals.status(overview.cameras(lambda name: 0.1))["top"]
    assert (told["ready"], told["error_code"]) == (int(not code), code)
