"""Ties it together: inspections → incidents → events with a seq → outbox, one transaction for each decision.

Everything is called from the event loop's thread and answers at once (about 0.2 ms when something is
decided, microseconds when not). What was recorded is safe against `kill -9`; the publisher sends it.
"""

import contextlib
import logging
import time
from collections import deque
from collections.abc import Callable, Mapping

from config.settings import CameraSettings
from engine.core import Inspection

from .drafts import Drafts, Part
from .events import NO_CAMERA, Event, Severity, Verdict
from .incidents import SILENT_S, Decision, IncidentPolicy, Incidents
from .outbox import Outbox
from .outbox_file import OutboxError

log = logging.getLogger(__name__)

Evidence = Callable[[Inspection], tuple[str | None, str | None]]

EVENTS = ("events",)
VERDICTS = ("events", "verdicts")
ANSWERS = ("events", "answers")
MAX_HELD = 10_000
DOWN = "down"


class Recorder:
    """The incidents of all cameras of one line, and everything else that becomes an event.

    `on_recorded` is called after a transaction with what it stored (the publisher's `wake`, the page's list).
    `evidence` stores an inspection's picture and heat map and returns their relative URLs. While the disk
    refuses to write, up to 10,000 events wait in memory; beyond that the oldest are dropped, counted, and
    told in a `system.dropped` event.
    """

    def __init__(
        self,
        outbox: Outbox,
        *,
        site: str,
        line: str,
        config_sha256: str | None = None,
        on_recorded: Callable[[list[Event]], None] = lambda events: None,
        evidence: Evidence = lambda inspection: (None, None),
        now_s: Callable[[], float] = time.time,
        tick_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self.drafts = Drafts(site, line, config_sha256, now_s)
        self.disk_error: str | None = None
        self.started = False
        self._outbox = outbox
        self._on_recorded = on_recorded
        self._evidence = evidence
        self._tick_s = tick_s
        self._incidents: dict[str, Incidents] = {}
        self._troubles: dict[tuple[str, str], Event] = {}
        self._held: deque[tuple[list[Event], tuple[str, ...]]] = deque()
        self._unstored = 0
        # Drops that an event tells already, but that the outbox still counts.
        self._told: dict[str, int] = {}

    @property
    def held(self) -> int:
        """Events that wait in memory because the disk refuses them."""
        return sum(len(drafts) for drafts, _ in self._held)

    def configured(self, config_sha256: str) -> None:
        """Events carry another checksum of the settings from now on."""
        self.drafts.config_sha256 = config_sha256

    def start(self) -> list[Event]:
        """Closes what was open when the last run ended: nobody watched since, so the verdict is unknown."""
        self.started = True
        closed = [self.drafts.restarted(event) for event in self._outbox.open_incidents()]
        return self._record([*closed, self.drafts.fact("system", "started")])

    def stop(self) -> list[Event]:
        """Closes whatever is open; call it after the last inspection and before the publisher drains."""
        ended = [event for camera in self._incidents for event in self._ended(camera, "stopped")]
        up = [self.drafts.closed(trouble, "stopped") for trouble in self._troubles.values()]
        self._troubles.clear()
        stopped = self._record([*ended, *up, self.drafts.fact("system", "stopped")])
        if self._held:
            log.error("%d events are lost: the disk refused them to the end (%s)", self.held, self.disk_error)
        return stopped

    def tick(self) -> list[Event]:
        """Once a second: incidents that nothing is seen of, what waits for the disk, what was dropped."""
        self._store_held()
        now = self._tick_s()
        silent = [self._defect(c, d) for c, incidents in self._incidents.items() for d in incidents.tick(now)]
        return self._record(silent) + self._tell_dropped()

    def watch(self, camera: str, policy: IncidentPolicy) -> None:
        """A camera is new or was retuned; what is open stays open."""
        if camera in self._incidents:
            self._incidents[camera].policy = policy
        else:
            self._incidents[camera] = Incidents(camera, policy, self.drafts.new_id)

    def pause(self, camera: str, reason: str) -> list[Event]:
        """Nothing of this camera is inspected until it is watched again; its troubles go on."""
        events = self._ended(camera, reason)
        self._incidents.pop(camera, None)
        return self._record(events)

    def forget(self, camera: str, reason: str = "camera removed") -> list[Event]:
        """A camera is gone for good."""
        events = self._ended(camera, reason)
        self._incidents.pop(camera, None)
        for key in [key for key in self._troubles if key[0] == camera]:
            events.append(self.drafts.closed(self._troubles.pop(key), reason))
        return self._record(events)

    def observe(self, inspection: Inspection) -> list[Event]:
        """One inspected frame of a watched camera; returns the events it led to, mostly none."""
        camera = inspection.frame.camera
        if camera not in self._incidents:
            return []  # it was removed while its last frame was on the device
        decisions = self._incidents[camera].update(inspection, self._tick_s())
        return self._record([self._defect(camera, decision) for decision in decisions])

    def camera_down(self, camera: str, reason: str) -> list[Event]:
        """`reason` is for people and without credentials. A second one while it is down does nothing."""
        if (camera, DOWN) in self._troubles:
            return []
        down = self.drafts.fact("camera", DOWN, camera, phase="open", reason=reason, severity="major")
        self._troubles[camera, DOWN] = down
        return self._record([*self._ended(camera, f"camera down: {reason}"), down])

    def camera_up(self, camera: str) -> list[Event]:
        """Does nothing for a camera that was not down."""
        return self.finding_over(camera, DOWN, "back")

    def finding(
        self, camera: str, kind: str, reason: str, detail: Mapping[str, int | float | str] | None = None
    ) -> list[Event]:
        """`camera.KIND`, such as dark or moved, holds from now on; incidents go on. Said once."""
        if (camera, kind) in self._troubles:
            return []
        fact = self.drafts.fact("camera", kind, camera, phase="open", reason=reason, detail=detail)
        self._troubles[camera, kind] = fact
        return self._record([fact])

    def finding_over(self, camera: str, kind: str, reason: str = "over") -> list[Event]:
        """Does nothing for one that was not told."""
        told = self._troubles.pop((camera, kind), None)
        return [] if told is None else self._record([self.drafts.closed(told, reason)])

    def verdict(
        self,
        camera: str,
        part: Part,
        verdict: Verdict,
        reason: str | None = None,
        inspection: Inspection | None = None,
        trigger: str | None = None,
        trigger_id: str = "",
    ) -> list[Event]:
        """The answer to one trigger, into the event stream and the verdict stream by one transaction.

        `trigger` is the stream entry that asked, and stands in `detail`; so does its sender's id, as `id`.
        """
        image, heatmap = self._evidence(inspection) if inspection and verdict == "ng" else (None, None)
        told = {"trigger": trigger, "id": trigger_id}
        detail = {name: text for name, text in told.items() if text}
        incidents = self._incidents.get(camera)
        draft = self.drafts.verdict(
            camera,
            part,
            verdict,
            reason,
            inspection,
            severity=incidents.severity_of(inspection) if incidents else "minor",
            image=image,
            heatmap=heatmap,
            detail=detail,
        )
        return self._record([draft], VERDICTS)

    def system(
        self,
        what: str,
        reason: str | None = None,
        detail: Mapping[str, int | float | str] | None = None,
        severity: Severity = "minor",
        streams: tuple[str, ...] = EVENTS,
    ) -> list[Event]:
        """A fact about Linewatch itself: `system.WHAT` with a reason for people and numbers for machines."""
        fact = self.drafts.fact("system", what, NO_CAMERA, reason=reason, severity=severity, detail=detail)
        return self._record([fact], streams)

    def _ended(self, camera: str, reason: str) -> list[Event]:
        incidents = self._incidents.get(camera)
        if incidents is None:
            return []
        return [self._defect(camera, decision) for decision in incidents.end(reason, self._tick_s())]

    def _defect(self, camera: str, decision: Decision) -> Event:
        # An update would write a picture a second; the open and the close show the defect well enough.
        wanted = decision.inspection if decision.phase == "open" else None
        image, heatmap = (None, None) if wanted is None else self._evidence(wanted)
        return self.drafts.defect(camera, decision, image, heatmap)

    def _tell_dropped(self) -> list[Event]:
        """An event about what a full outbox or a full disk cost, once there is room again."""
        if self._held:
            return []
        try:
            self._strike_told()
            counts = self._outbox.dropped()
        except OutboxError as error:
            self._refused(error)
            return []
        if not (counts or self._unstored):
            self.disk_error = None
            return []
        told = self._store([self._dropped_fact(counts)], EVENTS)
        if told:
            self._told, self._unstored = counts, 0
            with contextlib.suppress(OutboxError):  # the next tick tries again, and says so
                self._strike_told()
        return told

    def _dropped_fact(self, counts: Mapping[str, int]) -> Event:
        detail = {**counts, "unstored": self._unstored}
        reason = f"{sum(detail.values())} events were dropped because the outbox or its disk was full"
        return self.drafts.fact(
            "system", "dropped", NO_CAMERA, reason=reason, severity="critical", detail=detail
        )

    def _strike_told(self) -> None:
        if self._told:
            self._outbox.told_dropped(self._told)
            self._told = {}

    def _record(self, drafts: list[Event], streams: tuple[str, ...] = EVENTS) -> list[Event]:
        if not drafts:
            return []
        self._store_held()
        if not self._held and (stored := self._store(drafts, streams)):
            return stored
        self._held.append((drafts, streams))
        if len(self._held) > MAX_HELD:
            self._unstored += len(self._held.popleft()[0])
        return []

    def _store_held(self) -> None:
        while self._held and self._store(*self._held[0]):
            self._held.popleft()

    def _store(self, drafts: list[Event], streams: tuple[str, ...]) -> list[Event]:
        """Empty when the disk refuses: then nothing of it was stored."""
        try:
            stored = self._outbox.put(drafts, streams)
        except OutboxError as error:
            self._refused(error)
            return []
        self.disk_error = None
        self._on_recorded(stored)
        return stored

    def _refused(self, error: OutboxError) -> None:
        if self.disk_error is None:
            log.error("events wait in memory: %s", error)
        self.disk_error = str(error)


def policy_of(camera: CameraSettings) -> IncidentPolicy:
    """The part of a camera's settings that decides about incidents."""
    detect, severity = camera.detect, camera.severity
    # Each picture may be another part, which is told whatever the one before it was.
    is_part = camera.frames == "every"
    return IncidentPolicy(
        on_frames=1 if is_part else detect.on_frames,
        off_frames=1 if is_part else detect.off_frames,
        update_every_s=detect.update_every_s,
        cooldown_s=detect.cool_down_s,
        # A slow camera isn't silent between two pictures.
        silent_s=max(SILENT_S, 3.0 / camera.fps),
        major_from_ratio=severity.major_from_ratio,
        critical_from_ratio=severity.critical_from_ratio,
        major_from_area_px=severity.major_from_area_px,
        critical_from_area_px=severity.critical_from_area_px,
    )
