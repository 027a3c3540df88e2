import time

import numpy as np
import pytest

from engine.core import Defect, Frame, Inspection, ModelInfo
from stream.condition import CameraState
from stream.events import Event, rfc3339
from stream.ids import Uuid7
from stream.overview import RECENT_INCIDENTS, Overview

new_id = Uuid7(time.time)


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def inspection(tick: float, *, peak: float | None = None) -> Inspection:
    frame = Frame("top", 1, 1000.0, tick, np.zeros((8, 8, 3), np.uint8))
    defects = () if peak is None else (Defect((0, 0, 2, 2), 4, peak, peak, (1.0, 1.0)),)
    model = ModelInfo("top", 1, "0" * 64, 2.0, 1.0)
    return Inspection(frame, 0.5, 0.5, defects, np.zeros((8, 8), np.float32), model)


def event(phase: str, defect_id: str, ratio: float = 1.5) -> Event:
    return Event.model_validate(
        {
            "id": new_id(),
            "seq": 1,
            "kind": "defect",
            "type": f"defect.{phase}",
            "phase": phase,
            "defect_id": defect_id,
            "site": "s",
            "line": "l",
            "camera": "top",
            "score_ratio": ratio,
            "captured_at": rfc3339(1000.0),
            "detected_at": rfc3339(1001.0),
        }
    )


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def overview(clock: Clock) -> Overview:
    made = Overview(clock)
    made.add("top")
    return made


def test_a_camera_without_inspections_has_no_rate_and_no_verdict(overview: Overview) -> None:
    (view,) = overview.cameras(lambda name: None)
    assert (view.state, view.fps, view.latency_ms, view.verdict) == ("connecting", None, None, None)


def test_rate_and_latency_are_of_the_last_five_seconds(overview: Overview, clock: Clock) -> None:
    for _ in range(10):
        clock.now += 1.0
        overview.inspected(inspection(clock.now - 0.2))
    (view,) = overview.cameras(lambda name: 0.1)
    assert view.fps == pytest.approx(1.2, abs=0.2)
    assert view.latency_ms == pytest.approx(200, abs=1)


@pytest.mark.parametrize(("fps", "seconds"), [(10, 1), (60, 20), (200, 20)])
def test_the_rate_is_right_at_once_and_however_many_come(
    overview: Overview, clock: Clock, fps: int, seconds: int
) -> None:
    for _ in range(seconds * fps):
        clock.now += 1.0 / fps
        overview.inspected(inspection(clock.now))
    (view,) = overview.cameras(lambda name: 0.1)
    assert view.fps == pytest.approx(fps, rel=0.03)
    clock.now += 6.0
    (view,) = overview.cameras(lambda name: 6.1)
    assert view.fps == 0.0


def test_the_verdict_is_ng_exactly_when_there_is_a_defect(overview: Overview) -> None:
    overview.inspected(inspection(100.0, peak=1.7))
    (view,) = overview.cameras(lambda name: None)
    assert view.verdict is not None and (view.verdict.verdict, view.verdict.score_ratio) == ("ng", 1.7)
    overview.inspected(inspection(100.0))
    (view,) = overview.cameras(lambda name: None)
    assert view.verdict is not None and view.verdict.verdict == "ok"


def test_a_live_camera_needs_no_reason(overview: Overview) -> None:
    overview.state(CameraState("top", "live", "H264 640×480 over TCP", 5.0))
    (view,) = overview.cameras(lambda name: None)
    assert (view.state, view.reason) == ("live", "")


def test_an_incident_is_one_entry_from_open_to_close(overview: Overview) -> None:
    defect_id = new_id()
    for phase in ("open", "update", "close"):
        overview.recorded([event(phase, defect_id)])
    (incident,) = overview.incidents(10)
    assert (incident.phase, incident.opened_at, incident.closed_at) == ("close", 1001.0, 1001.0)
    assert overview.phases == {"open": 1, "update": 1, "close": 1}


def test_incidents_are_newest_first_and_bounded(overview: Overview) -> None:
    ids = [new_id() for _ in range(RECENT_INCIDENTS + 5)]
    overview.recorded([event("open", defect_id) for defect_id in ids])
    kept = [incident.defect_id for incident in overview.incidents(10_000)]
    assert kept == ids[:4:-1]


def test_seconds_to_the_broker_fall_into_their_bucket(overview: Overview) -> None:
    overview.published("top", 0.2)
    histogram = overview.capture_to_event()["top"]
    assert sum(histogram.counts) == 1
    assert histogram.counts[histogram.bounds.index(0.25)] == 1


def test_what_is_said_of_a_removed_camera_changes_nothing(overview: Overview) -> None:
    overview.remove("top")
    overview.inspected(inspection(100.0))
    overview.published("top", 0.1)
    assert overview.cameras(lambda name: None) == []
