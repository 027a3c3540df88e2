"""Part triggers of one camera: which frame answers which part, and the one verdict. Pure: times come in.

The frame that belongs to a trigger is the nearest one that was taken at or after `at`, and at most
`frame_within_s` later. A short ring of recent frames serves a trigger that comes a little after its picture;
a trigger that comes first waits. What belongs to a trigger is handed out once, as a copy with its `part_id`,
and comes back as an inspection or as dropped. A trigger may also bring its picture along. Whatever happens,
each trigger gets exactly one answer:

ok, ng           what was found in its frame
unknown          camera down · camera frozen · camera disabled · no model · no frame (none was taken in time)
                 · late (the trigger came after its picture was let go, or no answer in time) · early (its
                 time is still to come when its answer is due: a clock is wrong) · overloaded
                 · device failed · not triggered (the camera is not in `every` mode) · camera removed
                 · stopped

A second trigger with the part id of one that waits, or that was answered less than `same_part_s` ago, is the
same one sent again: it gets no answer of its own. So is, however much later, one that has the sender's `id`
of before, too: a write whose reply got lost, and that was repeated.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Literal

from engine.core import Frame, Inspection

from .condition import State
from .consumer import Seen
from .drafts import Part
from .events import Verdict

Why = Literal[
    "camera down",
    "camera frozen",
    "camera disabled",
    "no model",
    "no frame",
    "late",
    "early",
    "overloaded",
    "device failed",
    "not triggered",
    "camera removed",
    "stopped",
]

# What a camera in this state can't give; `connecting` may become live in time.
_ABSENT: dict[State, Why] = {"down": "camera down", "refused": "camera down", "frozen": "camera frozen"}
# The engine's reasons for a frame that was not inspected; the rest is a device that failed.
_DROPPED: dict[str, Why] = {
    "refused": "overloaded",
    "displaced": "overloaded",
    "late": "late",
    "no_model": "no model",
    "removed": "no model",
    "stopped": "stopped",
}
# Pictures of one camera come in order; one that is dated so much back was dated by a clock that was set. Time
# services set one by a fraction of a second, too; jitter is less than this.
_CLOCK_SET_S = 0.05
# Answered part ids of one camera that are remembered, at most; and ids of senders, with no limit of time.
_REMEMBERED, _IDS_REMEMBERED = 10_000, 4096


@dataclass(frozen=True, slots=True)
class TriggerPolicy:
    """Seconds and sizes. `answer_within_s` counts from when the trigger was read, `keep_s` and `keep_bytes`
    bound the ring of recent frames (never fewer than one frame).
    """

    answer_within_s: float = 0.95
    frame_within_s: float = 0.2
    max_waiting: int = 32
    keep_s: float = 1.0
    keep_bytes: int = 64 << 20
    same_part_s: float = 10.0


@dataclass(frozen=True, slots=True)
class Trigger:
    """One part to look at. `at` and `read_at` are UTC seconds; `entry` is the stream entry that asked, `id`
    its sender's name for it, the same when it is sent again.
    """

    part: Part
    at: float
    read_at: float
    entry: str = ""
    id: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """The one verdict on a trigger; `why` only where it is unknown."""

    trigger: Trigger
    verdict: Verdict
    why: Why | None = None
    inspection: Inspection | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """What follows: frames to inspect, each with its part's id, and answers. `again`: sent before."""

    inspect: tuple[Frame, ...] = ()
    answers: tuple[Answer, ...] = ()
    again: bool = False


@dataclass(slots=True)
class _Waiting:
    """`seq` is the frame that was handed out for it; None while none was found."""

    trigger: Trigger
    until: float
    seq: int | None = None


@dataclass(frozen=True, slots=True)
class _Kept:
    """`gap`: frames between the one before and this one got lost on their way to us."""

    frame: Frame
    gap: bool


class Triggers:
    """The triggers of one camera. `now` is `time.monotonic()` seconds throughout, and never goes back."""

    def __init__(self, policy: TriggerPolicy) -> None:
        self.policy = policy
        self._waiting: dict[str, _Waiting] = {}
        self._answered: dict[str, float] = {}
        self._known = Seen(_IDS_REMEMBERED)
        self._ring: deque[_Kept] = deque()
        self._ring_bytes = 0
        self._let_go = float("-inf")
        self._last_seq = 0
        self._state: State = "connecting"

    def __len__(self) -> int:
        return len(self._waiting)

    # -- what comes in -------------------------------------------------------------------------------

    def add(
        self, trigger: Trigger, now: float, picture: Frame | None = None, read_tick: float | None = None
    ) -> Outcome:
        """A trigger was read, at `read_tick` where that was before `now`; `picture` came with it, and decides
        whatever the camera shows.
        """
        if self._is_again(trigger, now):
            return Outcome(again=True)
        part_id = trigger.part.part_id
        if len(self._waiting) >= self.policy.max_waiting:
            return self._at_once(trigger, "overloaded", now)
        since = now if read_tick is None else read_tick  # to decode its picture takes a while
        self._waiting[part_id] = _Waiting(trigger, since + self.policy.answer_within_s)
        if picture is not None:
            self._waiting[part_id].seq = picture.seq
            return Outcome(inspect=(picture,))
        kept = self._kept_for(trigger)
        if kept is not None:
            return self._claim(self._waiting[part_id], kept, now)
        why = self._hopeless(trigger)
        return Outcome() if why is None else self._end([part_id], why, now)

    def refuse(self, trigger: Trigger, why: Why, now: float) -> Outcome:
        """A trigger was read that can't be served, for a reason that is known outside."""
        if self._is_again(trigger, now):
            return Outcome(again=True)
        return self._at_once(trigger, why, now)

    def frame(self, frame: Frame, now: float) -> Outcome:
        """The camera's next frame: it belongs to every trigger that waits for one, or to none."""
        kept = _Kept(frame, gap=frame.seq != self._last_seq + 1)
        self._last_seq = frame.seq
        newest = self._ring[-1].frame.taken_at if self._ring else self._let_go
        if frame.taken_at < newest - _CLOCK_SET_S:
            # Times of before say nothing any more: by them every new trigger would come too late.
            self.let_go()
            self._let_go = frame.taken_at
        self._keep(kept, now)
        outcomes = []
        for waiting in [w for w in self._waiting.values() if w.seq is None]:
            late_s = frame.taken_at - waiting.trigger.at
            if 0.0 <= late_s <= self.policy.frame_within_s:
                outcomes.append(self._claim(waiting, kept, now))
            elif late_s > 0.0:
                why: Why = "overloaded" if kept.gap else "no frame"
                outcomes.append(self._end([waiting.trigger.part.part_id], why, now))
        return _joined(outcomes)

    def answer(self, inspection: Inspection, now: float) -> Outcome:
        """A frame that was handed out has been inspected. Nothing, where that came too late."""
        frame = inspection.frame
        if not self._asked_for(frame):
            return Outcome()
        return self._done(frame.part_id or "", "ng" if inspection.defects else "ok", None, inspection, now)

    def dropped(self, frame: Frame, reason: str, now: float) -> Outcome:
        """A frame that was handed out will not be inspected; `reason` is the engine's."""
        if not self._asked_for(frame):
            return Outcome()
        return self._end([frame.part_id or ""], _DROPPED.get(reason, "device failed"), now)

    def camera(self, state: State, now: float) -> Outcome:
        """The camera's state changed. What was handed out already is still answered by its frame."""
        self._state = state
        why = _ABSENT.get(state)
        return Outcome() if why is None else self._end(self._unserved(), why, now)

    def tick(self, now: float) -> Outcome:
        """Answers what is due; call it at `due_at`."""
        due = [part_id for part_id, w in self._waiting.items() if w.until <= now]
        none: Why = "no frame" if self._state == "live" else "camera down"
        return _joined(
            self._end([part_id], none if self._waiting[part_id].seq is None else "late", now)
            for part_id in due
        )

    def end(self, why: Why, now: float, *, with_picture: bool = True) -> Outcome:
        """Answers everything that waits, or only what has no picture yet."""
        return self._end(list(self._waiting) if with_picture else self._unserved(), why, now)

    def let_go(self) -> None:
        """Forget the recent frames: no trigger will ask for them."""
        while self._ring:
            self._let_go = max(self._let_go, self._ring.popleft().frame.taken_at)
        self._ring_bytes = 0

    def due_at(self) -> float | None:
        """When the next answer is due; None with nothing waiting."""
        return min((w.until for w in self._waiting.values()), default=None)

    def remember(self, part_id: str, now: float, trigger_id: str = "") -> None:
        """This part was answered at `now`, by an earlier run. Told of several, the oldest first."""
        self._answered.pop(part_id, None)  # one that was answered twice stands where its last answer does
        self._answered[part_id] = now
        self._note(part_id, trigger_id)

    # -- which were sent before ----------------------------------------------------------------------

    def _is_again(self, trigger: Trigger, now: float) -> bool:
        """A sender may use an id twice by mistake, as one that counts from 1 again: not for the same part."""
        self._forget(now)
        part_id = trigger.part.part_id
        answered_at = self._answered.get(part_id, float("-inf"))
        lately = part_id in self._waiting or now - answered_at < self.policy.same_part_s
        return self._note(part_id, trigger.id) or lately

    def _note(self, part_id: str, trigger_id: str) -> bool:
        """True where both were noted before."""
        both = f"{part_id}\n{trigger_id}"
        known = both in self._known
        if trigger_id and not known:
            self._known.add(both)
        return known

    # -- which frame ---------------------------------------------------------------------------------

    def _kept_for(self, trigger: Trigger) -> _Kept | None:
        """The nearest frame in the ring, if it is certain that no nearer one was let go."""
        if trigger.at <= self._let_go:
            return None
        last = trigger.at + self.policy.frame_within_s
        inside = [kept for kept in self._ring if trigger.at <= kept.frame.taken_at <= last]
        return min(inside, key=lambda kept: kept.frame.taken_at, default=None)

    def _hopeless(self, trigger: Trigger) -> Why | None:
        """Why no frame can come any more for a trigger that none in the ring belongs to."""
        age_s = trigger.read_at - trigger.at
        if trigger.at <= self._let_go or age_s > self.policy.keep_s + self.policy.answer_within_s:
            return "late"
        if -age_s > self.policy.answer_within_s:
            return "early"
        newest = self._ring[-1].frame.taken_at if self._ring else float("-inf")
        if newest > trigger.at + self.policy.frame_within_s:
            return "no frame"
        return _ABSENT.get(self._state)

    def _claim(self, waiting: _Waiting, kept: _Kept, now: float) -> Outcome:
        part_id = waiting.trigger.part.part_id
        if kept.gap:
            # The nearest frame may be among those that got lost: better no answer than another part's.
            return self._end([part_id], "overloaded", now)
        if self._state == "frozen":
            return self._end([part_id], "camera frozen", now)
        waiting.seq = kept.frame.seq
        return Outcome(inspect=(replace(kept.frame, part_id=part_id),))

    def _keep(self, kept: _Kept, now: float) -> None:
        self._ring.append(kept)
        self._ring_bytes += kept.frame.pixels.nbytes
        while len(self._ring) > 1 and self._too_much(now):
            gone = self._ring.popleft().frame
            self._ring_bytes -= gone.pixels.nbytes
            self._let_go = max(self._let_go, gone.taken_at)

    def _too_much(self, now: float) -> bool:
        old = now - self._ring[0].frame.tick > self.policy.keep_s
        return old or self._ring_bytes > self.policy.keep_bytes

    # -- what comes out ------------------------------------------------------------------------------

    def _asked_for(self, frame: Frame) -> bool:
        waiting = self._waiting.get(frame.part_id or "")
        return waiting is not None and waiting.seq == frame.seq

    def _unserved(self) -> list[str]:
        return [part_id for part_id, w in self._waiting.items() if w.seq is None]

    def _at_once(self, trigger: Trigger, why: Why, now: float) -> Outcome:
        self._answered[trigger.part.part_id] = now
        return Outcome(answers=(Answer(trigger, "unknown", why),))

    def _end(self, part_ids: Iterable[str], why: Why, now: float) -> Outcome:
        return _joined([self._done(part_id, "unknown", why, None, now) for part_id in part_ids])

    def _done(
        self, part_id: str, verdict: Verdict, why: Why | None, inspection: Inspection | None, now: float
    ) -> Outcome:
        trigger = self._waiting.pop(part_id).trigger
        self._answered[part_id] = now
        return Outcome(answers=(Answer(trigger, verdict, why, inspection),))

    def _forget(self, now: float) -> None:
        """Answered parts stand in the order of their answers: the oldest first."""
        while self._answered:
            part_id = next(iter(self._answered))
            if now - self._answered[part_id] < self.policy.same_part_s and len(self._answered) <= _REMEMBERED:
                return
            del self._answered[part_id]


def _joined(outcomes: Iterable[Outcome]) -> Outcome:
    every = list(outcomes)
    return Outcome(
        tuple(frame for outcome in every for frame in outcome.inspect),
        tuple(answer for outcome in every for answer in outcome.answers),
    )
