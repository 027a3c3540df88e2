"""What a run of the demo says in the end: frames, defects against the truth, events, latencies. Pure."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ..events import Event, utc_seconds
from ..sim.schedule import Entry, Score, Sighting, judge

# Results of a frame that the contract names; whatever else happened to frames is listed beside them.
_RESULTS = ("received", "inspected", "displaced", "late")


@dataclass(frozen=True, slots=True)
class Watched:
    """What was seen from the outside while the line ran, from `from_s` to `to_s` (UTC seconds).

    `events` are what a subscriber read; `first_seq` and `last_seq` the last number that each camera gave
    when the run began and when it ended (numbers outlive restarts); `frames` the counts of (camera, result);
    `went_live` the cameras that were live at least once; `live_after_s` from the start of the demo until all
    were; `training_s` only of what had to be trained.
    """

    cameras: tuple[str, ...]
    from_s: float
    to_s: float
    events: Sequence[Event]
    first_seq: Mapping[str, int]
    last_seq: Mapping[str, int]
    frames: Mapping[str, Mapping[str, int]]
    schedule: Mapping[str, Sequence[Entry]]
    went_live: frozenset[str]
    peak_rss_mb: float
    rss_mb_by_minute: tuple[float, ...] = ()
    live_after_s: float = 0.0
    training_s: Mapping[str, float] = field(default_factory=dict)


def build(seen: Watched) -> dict[str, Any]:
    """The JSON object of the demo's last line, with the keys of the contract."""
    scores = {camera: _score(camera, seen) for camera in seen.cameras}
    inspected = sum(counts.get("inspected", 0) for counts in seen.frames.values())
    return {
        "cameras": {camera: _frames(seen.frames.get(camera, {})) for camera in seen.cameras},
        "defects": {
            "shown": sum(len(score.shown) for score in scores.values()),
            "found": sum(len(score.found) for score in scores.values()),
            "missed": sum(len(score.missed) for score in scores.values()),
        },
        "false_alarms": sum(len(score.false_alarms) for score in scores.values()),
        "false_alarms_on_good": sum(len(score.on_good) for score in scores.values()),
        "events": _events(seen),
        "latency_ms": latencies_ms(_of_this_run(seen)),
        "frames_per_s": round(inspected / max(seen.to_s - seen.from_s, 1e-9), 2),
        "peak_rss_mb": round(seen.peak_rss_mb, 1),
        "rss_mb_by_minute": [round(mb, 1) for mb in seen.rss_mb_by_minute],
        "live_after_s": round(seen.live_after_s, 1),
        "training_s": {camera: round(seconds, 1) for camera, seconds in seen.training_s.items()},
    }


def failures(report: Mapping[str, Any], seen: Watched) -> list[str]:
    """Why the demo failed, one sentence each; empty when it did its job."""
    why = [f"camera {camera} never went live" for camera in seen.cameras if camera not in seen.went_live]
    if report["defects"]["shown"] and not report["defects"]["found"]:
        why.append(f"none of {report['defects']['shown']} defects was found")
    if report["events"]["lost"]:
        why.append(f"{report['events']['lost']} events were lost between the engine and the broker")
    return why


def latencies_ms(events: Sequence[Event]) -> dict[str, float | None]:
    """Capture → published of each event that a frame decided, in ms; None when there was none.

    Closes count only where a frame showed that the defect was gone.
    """
    values = sorted(
        (utc_seconds(event.published_at) - utc_seconds(event.captured_at)) * 1000.0
        for event in events
        if event.kind == "defect"
        and event.published_at
        and (event.phase != "close" or event.reason == "gone")
    )
    return {f"p{q}": round(_quantile(values, q / 100), 1) if values else None for q in (50, 95, 99)}


def _quantile(ordered: Sequence[float], q: float) -> float:
    """The smallest value that at least a share q of the values does not exceed (nearest rank)."""
    rank = -(-len(ordered) * q // 1)
    return ordered[min(len(ordered), max(1, int(rank))) - 1]


def _frames(counts: Mapping[str, int]) -> dict[str, int]:
    rest = {name: n for name, n in counts.items() if name not in _RESULTS and n}
    return {name: counts.get(name, 0) for name in _RESULTS} | rest


def _of_this_run(seen: Watched) -> list[Event]:
    return [event for event in seen.events if event.seq > seen.first_seq.get(event.camera, 0)]


def _events(seen: Watched) -> dict[str, int]:
    events = _of_this_run(seen)
    phases = Counter(event.phase for event in events if event.kind == "defect")
    read = {(event.camera, event.seq) for event in events}
    published = {
        (camera, seq)
        for camera, last in seen.last_seq.items()
        for seq in range(seen.first_seq.get(camera, 0) + 1, last + 1)
    }
    return {
        "open": phases["open"],
        "update": phases["update"],
        "close": phases["close"],
        "published": len(published),
        "read": len(read & published),
        "lost": len(published - read),
    }


def _score(camera: str, seen: Watched) -> Score:
    sightings = [
        Sighting(event.defect_id, utc_seconds(event.captured_at), tuple(r.box_px for r in event.regions))
        for event in seen.events
        if event.camera == camera and event.kind == "defect" and event.phase != "close"
    ]
    return judge(seen.schedule.get(camera, ()), sightings, seen.from_s, seen.to_s)
