"""One simulated camera: films a show, encodes once, and hands each picture to all its viewers."""

import asyncio
import random
import time
from typing import Protocol

import cv2
import numpy as np

from . import rtp
from .encoder import Encoder
from .faults import BadFault, Faults, damaged, parse_size
from .schedule import ScheduleWriter, entry_line
from .shown import PHASES, Show

REPORT_EVERY_S = 2.0
_AHEAD_S = 0.5  # drawing a part or reading a picture takes longer than a frame: it is done before it is due
MAX_BACKLOG_BYTES = 512 * 1024  # what a slow viewer may owe; then pictures are dropped for it up to a key one


class Outlet(Protocol):
    """A viewer's transport; nothing here blocks."""

    def send(self, packets: list[bytes]) -> None:
        """RTP packets, in order."""

    def send_rtcp(self, packet: bytes) -> None:
        """One compound RTCP packet."""

    def backlog_bytes(self) -> int:
        """What was handed over and is not yet with the kernel."""

    def close(self) -> None:
        """Cut the connection."""


class Viewer:
    """One client of one camera: sequence numbers, counters, and whether it waits for a key picture."""

    def __init__(self, outlet: Outlet) -> None:
        self.outlet = outlet
        self.next_sequence = random.getrandbits(16)
        self.packets = self.octets = self.dropped = 0
        self.wants_key = True
        self.reported_s = float("-inf")


class SimCamera:
    """`show` at `fps`; time stamps are 90 kHz from a random start, UTC is the host's clock when it began.

    Pictures are made only while somebody watches; the show's time goes on. All methods belong to the event
    loop.
    """

    def __init__(self, name: str, show: Show, fps: float, schedule: ScheduleWriter | None = None) -> None:
        self.name, self.show, self.fps = name, show, fps
        self._size = show.size
        self.encoder = Encoder(show.size, fps)
        self.faults = Faults()
        self.viewers: set[Viewer] = set()
        self.ssrc, self._first_timestamp = random.getrandbits(32), random.getrandbits(32)
        self.frames = self.dropped = self.skipped = 0
        self.phase = "live"
        self._rng = random.Random(name)
        self._schedule = schedule
        self._start_tick, self._start_utc_s = time.monotonic(), time.time()
        self._watched = asyncio.Event()
        self._last_shot = ""
        self._frozen_at_s: float | None = None

    def now_s(self) -> float:
        """Seconds since this camera began."""
        return time.monotonic() - self._start_tick

    def timestamp(self, at_s: float) -> int:
        """The RTP time stamp of a moment of the show."""
        return (self._first_timestamp + round(at_s * rtp.CLOCK_HZ)) & 0xFFFFFFFF

    def utc_s(self, at_s: float) -> float:
        """The wall clock at a moment of the show."""
        return self._start_utc_s + at_s

    def attach(self, viewer: Viewer) -> None:
        """From the next picture on, a key one, this viewer gets all."""
        self.viewers.add(viewer)
        self._watched.set()

    def detach(self, viewer: Viewer) -> None:
        """No more pictures for this viewer."""
        self.viewers.discard(viewer)
        if not self.viewers:
            self._watched.clear()

    def set(self, name: str, value: str) -> None:
        """The remote control: `phase`, a fault, or `size` (`WxH` from now on, as a camera that was set up
        anew; the schedule's boxes stay in pixels of the show). Raises BadFault.
        """
        if name == "phase":
            if value not in PHASES:
                raise BadFault(f"phase={value}: want learn or live")
            self.phase = value
            self.show.set_phase("learn" if value == "learn" else "live", self.now_s())
        elif name == "size":
            self._size = parse_size(value)
        else:
            self._fail(name, value)

    def _fail(self, name: str, value: str) -> None:
        self.faults.set(name, value, self.now_s())
        if name == "kill" or self.refuses():
            self._cut()

    def state(self) -> dict[str, str]:
        """What GET_PARAMETER answers."""
        numbers = {"frames": self.frames, "dropped": self.dropped, "skipped": self.skipped}
        return {"phase": self.phase, "viewers": str(len(self.viewers))} | {
            k: str(v) for k, v in numbers.items()
        }

    def refuses(self) -> bool:
        """Whether nobody is let in at the moment."""
        return self.faults.on("refuse", self.now_s())

    def close(self) -> None:
        """Say goodbye to every viewer and close the schedule."""
        for viewer in list(self.viewers):
            viewer.outlet.send_rtcp(rtp.bye(self.ssrc))
            viewer.outlet.close()
        if self._schedule:
            self._schedule.close()

    async def run(self) -> None:
        """Film until cancelled; a picture that is due while the one before is still being made is skipped."""
        tick = 0
        while True:
            if not self._watched.is_set():
                await self._watched.wait()
                await asyncio.to_thread(self.show.prepare, self.now_s())
                tick = int(self.now_s() * self.fps)
            due = max(tick + 1, int(self.now_s() * self.fps))
            self.skipped += due - tick - 1
            tick = due
            await asyncio.sleep(max(0.0, tick / self.fps - self.now_s()))
            at_s = tick / self.fps
            if self.viewers and not self.faults.on("stall", at_s):
                await self._film(at_s)

    async def _film(self, at_s: float) -> None:
        key = any(viewer.wants_key for viewer in self.viewers)
        nals = await asyncio.to_thread(self._make, at_s, key)
        self.frames += 1
        if self.faults.hits("drop", self._rng):
            self.dropped += 1
            return
        self._note(at_s)
        key = rtp.is_key(nals)
        if self.faults.on("garbage", at_s):
            nals = damaged(nals, self._rng)
        pieces = list(rtp.payloads(nals))
        for viewer in list(self.viewers):
            self._serve(viewer, pieces, at_s, key)
        await asyncio.to_thread(self.show.prepare, at_s + _AHEAD_S)

    def _make(self, at_s: float, key: bool) -> list[bytes]:
        """Worker thread, one call at a time."""
        shown_s = at_s
        if self.faults.on("freeze", at_s):
            shown_s = self._frozen_at_s = at_s if self._frozen_at_s is None else self._frozen_at_s
        else:
            self._frozen_at_s = None
        pixels = self.show.picture(shown_s)
        if self._size != self.encoder.size:
            self.encoder = Encoder(self._size, self.fps)
        if self._size != self.show.size:
            pixels = np.asarray(cv2.resize(pixels, self._size, interpolation=cv2.INTER_AREA), np.uint8)
        return self.encoder.encode(pixels, round(at_s * rtp.CLOCK_HZ), key)

    def _note(self, at_s: float) -> None:
        """A line in the schedule with the first frame of each part or picture."""
        if self._frozen_at_s is not None:
            return
        shot = self.show.shot(at_s)
        if shot.name != self._last_shot:
            self._last_shot = shot.name
            if self._schedule:
                line = entry_line(self.name, self.timestamp(at_s), self._start_utc_s, at_s, shot)
                self._schedule.write(line)

    def _serve(self, viewer: Viewer, pieces: list[bytes], at_s: float, key: bool) -> None:
        if viewer.outlet.backlog_bytes() > MAX_BACKLOG_BYTES:
            viewer.dropped += 1
            viewer.wants_key = True
            return
        if viewer.wants_key and not key:
            return
        viewer.wants_key = False
        self._report(viewer, at_s)
        packets = [
            rtp.packet(
                piece,
                sequence=viewer.next_sequence + i,
                timestamp=self.timestamp(at_s),
                ssrc=self.ssrc,
                last=i == len(pieces) - 1,
            )
            for i, piece in enumerate(pieces)
        ]
        viewer.next_sequence = (viewer.next_sequence + len(packets)) & 0xFFFF
        viewer.packets += len(packets)
        viewer.octets += sum(len(piece) for piece in pieces)
        viewer.outlet.send([p for p in packets if not self.faults.hits("lose", self._rng)])

    def _report(self, viewer: Viewer, at_s: float) -> None:
        """A sender report before the first picture, so that a client knows the wall clock of all of them."""
        if at_s - viewer.reported_s < REPORT_EVERY_S:
            return
        viewer.reported_s = at_s
        viewer.outlet.send_rtcp(
            rtp.sender_report(
                ssrc=self.ssrc,
                utc_s=self.utc_s(at_s),
                timestamp=self.timestamp(at_s),
                packets=viewer.packets,
                octets=viewer.octets,
            )
        )

    def _cut(self) -> None:
        """Close every viewer's connection in the middle of a picture."""
        for viewer in list(self.viewers):
            start = bytes([0x7C, 0x85]) + bytes(
                64
            )  # the first fragment of a key picture; the rest never comes
            viewer.outlet.send(
                [
                    rtp.packet(
                        start,
                        sequence=viewer.next_sequence,
                        timestamp=self.timestamp(self.now_s()),
                        ssrc=self.ssrc,
                        last=False,
                    )
                ]
            )
            viewer.outlet.close()
