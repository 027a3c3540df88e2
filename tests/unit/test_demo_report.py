from dataclasses import replace

import pytest

from stream.demo.report import Watched, build, failures, latencies_ms
from stream.events import Event, Region, rfc3339
from stream.ids import Uuid7
from stream.sim.schedule import Entry, Truth

new_id = Uuid7(lambda: 1000.0)


def event(
    seq: int, phase: str = "open", at_s: float = 110.0, took_s: float = 0.1, camera: str = "top"
) -> Event:
    box = (10, 10, 30, 30)
    shares = (0.1, 0.1, 0.3, 0.3)
    region = Region(
        box=shares, box_px=box, area_px=400, peak=2.0, centroid=(0.2, 0.2), centroid_px=(20.0, 20.0)
    )
    return Event.model_validate(
        {
            "id": new_id(),
            "seq": seq,
            "kind": "defect",
            "type": f"defect.{phase}",
            "phase": phase,
            "defect_id": new_id(),
            "site": "demo",
            "line": "line-1",
            "camera": camera,
            "captured_at": rfc3339(at_s),
            "detected_at": rfc3339(at_s),
            "published_at": rfc3339(at_s + took_s),
            "reason": "gone" if phase == "close" else None,
            "regions": (region,),
        }
    )


def seen(*events: Event, last: int | None = None) -> Watched:
    truth = Truth("d1", "scratch", (20, 20, 40, 40), (20, 20, 40, 40), 109.0, 112.0, 109.0, 112.0)
    return Watched(
        cameras=("top",),
        from_s=100.0,
        to_s=120.0,
        events=events,
        first_seq={"top": 5},
        last_seq={"top": 5 + len(events) if last is None else last},
        frames={"top": {"received": 100, "inspected": 90, "displaced": 2, "late": 1, "decimated": 7}},
        schedule={"top": [Entry("top", 0, 109.0, "part-1", "live", (truth,))]},
        went_live=frozenset({"top"}),
        peak_rss_mb=512.04,
    )


def test_a_found_defect_without_losses_is_a_success() -> None:
    watched = seen(event(6), event(7, "close"))
    report = build(watched)
    assert report["defects"] == {"shown": 1, "found": 1, "missed": 0}
    assert report["false_alarms"] == 0
    assert report["events"] == {"open": 1, "update": 0, "close": 1, "published": 2, "read": 2, "lost": 0}
    assert report["frames_per_s"] == 4.5
    assert failures(report, watched) == []


def test_numbers_given_before_the_run_are_neither_missed_nor_counted_in_it() -> None:
    events = build(seen(event(5, "close"), event(6), last=6))["events"]
    assert (events["lost"], events["close"], events["read"]) == (0, 0, 1)


def test_a_number_that_was_given_and_not_read_is_a_lost_event() -> None:
    watched = seen(event(6), last=8)
    report = build(watched)
    assert report["events"]["lost"] == 2
    assert failures(report, watched) == ["2 events were lost between the engine and the broker"]


def test_an_incident_beside_the_defect_is_a_false_alarm_and_the_defect_missed() -> None:
    watched = seen(event(6, at_s=102.0))
    report = build(watched)
    assert report["false_alarms"] == report["false_alarms_on_good"] == 1
    assert report["defects"]["missed"] == 1
    assert failures(report, watched) == ["none of 1 defects was found"]


def test_a_camera_that_never_went_live_fails_the_demo() -> None:
    watched = replace(seen(event(6)), went_live=frozenset())
    assert failures(build(watched), watched) == ["camera top never went live"]


def test_latencies_are_those_of_events_that_a_frame_decided() -> None:
    stopped = event(9, "close", took_s=9.0).model_copy(update={"reason": "stopped"})
    assert latencies_ms([event(n, took_s=n / 10) for n in range(1, 5)] + [stopped]) == {
        "p50": pytest.approx(200, abs=1),
        "p95": pytest.approx(400, abs=1),
        "p99": pytest.approx(400, abs=1),
    }


def test_without_events_there_is_no_latency() -> None:
    assert latencies_ms([]) == {"p50": None, "p95": None, "p99": None}
