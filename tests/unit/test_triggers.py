"""Every trigger gets one verdict, by the frame that belongs to it, whatever happens."""

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Defect, Frame, Inspection, ModelInfo
from stream.condition import State
from stream.drafts import Part
from stream.triggers import Answer, Outcome, Trigger, TriggerPolicy, Triggers

PIXELS = np.zeros((48, 64, 3), np.uint8)
MODEL = ModelInfo("top", 1, "0" * 64, threshold=2.0, median=1.0)
DEFECT = Defect((4, 4, 20, 20), 256, 1.4, 1.1, (12.0, 12.0))
UTC = 1_700_000_000.0


def inspection(frame: Frame, *defects: Defect) -> Inspection:
    return Inspection(frame, 1.5, 0.5, defects, np.zeros((4, 4), np.float32), MODEL)


@dataclass
class Station:
    """One camera that takes a picture whenever told, and a clock: `now` is seconds since it began."""

    policy: TriggerPolicy = field(default_factory=TriggerPolicy)
    now: float = 0.0
    seq: int = 0
    parts: int = 0
    asked: dict[str, Frame] = field(default_factory=dict)
    answers: list[Answer] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.triggers = Triggers(self.policy)
        self.triggers.camera("live", 0.0)

    def took(self, outcome: Outcome) -> Outcome:
        self.answers += outcome.answers
        for frame in outcome.inspect:
            assert frame.part_id is not None and frame.part_id not in self.asked
            self.asked[frame.part_id] = frame
        return outcome

    def trigger(self, part_id: str = "", ago_s: float = 0.0) -> Outcome:
        self.parts += 1
        trigger = Trigger(Part(part_id or f"p{self.parts}"), UTC + self.now - ago_s, UTC + self.now)
        return self.took(self.triggers.add(trigger, self.now))

    def picture(self, lost: int = 0) -> Outcome:
        self.seq += 1 + lost
        return self.took(
            self.triggers.frame(Frame("top", self.seq, UTC + self.now, self.now, PIXELS), self.now)
        )

    def inspected(self, part_id: str, *defects: Defect) -> Outcome:
        return self.took(self.triggers.answer(inspection(self.asked[part_id], *defects), self.now))

    def dropped(self, part_id: str, reason: str) -> Outcome:
        return self.took(self.triggers.dropped(self.asked[part_id], reason, self.now))

    def camera(self, state: State) -> Outcome:
        return self.took(self.triggers.camera(state, self.now))

    def wait(self, seconds: float) -> Outcome:
        self.now += seconds
        return self.took(self.triggers.tick(self.now))

    def said(self) -> list[tuple[str, str, str | None]]:
        return [(a.trigger.part.part_id, a.verdict, a.why) for a in self.answers]


def test_the_first_frame_after_the_trigger_decides() -> None:
    line = Station()
    line.picture(), line.wait(0.05), line.trigger("a"), line.wait(0.05), line.picture(), line.picture()
    assert line.asked["a"].seq == 2 and line.asked["a"].part_id == "a"
    line.inspected("a", DEFECT)
    assert line.said() == [("a", "ng", None)]


def test_a_trigger_that_comes_after_its_picture_finds_it_in_the_ring() -> None:
    line = Station()
    for _ in range(5):
        line.picture(), line.wait(0.1)
    line.trigger("a", ago_s=0.35)
    assert line.asked["a"].taken_at == UTC + 0.2
    line.inspected("a")
    assert line.said() == [("a", "ok", None)]


def test_a_picture_that_was_let_go_is_not_replaced_by_a_later_one() -> None:
    line = Station(TriggerPolicy(keep_bytes=PIXELS.nbytes))
    line.picture(), line.wait(0.1), line.picture()
    line.trigger("a", ago_s=0.1)
    assert line.said() == [("a", "unknown", "late")]


def test_a_trigger_from_long_ago_is_late_at_once() -> None:
    line = Station()
    line.picture()
    line.trigger("a", ago_s=3600)
    assert line.said() == [("a", "unknown", "late")]


def test_no_frame_within_the_limit_is_said_when_the_next_one_comes() -> None:
    line = Station()
    line.trigger("a"), line.wait(0.3), line.picture()
    assert line.said() == [("a", "unknown", "no frame")]


def test_no_frame_at_all_is_said_in_time() -> None:
    line = Station()
    line.trigger("a")
    assert line.triggers.due_at() == 0.95
    line.wait(0.95)
    assert line.said() == [("a", "unknown", "no frame")]


def test_an_inspection_that_takes_too_long_is_late_and_says_nothing_afterwards() -> None:
    line = Station()
    line.trigger("a"), line.picture(), line.wait(1.0)
    line.inspected("a", DEFECT)
    assert line.said() == [("a", "unknown", "late")]


def test_the_time_to_decode_its_picture_is_no_further_time_for_the_answer() -> None:
    line = Station(now=10.0)
    picture = Frame("top", -1, UTC + 9.5, 9.5, PIXELS, part_id="a")
    line.took(line.triggers.add(Trigger(Part("a"), UTC + 9.5, UTC + 9.5), 10.0, picture, 9.5))
    assert line.triggers.due_at() == pytest.approx(9.5 + line.policy.answer_within_s)
    line.wait(0.45)
    assert line.said() == [("a", "unknown", "late")]


def test_a_full_line_is_overloaded_at_once() -> None:
    line = Station(TriggerPolicy(max_waiting=2))
    line.trigger("a"), line.trigger("b"), line.trigger("c")
    assert line.said() == [("c", "unknown", "overloaded")]


def test_a_part_that_is_triggered_again_is_answered_once() -> None:
    line = Station()
    line.trigger("a"), line.trigger("a"), line.picture(), line.inspected("a")
    assert line.trigger("a").again
    assert line.said() == [("a", "ok", None)]


def test_after_a_while_the_same_part_id_is_another_part() -> None:
    line = Station()
    line.trigger("a"), line.picture(), line.inspected("a"), line.wait(10.0)
    line.asked.clear()
    line.trigger("a"), line.picture(), line.inspected("a", DEFECT)
    assert line.said() == [("a", "ok", None), ("a", "ng", None)]


def test_a_trigger_that_is_sent_again_under_its_id_is_answered_once_however_late() -> None:
    """A bridge whose broker was away for so long asked again: the part got the verdict of another picture."""
    line = Station()

    def sent(part_id: str, name: str) -> Outcome:
        trigger = Trigger(Part(part_id), UTC + line.now, UTC + line.now, id=name)
        return line.took(line.triggers.add(trigger, line.now))

    sent("a", "7"), line.picture(), line.inspected("a"), line.wait(3600.0)
    assert sent("a", "7").again
    line.asked.clear()
    assert not sent("b", "7").again, "one that counts from 1 again means another part"
    line.picture(), line.wait(3600.0)
    assert not sent("a", "8").again, "a carrier that comes round"
    assert line.triggers.refuse(Trigger(Part("b"), UTC, UTC, id="7"), "no model", line.now).again
    assert line.said() == [("a", "ok", None), ("b", "unknown", "late")]


def test_a_part_answered_before_a_restart_is_not_answered_again() -> None:
    line = Station()
    line.triggers.remember("a", -3.0)
    assert line.trigger("a").again


def test_of_an_earlier_run_only_what_it_answered_lately_counts_as_the_same_part() -> None:
    line = Station()
    line.triggers.remember("carrier-1", -40.0), line.triggers.remember("carrier-2", -20.0)
    line.triggers.remember("carrier-1", -5.0)
    assert not line.trigger("carrier-2").again
    assert line.trigger("carrier-1").again


def test_a_camera_that_goes_down_answers_at_once_and_what_is_inspected_is_still_told() -> None:
    line = Station()
    line.trigger("a"), line.picture(), line.trigger("b", ago_s=-0.01)
    line.camera("down")
    line.trigger("c", ago_s=-0.01)
    line.inspected("a")
    assert line.said() == [
        ("b", "unknown", "camera down"),
        ("c", "unknown", "camera down"),
        ("a", "ok", None),
    ]


def test_a_frozen_camera_decides_nothing() -> None:
    line = Station()
    line.camera("frozen"), line.trigger("a"), line.picture()
    assert line.said() == [("a", "unknown", "camera frozen")]


def test_a_camera_that_is_connecting_may_still_come_in_time() -> None:
    line = Station()
    line.camera("connecting"), line.trigger("a"), line.wait(0.1), line.picture(), line.inspected("a")
    line.trigger("b", ago_s=-0.01), line.wait(1.0)
    assert line.said() == [("a", "ok", None), ("b", "unknown", "camera down")]


def test_a_frame_lost_on_the_way_is_not_mistaken_for_the_next() -> None:
    line = Station()
    line.picture(), line.wait(0.05), line.trigger("a"), line.wait(0.05), line.picture(lost=1)
    assert line.said() == [("a", "unknown", "overloaded")]


def test_what_the_engine_does_not_inspect_is_unknown_with_its_reason() -> None:
    line = Station()
    for reason in ("refused", "no_model", "failed"):
        line.trigger(reason), line.wait(0.01), line.picture(), line.dropped(reason, reason)
    assert [why for _, _, why in line.said()] == ["overloaded", "no model", "device failed"]


def test_two_parts_in_one_picture_are_two_verdicts() -> None:
    line = Station()
    line.trigger("a"), line.trigger("b"), line.picture()
    line.inspected("b", DEFECT), line.inspected("a")
    assert line.said() == [("b", "ng", None), ("a", "ok", None)]


def test_at_the_end_nothing_is_left_waiting() -> None:
    line = Station()
    line.trigger("a"), line.picture(), line.trigger("b", ago_s=-0.01)
    line.took(line.triggers.end("stopped", line.now))
    assert [why for _, _, why in line.said()] == ["stopped", "stopped"]
    assert len(line.triggers) == 0 and line.triggers.due_at() is None


_STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("trigger"), st.floats(-0.3, 2.5)),
        st.tuples(st.just("same"), st.integers(1, 6)),
        st.tuples(st.just("picture"), st.sampled_from([0, 0, 0, 1])),
        st.tuples(st.just("inspected"), st.booleans()),
        st.tuples(st.just("dropped"), st.sampled_from(["refused", "no_model", "failed", "stopped"])),
        st.tuples(st.just("camera"), st.sampled_from(["live", "connecting", "down", "frozen", "refused"])),
        st.tuples(st.just("wait"), st.floats(0.0, 0.4)),
    ),
    max_size=40,
)


@settings(derandomize=True, max_examples=250, deadline=None)
@given(_STEPS, st.integers(1, 5), st.integers(1, 8))
def test_every_trigger_gets_one_verdict_in_time_and_by_its_own_frame(
    steps: list[tuple[str, float]], max_waiting: int, kept: int
) -> None:
    line = Station(TriggerPolicy(max_waiting=max_waiting, keep_bytes=kept * PIXELS.nbytes, same_part_s=1e3))
    taken: list[float] = []
    accepted: dict[str, float] = {}
    for step in steps:
        _play(line, step, accepted, taken)
        assert len(line.triggers) <= max_waiting
        told = {a.trigger.part.part_id for a in line.answers}
        assert all(line.now - at < 0.95 for part, at in accepted.items() if part not in told)
    line.wait(0.95)
    assert Counter(a.trigger.part.part_id for a in line.answers) == Counter(list(accepted))
    for answer in line.answers:
        assert (answer.why is None) == (answer.verdict != "unknown")
        if answer.inspection is not None:
            frame, at = answer.inspection.frame, answer.trigger.at
            assert frame.part_id == answer.trigger.part.part_id
            assert frame.taken_at == min(t for t in taken if t >= at) <= at + 0.2


def _play(line: Station, step: tuple[str, float], accepted: dict[str, float], taken: list[float]) -> None:
    what, value = step
    match what:
        case "trigger" | "same":
            before = line.now
            outcome = line.trigger(
                f"same-{value}" if what == "same" else "", 0.0 if what == "same" else value
            )
            if not outcome.again:
                accepted[f"same-{value}" if what == "same" else f"p{line.parts}"] = before
        case "picture":
            line.wait(0.001)
            # A picture that got lost on the way was taken all the same.
            taken += [UTC + line.now - 0.0005] * int(value) + [UTC + line.now]
            line.picture(int(value))
        case "inspected" | "dropped" if line.asked:
            part = sorted(line.asked)[0]
            defects = (DEFECT,) if value is True else ()
            line.inspected(part, *defects) if what == "inspected" else line.dropped(part, str(value))
            del line.asked[part]
        case "camera":
            line.camera(value)  # type: ignore[arg-type]
        case "wait":
            line.wait(value)


@pytest.mark.parametrize("by_s", [60.0, 0.5, 0.25])
def test_after_the_clock_was_set_back_triggers_are_served_at_once(by_s: float) -> None:
    """By half a second, too, as time services do: a picture of before would be taken for the part's."""
    station = Station()
    for _ in range(30):
        station.wait(0.1), station.picture()
    ticks = station.now + 0.1
    station.now = ticks - by_s
    station.seq += 1
    frame = Frame("top", station.seq, UTC + station.now, ticks, PIXELS)
    station.took(station.triggers.frame(frame, ticks))
    trigger = Trigger(Part("after"), UTC + station.now + 0.05, UTC + station.now + 0.05)
    assert station.triggers.add(trigger, ticks + 0.05).answers == ()
    station.seq += 1
    frame = Frame("top", station.seq, UTC + station.now + 0.1, ticks + 0.1, PIXELS)
    (asked,) = station.triggers.frame(frame, ticks + 0.1).inspect
    assert (asked.seq, asked.part_id) == (station.seq, "after")
    # Which picture of before was nearer nobody can say.
    early = Trigger(Part("early"), UTC + station.now - 0.05, UTC + station.now + 0.1)
    (answer,) = station.triggers.add(early, ticks + 0.1).answers
    assert (answer.verdict, answer.why) == ("unknown", "late")


def test_a_trigger_that_a_wrong_clock_dates_ahead_says_so_at_once() -> None:
    """`no frame` sent people to the camera."""
    station = Station()
    station.picture()
    station.trigger("soon", ago_s=-0.5)
    station.trigger("ahead", ago_s=-3600.0)
    assert station.said() == [("ahead", "unknown", "early")]
