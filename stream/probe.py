"""Ask each camera and the broker once, and say in words what they answered."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass

from redis.exceptions import RedisError

from config.settings import Settings
from engine.core import Frame

from .broker import BrokerError, endpoint_of, server_binary
from .broker_version import BrokerTooOld, check_rights, check_version
from .camera import Camera, CameraPolicy
from .condition import CameraState
from .links import Links
from .publisher import explain
from .sources.base import Source


@dataclass(frozen=True, slots=True)
class Answer:
    """`text` is one sentence without credentials."""

    ok: bool
    text: str


async def probe_camera(name: str, make_source: Callable[[], Source], within_s: float = 10.0) -> Answer:
    """One attempt: the first picture, or the first failure. Nothing runs on afterwards."""
    sizes: list[tuple[int, int]] = []

    def offer(frame: Frame) -> None:
        if not sizes:
            sizes.append((frame.pixels.shape[1], frame.pixels.shape[0]))

    settled = asyncio.Event()

    def on_state(state: CameraState) -> None:
        if state.state != "connecting" or camera.stats().reconnects:
            settled.set()

    begun = time.monotonic()
    policy = CameraPolicy(fps=1.0, down_after_s=within_s)
    camera = Camera(name, make_source, offer=offer, policy=policy, on_state=on_state)
    await camera.start()
    try:
        await settled.wait()
    finally:
        await camera.stop()
    return _answer(camera, sizes, time.monotonic() - begun)


def _answer(camera: Camera, sizes: list[tuple[int, int]], took_s: float) -> Answer:
    state = camera.state
    if sizes:
        what = "" if state.reason in ("", "connecting") else f"{state.reason}, "
        return Answer(True, f"{what}pictures of {sizes[0][0]}×{sizes[0][1]}, the first after {took_s:.1f} s")
    if state.state == "live":
        return Answer(True, f"{state.reason}; there is no picture yet")
    return Answer(False, state.reason)


async def probe_broker(settings: Settings) -> Answer:
    """Whether it takes what the line sends, or whether the embedded server can be started."""
    events = settings.events
    if events.url == "embedded":
        try:
            return Answer(True, f"embedded, by {server_binary().name}")
        except BrokerError as error:
            return Answer(False, str(error))
    links = Links(endpoint_of(events).client(), check_version)
    try:
        await check_rights(links, settings)
    except (RedisError, OSError, BrokerTooOld) as error:
        return Answer(False, f"{events.url}: {explain(error)}")
    finally:
        await links.aclose()
    return Answer(True, f"{events.url} answers")
