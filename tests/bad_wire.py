"""A network that loses packets, delays them and is cut, for one camera: real IP, TCP and UDP of the kernel.

    unshare --net --map-root-user python -m tests.bad_wire tcp 0.01 0.03   # transport, loss, delay in s

Inside a network namespace of its own there is one interface, a TUN device with the address HERE. What is sent
to THERE comes out of the device in this process, which loses some, holds the rest back, and puts each in
again with its two addresses exchanged: so it arrives at HERE from THERE, and no checksum changes. `tc netem`
would do the same where the kernel has it; this needs /dev/net/tun alone. Prints one JSON object.
"""

import asyncio
import fcntl
import json
import os
import random
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import deque
from statistics import median
from typing import Any

from config.sources import RtspSource
from stream.camera import Camera, CameraPolicy
from stream.outages import Outage
from stream.sources.base import build
from tests.puppets import until
from tests.servers import rtsp_sim

HERE, THERE = "10.77.0.1", "10.77.0.2"
PICTURES, CUT_S = 100, 8.0
_TUNSETIFF, _IFF_TUN, _IFF_NO_PI = 0x400454CA, 0x0001, 0x1000


class Wire:
    """Reflects packets until `close`; `loss` is a share, `delay_s` one way. Set them at any time."""

    def __init__(self, loss: float, delay_s: float) -> None:
        self.loss, self.delay_s = loss, delay_s
        self.carried = self.lost = 0
        self._device = os.open("/dev/net/tun", os.O_RDWR)
        fcntl.ioctl(self._device, _TUNSETIFF, struct.pack("16sH14x", b"wire", _IFF_TUN | _IFF_NO_PI))
        for command in (f"addr add {HERE}/24 dev wire", "link set wire up", "link set lo up"):
            subprocess.run(["ip", *command.split()], check=True)
        self._late: deque[tuple[float, bytes]] = deque()
        self._closed = threading.Event()
        self._threads = [threading.Thread(target=work, name="wire") for work in (self._take, self._give)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        self._closed.set()
        with socket.socket(type=socket.SOCK_DGRAM) as waker:
            waker.sendto(b"the end", (THERE, 9))  # `_take` waits for a packet
        for thread in self._threads:
            thread.join()
        os.close(self._device)

    def _take(self) -> None:
        rng = random.Random(1)
        while not self._closed.is_set():
            packet = os.read(self._device, 65_536)
            if packet[0] >> 4 != 4:
                continue
            if rng.random() < self.loss:
                self.lost += 1
                continue
            exchanged = packet[:12] + packet[16:20] + packet[12:16] + packet[20:]
            self._late.append((time.monotonic() + self.delay_s, exchanged))

    def _give(self) -> None:
        while not self._closed.is_set():
            if self._late and self._late[0][0] <= time.monotonic():
                os.write(self._device, self._late.popleft()[1])
                self.carried += 1
            else:
                time.sleep(0.001)


async def watch(transport: str, wire: Wire) -> dict[str, Any]:
    """A camera is live for PICTURES, cut off for CUT_S after it is called down, and comes back."""
    ages: list[float] = []
    outages: list[Outage] = []
    usual = wire.loss
    with rtsp_sim(fps=20, host=HERE) as sim:
        url = sim.url().replace(HERE, THERE)
        settings = RtspSource.model_validate({"type": "rtsp", "url": url, "transport": transport})
        camera = Camera(
            "top",
            lambda: build("top", settings),
            offer=lambda frame: (
                ages.append(time.time() - frame.taken_at) if frame.clock == "camera" else None
            ),
            policy=CameraPolicy(fps=20, down_after_s=3.0),
            on_outage=outages.append,
        )
        await camera.start()
        await until(lambda: camera.stats().received >= PICTURES, within_s=60)
        before, lost = camera.stats(), wire.lost
        wire.loss = 1.0
        await until(lambda: camera.state.state == "down", within_s=30)
        await asyncio.sleep(CUT_S)
        wire.loss, back = usual, time.monotonic()
        await until(lambda: camera.state.state == "live", within_s=30)
        back_s = time.monotonic() - back
        await until(lambda: len(outages) >= 2, within_s=30)
        await camera.stop()
    return {
        "lost": lost,
        "skipped": before.skipped,
        "reconnects": before.reconnects,
        "age_s": median(ages),
        "back_s": back_s,
        "outages": [outage.kind for outage in outages],
    }


if __name__ == "__main__":
    bad = Wire(float(sys.argv[2]), float(sys.argv[3]))
    try:
        print(json.dumps(asyncio.run(watch(sys.argv[1], bad))))  # noqa: T201
    finally:
        bad.close()
