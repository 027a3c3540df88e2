"""One defect is one incident, whatever the line does."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import count
from typing import Any

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Defect, Frame, Inspection, ModelInfo
from stream.incidents import SEVERITIES, Decision, IncidentPolicy, Incidents, severity

PIXELS = np.zeros((480, 640, 3), np.uint8)
MODEL = ModelInfo("top", 1, "0" * 64, threshold=2.0, median=1.0)


def defect(x: int, y: int, size: int = 40, peak: float = 1.2) -> Defect:
    box = (x, y, x + size, y + size)
    return Defect(box, size * size, peak, peak * 0.8, (x + size / 2, y + size / 2))


def inspection(seq: int, *defects: Defect, part_id: str | None = None) -> Inspection:
    frame = Frame("top", seq, 1_000.0 + seq / 5, seq / 5, PIXELS, part_id=part_id)
    ratio = max((d.peak for d in defects), default=0.3)
    return Inspection(frame, 1 + ratio, ratio, defects, np.zeros((4, 4), np.float32), MODEL)


class Line:
    """Feeds inspections at 5 frames/s and keeps what was decided."""

    def __init__(self, **policy: object) -> None:
        ids = count(1)
        self.incidents = Incidents("top", IncidentPolicy(**policy), lambda: f"id-{next(ids)}")  # type: ignore[arg-type]
        self.seq = 0
        self.decisions: list[Decision] = []

    def see(self, *defects: Defect, part_id: str | None = None) -> list[Decision]:
        self.seq += 1
        new = self.incidents.update(inspection(self.seq, *defects, part_id=part_id), self.seq / 5)
        self.decisions += new
        return new

    def phases(self) -> list[str]:
        return [d.phase for d in self.decisions]


def test_one_frame_is_not_enough_to_open() -> None:
    line = Line(on_frames=2)
    assert line.see(defect(100, 100)) == []
    assert [d.phase for d in line.see(defect(100, 100))] == ["open"]


def test_a_gap_before_the_second_frame_starts_the_count_again() -> None:
    line = Line(on_frames=2)
    line.see(defect(100, 100)), line.see(), line.see(defect(100, 100))
    assert line.decisions == []


def test_an_incident_survives_misses_and_closes_after_off_frames() -> None:
    line = Line(on_frames=1, off_frames=3, update_every_s=60)
    line.see(defect(100, 100)), line.see(), line.see(), line.see(defect(100, 100)), line.see(), line.see()
    assert line.phases() == ["open"]
    (close,) = line.see()
    assert (close.phase, close.verdict, close.reason, close.frames) == ("close", "ng", "gone", 2)


def test_updates_are_rate_limited() -> None:
    line = Line(on_frames=1, update_every_s=1.0)
    for _ in range(26):
        line.see(defect(100, 100))
    assert line.phases() == ["open"] + ["update"] * 5


def test_a_rise_in_severity_is_told_at_once() -> None:
    line = Line(on_frames=1, update_every_s=60)
    line.see(defect(100, 100, peak=1.2)), line.see(defect(100, 100, peak=2.6))
    assert [(d.phase, d.severity) for d in line.decisions] == [("open", "minor"), ("update", "critical")]


def test_a_close_tells_the_worst() -> None:
    line = Line(on_frames=1, off_frames=1, update_every_s=60)
    line.see(defect(100, 100, peak=2.0)), line.see(defect(100, 100, peak=1.1)), line.see()
    assert line.decisions[-1].score_ratio == 2.0
    assert line.decisions[-1].severity == "major"


def test_a_defect_that_moves_with_its_part_stays_one_incident() -> None:
    line = Line(on_frames=2, off_frames=2)
    for step in range(10):
        line.see(defect(20 + 55 * step, 200))
    assert line.phases().count("open") == 1
    assert line.phases().count("close") == 0


def test_two_defects_on_one_part_are_two_incidents() -> None:
    line = Line(on_frames=2, off_frames=2)
    for step in range(8):
        line.see(defect(20 + 30 * step, 50), defect(60 + 30 * step, 330))
    assert len({d.defect_id for d in line.decisions}) == 2


def test_a_scratch_that_falls_into_pieces_is_one_incident() -> None:
    line = Line(on_frames=1, off_frames=2)
    line.see(defect(100, 100, 60)), line.see(defect(100, 100, 20), defect(130, 130, 20))
    line.see(defect(100, 100, 60))
    assert len({d.defect_id for d in line.decisions}) == 1


def test_a_far_defect_is_another_incident() -> None:
    line = Line(on_frames=1, off_frames=2)
    line.see(defect(20, 20)), line.see(defect(560, 420))
    assert line.phases() == ["open", "open"]


def test_the_next_part_ends_the_incident_of_the_last() -> None:
    line = Line(on_frames=1)
    line.see(defect(100, 100), part_id="a"), line.see(defect(100, 100), part_id="b")
    assert [(d.phase, d.part_id) for d in line.decisions] == [("open", "a"), ("close", "a"), ("open", "b")]


def test_a_camera_that_goes_down_closes_its_incidents_as_unknown() -> None:
    line = Line(on_frames=1)
    line.see(defect(100, 100))
    (close,) = line.incidents.end("camera down", 9.0)
    assert (close.phase, close.verdict, close.reason) == ("close", "unknown", "camera down")
    assert line.incidents.end("camera down", 9.0) == []


def test_an_incident_that_nothing_is_seen_of_any_more_ends() -> None:
    line = Line(on_frames=1, silent_s=30.0)
    line.see(defect(100, 100))
    assert line.incidents.tick(20.0) == []
    assert [d.verdict for d in line.incidents.tick(31.0)] == ["unknown"]
    assert line.incidents.open_ids == ()


def test_a_close_tells_the_worst_by_the_level_that_it_was_measured_by() -> None:
    line = Line(on_frames=1, off_frames=1)
    line.see(defect(100, 100, peak=3.0))
    line.seq += 1
    higher = replace(MODEL, threshold=4.0)
    moved = replace(inspection(line.seq, defect(100, 100, peak=1.1)), model=higher)
    line.incidents.update(moved, line.seq / 5)
    (closed,) = line.see()
    assert (closed.phase, closed.score_ratio, closed.model) == ("close", 3.0, MODEL)


def test_what_stood_on_a_part_stays_a_defect_when_no_further_part_comes() -> None:
    line = Line(on_frames=1, silent_s=30.0)
    line.see(defect(100, 100), part_id="p1")
    assert [(d.verdict, d.reason) for d in line.incidents.tick(31.0)] == [("ng", "no inspections")]


def test_the_cool_down_keeps_the_same_place_quiet_and_counts() -> None:
    line = Line(on_frames=1, off_frames=1, cooldown_s=1.0)
    line.see(defect(100, 100)), line.see(), line.see(defect(100, 100)), line.see(defect(500, 300))
    assert line.phases() == ["open", "close", "open"]
    assert line.incidents.suppressed == 1
    for _ in range(5):
        line.see(defect(100, 100))
    assert line.phases().count("open") == 3


def test_beyond_max_open_defects_are_counted() -> None:
    line = Line(on_frames=1, max_open=2)
    line.see(defect(0, 0), defect(300, 0), defect(0, 300))
    assert len(line.incidents.open_ids) == 2
    assert line.incidents.overflowed == 1


def test_severity_is_by_ratio_or_by_area() -> None:
    policy = IncidentPolicy(major_from_area_px=500, critical_from_area_px=5000)
    assert [severity(1.1, 100, policy), severity(1.6, 100, policy), severity(2.5, 100, policy)] == [0, 1, 2]
    assert [severity(1.1, 500, policy), severity(1.1, 5000, policy)] == [1, 2]


# -- whatever the line does ------------------------------------------------------------------------

DEFECTS = st.lists(
    st.builds(defect, st.integers(0, 590), st.integers(0, 430), st.integers(2, 50), st.floats(1.0, 9.0)),
    max_size=5,
)
WHAT = st.sampled_from(["see"] * 8 + ["end", "tick", "retune"])
STEP = st.tuples(DEFECTS, st.sampled_from([None, None, "a", "b"]), WHAT)
STEPS = st.lists(STEP, max_size=40)
POLICY = st.fixed_dictionaries(
    {
        "on_frames": st.integers(1, 3),
        "off_frames": st.integers(1, 4),
        "cooldown_s": st.sampled_from([0.0, 0.7]),
        "update_every_s": st.sampled_from([0.0, 0.5, 3.0]),
        "max_open": st.integers(1, 6),
    }
)
AGAIN = settings(max_examples=150, derandomize=True, deadline=None)
SILENT_S = 5.0


def play(steps: Sequence[tuple[list[Defect], str | None, str]], policy: dict[str, Any]) -> Line:
    line = Line(**policy, silent_s=SILENT_S)
    for defects, part, what in steps:
        if what == "see":
            line.see(*defects, part_id=part)
        elif what == "end":
            line.decisions += line.incidents.end("camera down", line.seq / 5)
        elif what == "tick":
            line.seq += 40
            line.decisions += line.incidents.tick(line.seq / 5)
        else:
            line.incidents.policy = IncidentPolicy(silent_s=SILENT_S)  # the config file was changed
    return line


@AGAIN
@given(STEPS, POLICY)
def test_every_open_is_closed_once_and_nothing_else_is(steps: Any, policy: dict[str, Any]) -> None:
    line = play(steps, policy)
    line.decisions += line.incidents.end("stopped", line.seq / 5)
    check_life_cycles(line.decisions)


@AGAIN
@given(STEPS, POLICY)
def test_no_incident_outlives_the_sight_of_it(steps: Any, policy: dict[str, Any]) -> None:
    """Nobody ends them: good pictures do, or that there are none."""
    line = play(steps, policy)
    gone = line.incidents.policy.off_frames
    for _ in range(gone):
        line.see()
    assert line.incidents.open_ids == ()
    check_life_cycles(line.decisions)
    line = play(steps, policy)
    line.decisions += line.incidents.tick(line.seq / 5 + SILENT_S + 0.1)
    assert line.incidents.open_ids == ()
    check_life_cycles(line.decisions)


@AGAIN
@given(STEPS, POLICY)
def test_what_waits_is_bounded_by_max_open(steps: Any, policy: dict[str, Any]) -> None:
    line = Line(**policy)
    for defects, part, _ in steps:
        line.see(*defects, part_id=part)
        assert len(line.incidents._all) <= policy["max_open"]


@AGAIN
@given(STEPS, POLICY)
def test_updates_of_one_incident_keep_their_distance_unless_it_got_graver(
    steps: Any, policy: dict[str, Any]
) -> None:
    line = Line(**policy)
    said: dict[str, tuple[float, str]] = {}
    for defects, part, _ in steps:
        for d in line.see(*defects, part_id=part):
            now = line.seq / 5
            if d.phase == "update":
                at, severity_then = said[d.defect_id]
                graver = SEVERITIES.index(d.severity) > SEVERITIES.index(severity_then)
                assert graver or now - at >= policy["update_every_s"] - 1e-9
            if d.phase != "close":
                said[d.defect_id] = now, d.severity


@AGAIN
@given(
    st.integers(0, 150),
    st.integers(0, 430),
    st.floats(-60, 60),
    st.floats(-40, 40),
    st.lists(st.integers(-4, 4), min_size=12, max_size=12),
    st.sets(st.integers(3, 10), max_size=3),
)
def test_a_part_that_moves_is_one_incident_although_it_is_missed_now_and_then(
    x: int, y: int, vx: float, vy: float, shake: list[int], missed: set[int]
) -> None:
    """Up to 60 px a frame, which is more than the defect is long, and not quite evenly."""
    line = Line(on_frames=2, off_frames=5)
    for k in range(12):
        at_x, at_y = int(x + vx * k) + shake[k], int(y + vy * k) + shake[-k]
        line.see(*([] if k in missed else [defect(at_x, at_y)]))
    assert [d.phase for d in line.decisions if d.phase != "update"] == ["open"]


@AGAIN
@given(st.lists(st.booleans(), max_size=40), st.integers(1, 3), st.integers(1, 4))
def test_it_opens_after_on_frames_in_a_row_and_closes_after_off_frames_without(
    seen: list[bool], on: int, off: int
) -> None:
    line = Line(on_frames=on, off_frames=off, update_every_s=1e9)
    is_open, row = False, 0
    for here in seen:
        row = row + 1 if here == (not is_open) else 0  # frames in a row that speak against what is
        turned = row == (off if is_open else on)
        decisions = line.see(*([defect(100, 100)] if here else []))
        assert [d.phase for d in decisions] == ((["close"] if is_open else ["open"]) if turned else [])
        if turned:
            is_open, row = not is_open, 0


def check_life_cycles(decisions: Sequence[Decision]) -> None:
    alive: set[str] = set()
    ended: set[str] = set()
    for d in decisions:
        if d.phase == "open":
            assert d.defect_id not in alive | ended
            alive.add(d.defect_id)
        else:
            assert d.defect_id in alive
        if d.phase == "close":
            alive.remove(d.defect_id)
            ended.add(d.defect_id)
        assert d.regions and d.score_ratio >= 1.0
    assert not alive
