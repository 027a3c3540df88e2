"""What the engine and the cameras say becomes events with a seq, whatever the disk does."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from config.settings import CameraSettings
from stream.drafts import Part
from stream.events import Event
from stream.incidents import IncidentPolicy
from stream.outbox import Outbox
from stream.recorder import Recorder, policy_of
from tests.unit.test_incidents import defect, inspection
from tests.unit.test_outbox import refuse


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db")
    yield box
    box.close()


def make(outbox: Outbox, told: list[Event] | None = None) -> Recorder:
    recorder = Recorder(
        outbox,
        site="plant-a",
        line="line-1",
        on_recorded=(told if told is not None else []).extend,
        tick_s=lambda: 0.0,
    )
    recorder.watch("top", IncidentPolicy(on_frames=1, off_frames=1))
    return recorder


def types(events: list[Event]) -> list[str]:
    return [e.type for e in events]


def test_a_defect_opens_and_closes_with_its_numbers(outbox: Outbox) -> None:
    told: list[Event] = []
    recorder = make(outbox, told)
    recorder.observe(inspection(1, defect(64, 48, peak=2.0)))
    recorder.observe(inspection(2))
    opened, closed = told
    assert (opened.type, opened.seq, closed.type, closed.seq) == ("defect.open", 1, "defect.close", 2)
    assert (opened.score, opened.threshold, opened.score_ratio) == (3.0, 2.0, 2.0)
    assert closed.defect_id == opened.defect_id
    assert closed.opened_at == opened.captured_at
    assert opened.model is not None and opened.model.name == "top"


def test_a_frame_without_news_puts_nothing(outbox: Outbox) -> None:
    assert make(outbox).observe(inspection(1)) == []
    assert outbox.pending == 0


def test_a_paused_camera_that_is_down_stays_down_until_it_is_back(outbox: Outbox) -> None:
    told: list[Event] = []
    recorder = make(outbox, told)
    recorder.observe(inspection(1, defect(64, 48)))
    recorder.camera_down("top", "gone")
    assert recorder.pause("top", "camera disabled") == []
    recorder.watch("top", IncidentPolicy(on_frames=1))
    assert types(recorder.camera_up("top")) == ["camera.up"]
    recorder.observe(inspection(2, defect(64, 48)))
    (closed,) = recorder.pause("top", "camera disabled")
    assert (closed.type, closed.verdict, closed.reason) == ("defect.close", "unknown", "camera disabled")
    assert recorder.observe(inspection(3, defect(64, 48))) == []


def test_a_slow_camera_is_not_silent_between_two_pictures() -> None:
    def silent_s(fps: float) -> float:
        return policy_of(CameraSettings.model_validate({"source": {"type": "pattern"}, "fps": fps})).silent_s

    assert (silent_s(10.0), silent_s(0.025)) == (30.0, 120.0)


@pytest.mark.parametrize(("frames", "opened"), [("every", 2), ("latest", 1)])
def test_a_bad_part_after_a_good_one_is_told_although_the_last_bad_one_looked_the_same(
    outbox: Outbox, frames: str, opened: int
) -> None:
    """Also while nobody triggers: then no part has a name."""
    told: list[Event] = []
    recorder = make(outbox, told)
    camera = {"source": {"type": "pattern"}, "frames": frames, "detect": {"on_frames": 1}}
    recorder.watch("top", policy_of(CameraSettings.model_validate(camera)))
    recorder.observe(inspection(1, defect(64, 48)))
    recorder.observe(inspection(2))
    recorder.observe(inspection(3, defect(64, 48)))
    assert types(told).count("defect.open") == opened


def test_a_camera_that_goes_down_closes_its_defects_first(outbox: Outbox) -> None:
    recorder = make(outbox)
    recorder.observe(inspection(1, defect(64, 48)))
    events = recorder.camera_down("top", "no route to host")
    assert types(events) == ["defect.close", "camera.down"]
    assert (events[0].verdict, events[0].reason) == ("unknown", "camera down: no route to host")
    assert recorder.camera_down("top", "again") == []
    (up,) = recorder.camera_up("top")
    assert (up.type, up.phase, up.defect_id) == ("camera.up", "close", events[1].defect_id)
    assert recorder.camera_up("top") == []


def test_what_a_killed_run_left_open_is_closed_as_restarted(outbox: Outbox) -> None:
    killed = make(outbox)
    killed.observe(inspection(1, defect(64, 48)))
    killed.camera_down("side", "unplugged")
    events = make(outbox).start()
    assert types(events) == ["defect.close", "camera.up", "system.started"]
    assert {(e.verdict, e.reason) for e in events[:2]} == {("unknown", "restarted")}
    assert outbox.open_incidents() == []


def test_an_orderly_stop_leaves_nothing_open(outbox: Outbox) -> None:
    recorder = make(outbox)
    recorder.observe(inspection(1, defect(64, 48)))
    recorder.camera_down("side", "unplugged")
    assert types(recorder.stop()) == ["defect.close", "camera.up", "system.stopped"]
    assert outbox.open_incidents() == []


def test_a_verdict_stands_in_both_streams_under_one_id(outbox: Outbox) -> None:
    (event,) = make(outbox).verdict("top", Part("P7", "J1"), "unknown", "camera down")
    assert (event.kind, event.part_id, event.job_id, event.verdict) == ("part", "P7", "J1", "unknown")
    assert {r.stream for s in outbox.streams() for r in outbox.take(s, 9)} == {"events", "verdicts"}


def test_a_verdict_is_as_severe_as_its_own_picture(outbox: Outbox) -> None:
    recorder = make(outbox)
    for defects, expected in [((), "minor"), ((defect(0, 0, peak=1.6),), "major")]:
        seen = inspection(1, *defects)
        (event,) = recorder.verdict("top", Part("P7"), "ng" if defects else "ok", None, seen)
        assert event.severity == expected
    seen = inspection(2, defect(0, 0, peak=1.1), defect(64, 48, peak=9.0))
    assert recorder.verdict("top", Part("P8"), "ng", None, seen)[0].severity == "critical"


def test_events_wait_in_memory_while_the_disk_refuses(outbox: Outbox) -> None:
    told: list[Event] = []
    recorder = make(outbox, told)
    recorder.system("one")
    outbox._db.execute("PRAGMA query_only = 1")
    assert recorder.system("two") == []
    assert recorder.disk_error is not None
    recorder.system("three")
    assert recorder.held == 2
    outbox._db.execute("PRAGMA query_only = 0")
    recorder.tick()
    assert [(e.type, e.seq) for e in told] == [("system.one", 1), ("system.two", 2), ("system.three", 3)]
    assert recorder.held == 0
    assert recorder.disk_error is None


def test_an_event_that_finds_no_readable_disk_waits_too(outbox: Outbox) -> None:
    recorder = make(outbox)
    refuse(outbox, sqlite3.SQLITE_PRAGMA)
    assert recorder.system("one") == []
    assert (recorder.held, outbox.pending) == (1, 0)
    refuse(outbox)
    recorder.tick()
    assert (recorder.held, outbox.pending) == (0, 1)


def test_a_disk_that_can_not_be_read_ends_no_tick(outbox: Outbox) -> None:
    recorder = make(outbox)
    refuse(outbox, sqlite3.SQLITE_SELECT)
    assert recorder.tick() == []
    assert recorder.disk_error is not None
    refuse(outbox)
    recorder.tick()
    assert recorder.disk_error is None


def test_what_was_dropped_is_told_once_although_the_disk_refuses_to_forget_it(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "small.db", max_bytes=200_000)
    recorder = make(outbox)
    while not outbox.dropped():
        recorder.system("noise")
    refuse(outbox, sqlite3.SQLITE_UPDATE)  # first the event can't be numbered
    assert recorder.tick() == []
    refuse(outbox)
    outbox._db.execute(
        "CREATE TRIGGER refuse BEFORE UPDATE ON dropped BEGIN SELECT RAISE(ABORT, 'disk I/O error'); END"
    )
    assert types(recorder.tick()) == ["system.dropped"]
    assert recorder.tick() == []
    assert recorder.disk_error is not None
    outbox._db.execute("DROP TRIGGER refuse")
    assert recorder.tick() == []
    assert outbox.dropped() == {}
    outbox.close()
    assert recorder.disk_error is None


def test_what_was_dropped_is_told_in_an_event(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "small.db", max_bytes=200_000)
    recorder = make(outbox)
    while not outbox.dropped():
        recorder.system("noise")
    dropped = outbox.dropped()["close"]
    (told,) = recorder.tick()
    assert (told.type, told.detail["close"], told.severity) == ("system.dropped", dropped, "critical")
    outbox.close()
