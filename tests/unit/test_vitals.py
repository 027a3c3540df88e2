"""What the PLC is told of a camera whose pictures come far apart."""

import time
from unittest.mock import Mock

import pytest

from config.settings import CameraSettings, Settings
from engine.core import Inspection
from stream.condition import CameraState
from stream.error_codes import BLIND, DEAF
from stream.overview import Overview
from stream.publisher import PublisherState
from stream.vitals import Vitals
from stream.web.view import ModelView
from tests.unit.test_overview import Clock, inspection


class Told:
    """The PLC's view of one live camera."""

    def __init__(self, live_s: float = 60.0, fps: float = 10.0, frames: str = "latest") -> None:
        self.clock = Clock()
        self.overview = Overview(self.clock)
        self.overview.add("top")
        self.overview.state(CameraState("top", "live", "", time.time() - live_s))
        self.overview.model("top", ModelView("top", 1))
        settings = CameraSettings.model_validate(
            {"source": {"type": "pattern"}, "fps": fps, "frames": frames}
        )
        self.gateway = gateway = Mock(trouble=None)
        gateway.parts.waiting.return_value = 0
        gateway.counts.side_effect = lambda name, counts: counts
        self.recorder = Mock(disk_error=None)
        self.delivery = Mock(state=PublisherState())
        self.vitals = Vitals(
            Settings(version=1),
            {"top": settings},
            recorder=self.recorder,
            delivery=self.delivery,
            gateway=gateway,
            overview=self.overview,
        )

    def picture(self) -> Inspection:
        """One comes, and goes to the engine; what the engine would say of it."""
        made = inspection(self.clock.now)
        self.overview.taken(made.frame)
        return made

    def code(self, after_s: float = 0.0) -> int:
        self.clock.now += after_s
        told = self.vitals.status(self.overview.cameras(lambda name: 0.1))["top"]
        assert told["ready"] == int(not told["error_code"])
        return int(told["error_code"])


@pytest.mark.parametrize("live_s", [60.0, -3600.0])  # the clock was set back an hour since
@pytest.mark.parametrize(
    ("fps", "waits_s", "code"),
    [(10.0, 5.0, 0), (10.0, 5.1, BLIND), (0.1, 29.9, 0), (0.1, 30.1, BLIND)],
)
def test_a_camera_is_blind_when_an_inspection_is_overdue_at_its_own_rate(
    fps: float, waits_s: float, code: int, live_s: float
) -> None:
    top = Told(live_s, fps)
    top.picture()
    assert top.code(waits_s) == code


def test_a_camera_without_pictures_is_not_blind_whatever_it_has_inspected() -> None:
    top = Told()
    assert top.code(3600.0) == 0
    top.overview.inspected(top.picture())
    assert top.code(3600.0) == 0


def test_a_picture_after_a_pause_gets_its_time_and_those_that_follow_are_no_excuse() -> None:
    top = Told()
    top.overview.inspected(top.picture())
    top.clock.now += 3600.0
    top.picture()
    assert top.code(4.0) == 0
    top.picture()
    assert top.code(1.1) == BLIND
    last = top.picture()
    assert top.code() == BLIND
    top.overview.inspected(last)
    assert top.code(3600.0) == 0


def test_what_came_while_another_one_was_inspected_is_counted_from_its_answer() -> None:
    top = Told()
    first = top.picture()
    top.clock.now += 4.0
    top.picture()
    top.overview.inspected(first)
    assert top.code(4.0) == 0
    assert top.code(1.1) == BLIND


def test_a_picture_that_is_inspected_before_it_is_said_to_be_taken_does_not_wait() -> None:
    top = Told()
    quick = inspection(top.clock.now)
    top.overview.inspected(quick)
    top.overview.taken(quick.frame)
    assert top.code(3600.0) == 0


def test_another_model_is_not_blamed_for_what_the_one_before_lost() -> None:
    top = Told()
    top.picture()
    assert top.code(3600.0) == BLIND
    top.overview.model("top", ModelView("top", 2))
    assert top.code() == 0


def test_triggers_that_can_not_be_read_are_the_fault_of_the_cameras_that_take_them() -> None:
    top, free = Told(frames="every"), Told()
    for camera in (top, free):
        camera.vitals.started = True
        assert (camera.code(), camera.vitals.not_ready()) == (0, [])
        camera.gateway.trouble = "the broker's ACL forbids it"
        assert camera.vitals.is_alive(), "pictures that come by themselves are inspected and told"
    assert (free.code(), free.vitals.not_ready()) == (0, [])
    assert top.code() == DEAF
    assert top.vitals.not_ready() == ["Triggers can't be read: the broker's ACL forbids it."]
    top.delivery.state = PublisherState(error="the broker can't be reached")
    assert len(top.vitals.not_ready()) == 1, "it is the same trouble"


def test_the_heartbeat_stops_while_what_is_decided_reaches_nobody() -> None:
    top = Told()
    assert not top.vitals.is_alive()  # not started yet
    top.vitals.started = True
    assert top.vitals.is_alive()
    # The heartbeat's own key may still be written then.
    top.delivery.state = PublisherState(connected=True, error="the broker's ACL forbids a command")
    assert not top.vitals.is_alive()
    top.delivery.state = PublisherState(connected=True)
    top.recorder.disk_error = "disk I/O error"
    assert not top.vitals.is_alive()
