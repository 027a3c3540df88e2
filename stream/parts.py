"""Parts of all cameras: triggers and frames in, verdicts into the record.

A camera in `every` mode whose line sends no triggers has every picture inspected, as each may be a part. Its
first trigger changes that: from then on a picture is inspected if it belongs to a trigger, and the others
are only shown. So a fast camera costs the device one frame a part, and a burst of parts finds its places
free. Pictures that belong to nobody yet wait in a short ring (stream/triggers.py), by which a trigger may
come up to `verdict_within_ms` after its picture.

Everything happens on the event loop; only `holds` and `dropped` are called by other threads, and hand over.
`run` is one task.
"""

import asyncio
import contextlib
import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial

from config.services import PartsSettings, TriggersSettings
from config.settings import CameraSettings
from engine.core import Frame, Inspection

from .asked import parse_trigger
from .condition import CameraState
from .events import Event
from .handover import Handover
from .inbox import Malformed
from .recorder import Recorder
from .sources.folder import decode
from .triggers import Answer, Outcome, Trigger, TriggerPolicy, Triggers, Why
from .web.view import Result

log = logging.getLogger(__name__)

# Frames of one camera, and dropped frames of all, that may wait for the event loop.
_FRAMES, _DROPPED = 16, 256
# The last part's picture stays on the page so long before the live picture comes back.
_RESULT_SHOWN_S = 2.0
_LOOK_S = 1.0
_REFUSED_SAID_EVERY_S = 60.0
# Over a weekend and some days; later a restart may mean that nobody triggers any more.
_STAYS_TRIGGERED_S = 7 * 86_400.0
_MAX_PICTURE_BYTES = 32 << 20
_MIN_PICTURE_PX = 16  # a placeholder of a pixel has no room for a defect: it would always be ok


@dataclass(slots=True)
class _Station:
    """One camera of the line, as far as parts go. `configured`: enabled by the config file; `enabled`: by
    commands too. `refused`: untriggered pictures for which there was no place, since that was last said.
    """

    triggers: Triggers
    frames: Handover[Frame]
    takes_triggers: bool
    configured: bool
    is_triggered: bool = False
    enabled: bool = field(init=False)
    shown_until: float = 0.0
    refused: int = 0
    refused_said_at: float = float("-inf")
    verdicts: Counter[Result] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.enabled = self.configured


class Parts:
    """`offer` is the engine's, `has_model` says whether a camera is inspected at all, `show` takes a picture
    that is not inspected. `on_settled(entry)` is called once the answer to a stream entry is recorded.
    """

    def __init__(
        self,
        cameras: Mapping[str, CameraSettings],
        parts: PartsSettings,
        triggers: TriggersSettings,
        *,
        recorder: Recorder,
        offer: Callable[[Frame], bool],
        has_model: Callable[[str], bool],
        show: Callable[[Frame], None],
        on_settled: Callable[[str], None],
    ) -> None:
        self.repeated = 0
        self._pushed_count = 0
        self._loop = asyncio.get_running_loop()
        self._recorder = recorder
        self._offer, self._has_model = offer, has_model
        self._show, self._on_settled = show, on_settled
        self._policy = policy_of(parts, triggers)
        self._stations: dict[str, _Station] = {}
        for name, camera in cameras.items():
            self.watch(name, camera)
        self._lost: Handover[tuple[Frame, str]] = Handover(self._loop, self._dropped, _DROPPED)
        self._added = asyncio.Event()
        # Entry, camera, part: a broker that came back empty may give an entry's id to something new.
        self._done: set[tuple[str, str, str]] = set()

    def retune(self, parts: PartsSettings, triggers: TriggersSettings) -> None:
        """Other limits for the triggers that come from now on."""
        self._policy = policy_of(parts, triggers)
        for station in self._stations.values():
            station.triggers.policy = self._policy

    def watch(self, name: str, camera: CameraSettings) -> None:
        """A camera is new, or was retuned; one that a command disabled stays so."""
        takes_triggers = camera.enabled and camera.frames == "every"
        if (station := self._stations.get(name)) is None or station.configured != camera.enabled:
            self.forget(name, "camera disabled")
            frames: Handover[Frame] = Handover(self._loop, partial(self._pictures, name), _FRAMES)
            self._stations[name] = _Station(Triggers(self._policy), frames, takes_triggers, camera.enabled)
        elif station.takes_triggers != takes_triggers:
            self._follow(name, station.triggers.end("not triggered", time.monotonic()))
            station.triggers.let_go()
            station.takes_triggers, station.is_triggered = takes_triggers, False

    def forget(self, name: str, why: Why = "camera removed") -> None:
        """A camera is gone for good: its triggers are answered."""
        if (station := self._stations.get(name)) is not None:
            self._follow(name, station.triggers.end(why, time.monotonic()))
            del self._stations[name]

    def recall(self, verdicts: list[Event]) -> None:
        """What an earlier run has answered, the newest first: it is not answered again, whatever comes again.
        A camera triggered within the last week stays so: an empty belt before the first part is no part.
        """
        now, utc = time.monotonic(), time.time()
        for event in reversed(verdicts):  # the oldest first, in the order in which they are to be forgotten
            if entry := event.detail.get("trigger"):
                self._done.add((str(entry), event.camera, event.part_id))
            if (station := self._stations.get(event.camera)) is None:
                continue
            age_s = max(0.0, utc - datetime.fromisoformat(event.detected_at).timestamp())
            station.triggers.remember(event.part_id, now - age_s, str(event.detail.get("id", "")))
            if station.takes_triggers and event.reason != "not triggered" and age_s < _STAYS_TRIGGERED_S:
                station.is_triggered = True
        for name in (name for name, station in self._stations.items() if station.is_triggered):
            log.info("camera %s was triggered lately: pictures are inspected on triggers", name)

    # -- cameras' threads, the device thread ---------------------------------------------------------

    def holds(self, frame: Frame) -> bool:
        """True for a picture that is to be inspected only if a trigger asks for it, or not at all."""
        station = self._stations[frame.camera]
        if not station.enabled or station.takes_triggers:
            station.frames.put(frame)
        return station.is_triggered or not station.enabled

    def dropped(self, frame: Frame, reason: str) -> None:
        """The engine will not inspect this frame."""
        if frame.part_id is not None:
            self._lost.put((frame, reason))
        elif reason == "refused" and (station := self._stations.get(frame.camera)) is not None:
            _say_refused(frame.camera, station, time.monotonic())

    # -- event loop ----------------------------------------------------------------------------------

    async def take(self, entry: str, fields: Mapping[str, str]) -> bool:
        """A trigger from the stream; False: `on_settled` follows. Raises Malformed."""
        read_tick = time.monotonic()
        camera, trigger = parse_trigger(entry, fields, time.time())
        station = self._stations.get(camera)
        if station is None:
            known = ", ".join(self._stations)
            raise Malformed(f"there is no camera {camera!r} on this line (there is: {known})")
        if (entry, camera, trigger.part.part_id) in self._done:
            return True
        picture = await self._pushed(camera, trigger, fields)
        if self._stations.get(camera) is not station:
            raise Malformed(f"the camera {camera!r} was removed")
        return not self._trigger(camera, station, trigger, picture, read_tick)

    async def _pushed(self, name: str, trigger: Trigger, fields: Mapping[str, str]) -> Frame | None:
        """The picture that came with a trigger. Raises Malformed for one that can't be read."""
        encoded = fields.get("picture", "").encode(errors="surrogateescape")
        if not encoded:
            return None
        if len(encoded) > _MAX_PICTURE_BYTES:
            raise Malformed(f"the picture is larger than {_MAX_PICTURE_BYTES >> 20} MiB")
        pixels = await asyncio.to_thread(decode, encoded)
        if pixels is None or min(pixels.shape[:2]) < _MIN_PICTURE_PX:
            raise Malformed("the picture can't be read; send PNG or JPEG, of 16x16 to 100 megapixels")
        pixels.flags.writeable = False
        # Below zero: never the number of a picture that the camera itself has sent.
        self._pushed_count += 1
        part_id = trigger.part.part_id
        return Frame(name, -self._pushed_count, trigger.at, time.monotonic(), pixels, part_id=part_id)

    def _trigger(
        self, name: str, station: _Station, trigger: Trigger, picture: Frame | None, read_tick: float
    ) -> bool:
        """False for one that was sent before."""
        if station.takes_triggers and not station.is_triggered:
            station.is_triggered = True
            log.info("camera %s has its first trigger: from now on pictures are inspected on triggers", name)
        now, triggers = time.monotonic(), station.triggers
        why = self._why_not(name, station)
        if why is None:
            outcome = triggers.add(trigger, now, picture, read_tick)
        else:
            outcome = triggers.refuse(trigger, why, now)
            if picture is not None:
                self._show(picture)
        if outcome.again:
            self.repeated += 1
            log.info(
                "camera %s: part %s was triggered again, and is answered once", name, trigger.part.part_id
            )
        self._follow(name, outcome)
        self._added.set()
        return not outcome.again

    def _why_not(self, name: str, station: _Station) -> Why | None:
        if not station.enabled:
            return "camera disabled"
        if not station.takes_triggers:
            return "not triggered"
        return None if self._has_model(name) else "no model"

    def inspected(self, inspection: Inspection) -> list[Event]:
        """The engine answered; returns the verdict, where this frame was asked for."""
        frame = inspection.frame
        if frame.part_id is None or (station := self._stations.get(frame.camera)) is None:
            return []
        station.shown_until = time.monotonic() + _RESULT_SHOWN_S
        return self._follow(frame.camera, station.triggers.answer(inspection, time.monotonic()))

    def camera_changed(self, state: CameraState) -> None:
        """A camera that is away answers its triggers at once."""
        triggers = self._stations[state.camera].triggers
        self._follow(state.camera, triggers.camera(state.state, time.monotonic()))

    def enable(self, name: str, enabled: bool) -> None:
        """A camera that is disabled is connected and shown, but nothing of it is inspected."""
        station = self._stations[name]
        station.enabled = enabled
        if not enabled:
            self._follow(name, station.triggers.end("camera disabled", time.monotonic()))

    def is_enabled(self, name: str) -> bool:
        return self._stations[name].enabled

    def waiting(self, name: str) -> int:
        """Triggers of this camera that have no answer yet."""
        return len(self._stations[name].triggers)

    def verdicts(self, name: str) -> Mapping[Result, int] | None:
        """Verdicts since start: ok, ng, unknown; None for a camera that was never triggered."""
        station = self._stations[name]
        return station.verdicts if station.is_triggered else None

    def end(self, *, with_picture: bool = True) -> None:
        """Whatever waits is answered, or only what has no picture yet: unknown, stopped."""
        self._lost.flush()
        for name, station in self._stations.items():
            station.frames.flush()
            ended = station.triggers.end("stopped", time.monotonic(), with_picture=with_picture)
            self._follow(name, ended)

    # -- what follows --------------------------------------------------------------------------------

    def _pictures(self, name: str, frames: list[Frame]) -> None:
        if (station := self._stations.get(name)) is None:
            return
        for frame in frames:
            if station.takes_triggers:
                self._follow(name, station.triggers.frame(frame, time.monotonic()))
        held = station.is_triggered or not station.enabled
        if held and time.monotonic() > station.shown_until:
            self._show(frames[-1])

    def _dropped(self, lost: list[tuple[Frame, str]]) -> None:
        for frame, reason in lost:
            if (station := self._stations.get(frame.camera)) is not None:  # else it was removed, and answered
                self._follow(frame.camera, station.triggers.dropped(frame, reason, time.monotonic()))

    def _follow(self, name: str, outcome: Outcome) -> list[Event]:
        for frame in outcome.inspect:
            self._offer(frame)  # one that is refused comes back by `dropped`
        return [event for answer in outcome.answers for event in self._answer(name, answer)]

    def _answer(self, name: str, answer: Answer) -> list[Event]:
        trigger = answer.trigger
        self._stations[name].verdicts[answer.verdict] += 1
        events = self._recorder.verdict(
            name, trigger.part, answer.verdict, answer.why, answer.inspection, trigger.entry, trigger.id
        )
        self._on_settled(trigger.entry)
        return events

    async def run(self) -> None:
        """Answers what is due, until cancelled. Raises the bug that ended the taking of frames."""
        while True:
            self._added.clear()
            for name, station in self._stations.items():
                self._follow(name, station.triggers.tick(time.monotonic()))
                if (bug := station.frames.died or self._lost.died) is not None:
                    raise bug
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self._pause_s()):
                    await self._added.wait()

    def _pause_s(self) -> float:
        due = [at for s in self._stations.values() if (at := s.triggers.due_at()) is not None]
        return max(0.0, min([_LOOK_S, *(at - time.monotonic() for at in due)]))


def _say_refused(name: str, station: _Station, now: float) -> None:
    """Pictures without a trigger that find no place: now and then, with their number since the last time.
    Only the camera's own thread comes here.
    """
    station.refused += 1
    if now - station.refused_said_at < _REFUSED_SAID_EVERY_S:
        return
    log.warning(
        "camera %s: pictures find no place and are not inspected (%d since this was last said): until its "
        "first trigger each is taken for a part, whatever fps says; send triggers, or let it take fewer",
        *(name, station.refused),
    )
    station.refused, station.refused_said_at = 0, now


def policy_of(parts: PartsSettings, triggers: TriggersSettings) -> TriggerPolicy:
    """What the config says. The answer is decided a little before the limit, so that it is within it."""
    within_s = parts.verdict_within_ms / 1000.0
    return TriggerPolicy(
        answer_within_s=within_s - min(0.05, within_s / 10),
        frame_within_s=triggers.frame_within_ms / 1000.0,
        max_waiting=triggers.max_waiting,
        keep_s=within_s,
        same_part_s=max(10.0, 10 * within_s),
    )
