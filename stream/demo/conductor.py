"""The demo from its first to its last minute, a list of verbs; each runs a command that a person could type.

prepare   folder, cameras
learn     a simulated line of good parts · capture · train, only where there is no model yet
live      the line with defects · `linewatch run` · a subscriber
finish    compare what was shown with what was found and what arrived
"""

import asyncio
import contextlib
import sys
import time
from collections.abc import AsyncIterator, Coroutine, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from config.load import load
from config.services import EventsSettings
from engine.cores import allowed_cores

from ..broker import run_file_of
from ..outbox_file import last_seqs
from ..running import where
from ..sim import schedule
from . import stage
from .children import Child, memory_mb
from .lineapi import LineApi
from .report import Watched
from .subscriber import Subscriber

_SIM_READY_S = 30.0
_LINE_READY_S = 120.0
_CAPTURE_S = 600.0
_TRAIN_S = 3600.0
_STOP_S = 20.0
_CATCH_UP_S = 10.0
_LOOK_S = 0.5
_MINUTES_KEPT = 24 * 60
# Two with a half of the cores each are ready sooner than one after the other with all of them.
_TRAININGS_AT_ONCE = 2
_SHARED_CORES = {"OMP_NUM_THREADS": str(max(1, allowed_cores() // _TRAININGS_AT_ONCE))}


@dataclass(frozen=True, slots=True)
class Plan:
    """What was asked for. `seconds` None: until `stop` is set. `training` are further words for `train`;
    `frames` good pictures are captured of each camera, None: the usual number."""

    folder: Path
    data: tuple[Path, ...] = ()
    seconds: float | None = None
    broker: str = "embedded"
    web: str = "127.0.0.1:8080"
    training: tuple[str, ...] = ()
    frames: int | None = None


@dataclass(slots=True)
class _Seen:
    """What the demo learns from outside."""

    began: float = field(default_factory=time.monotonic)
    training_s: dict[str, float] = field(default_factory=dict)
    live_after_s: float = 0.0
    went_live: set[str] = field(default_factory=set)
    frames: dict[str, dict[str, int]] = field(default_factory=dict)
    rss_mb_by_minute: list[float] = field(default_factory=list)
    peak_rss_mb: float = 0.0


def say(text: str) -> None:
    """To the person: stderr, so that standard output holds nothing but the result."""
    print(text, file=sys.stderr, flush=True)  # noqa: T201


async def perform(plan: Plan, stop: asyncio.Event) -> Watched | None:
    """The whole demo; None when stopped before it was live. Raises ChildFailed, DemoError, BrokerError."""
    stage.check_broker(plan.broker)
    cameras = stage.cameras(plan.data, plan.frames)
    stage.make_folder(plan.folder)
    seen = _Seen()
    await _learn(plan, cameras, seen, stop)
    if stop.is_set():
        return None
    return await _live(plan, cameras, seen, stop)


async def _learn(plan: Plan, cameras: Sequence[stage.DemoCamera], seen: _Seen, stop: asyncio.Event) -> None:
    new = [c for c in cameras if not stage.is_trained(plan.folder, c, plan.training)]
    if not new:
        return
    async with _simulator(plan, cameras, "learn") as config:
        stage.check_start(config)
        say(f"Capturing good pictures of {', '.join(c.name for c in new)} over RTSP …")
        for camera in new:
            stage.forget_pictures(plan.folder, camera)
        await _until(stop, *(_capture(config, camera) for camera in new))
    if not stop.is_set():
        say(f"Training a model for {', '.join(camera.name for camera in new)} …")
        places, alone = asyncio.Semaphore(_TRAININGS_AT_ONCE), len(new) == 1
        await _until(stop, *(_train(plan, camera, seen, places, alone=alone) for camera in new))


async def _capture(config: Path, camera: stage.DemoCamera) -> None:
    words = ["capture", camera.name, "--frames", str(camera.frames), "--every", str(camera.every_s)]
    words += ["--config", str(config), "--json"]
    async with _child(f"capture {camera.name}", words) as child:
        answer = await child.result(_CAPTURE_S)
    say(f"  {camera.name}: {answer['written']} good pictures, skipped {answer['skipped'] or 'none'}")


async def _train(
    plan: Plan, camera: stage.DemoCamera, seen: _Seen, places: asyncio.Semaphore, *, alone: bool
) -> None:
    """One that is `alone` has all cores, and the terminal for its progress bar."""
    folder = plan.folder / "pictures" / camera.name / "good"
    words = ["train", camera.name, "--data", str(folder), "--models", str(plan.folder / "models"), "--json"]
    words += plan.training
    marked, variables = (None, {}) if alone else (camera.name, _SHARED_CORES)
    async with places, _child(f"train {camera.name}", words, marked=marked, variables=variables) as child:
        answer = await child.result(_TRAIN_S)
    stage.remember_trained(plan.folder, camera, plan.training)
    seen.training_s[camera.name] = answer["seconds"]
    say(f"  {camera.name}@{answer['version']}: {answer['steps']} steps in {answer['seconds']:.0f} s")


async def _live(plan: Plan, cameras: Sequence[stage.DemoCamera], seen: _Seen, stop: asyncio.Event) -> Watched:
    names = tuple(camera.name for camera in cameras)
    async with _simulator(plan, cameras, "live") as config:
        settings = load(config)
        async with _child("run", ["run", str(config), "--json"], log=plan.folder / "run.log") as line:
            ready = await line.json_line(_LINE_READY_S)
            _welcome(ready, config, settings.events)
            # What the last run's end and this one's start recorded is not of this run.
            first_seq = last_seqs(settings.events.outbox.path)
            api = LineApi(ready["page"])
            async with Subscriber(where(settings)) as subscriber:
                started = time.time()
                await _watch(plan, line, api, names, seen, stop)
                ended = time.time()
                last_seq = last_seqs(settings.events.outbox.path)
                await subscriber.catch_up(last_seq, _CATCH_UP_S)
        told = {name: schedule.read(plan.folder / "schedule" / f"{name}.jsonl") for name in names}
    return Watched(
        cameras=names,
        from_s=started,
        to_s=ended,
        events=tuple(subscriber.events),
        first_seq=first_seq,
        last_seq=last_seq,
        frames=seen.frames,
        schedule=told,
        went_live=frozenset(seen.went_live),
        peak_rss_mb=seen.peak_rss_mb,
        rss_mb_by_minute=tuple(seen.rss_mb_by_minute),
        live_after_s=seen.live_after_s,
        training_s=seen.training_s,
    )


def _welcome(ready: dict[str, Any], config: Path, events: EventsSettings) -> None:
    say("The line is live.")
    say(f"  page       {ready['page']}")
    say(f"  broker     {ready['broker']}  (stream {ready['stream']})")
    say(f"  subscribe  linewatch events --follow --config {config}")
    if events.url == "embedded":
        # The password goes through the environment: a command line is seen by everybody on the machine.
        say(
            f'  or         REDISCLI_AUTH="$(jq -r .endpoint.password {run_file_of(events)})" '
            f"redis-cli -u {ready['broker']} XREAD BLOCK 0 STREAMS {ready['stream']} '$'"
        )


async def _watch(
    plan: Plan, line: Child, api: LineApi, names: Sequence[str], seen: _Seen, stop: asyncio.Event
) -> None:
    """Look at the line as a visitor does until the time is over, a signal came, or it ended by itself."""
    started = time.monotonic()
    until = started + plan.seconds if plan.seconds is not None else float("inf")
    while line.running:
        seen.went_live |= await api.live_cameras()
        seen.frames = await api.frames()
        if not seen.live_after_s and seen.went_live.issuperset(names):
            seen.live_after_s = time.monotonic() - seen.began
        now_mb, seen.peak_rss_mb = memory_mb(line.pid)
        if time.monotonic() - started >= 60.0 * (len(seen.rss_mb_by_minute) + 1):
            seen.rss_mb_by_minute = [*seen.rss_mb_by_minute, now_mb][-_MINUTES_KEPT:]
        if stop.is_set() or time.monotonic() >= until:
            return
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(min(_LOOK_S, max(0.0, until - time.monotonic()))):
                await stop.wait()
    raise line.failure()


@contextlib.asynccontextmanager
async def _simulator(plan: Plan, cameras: Sequence[stage.DemoCamera], phase: str) -> AsyncIterator[Path]:
    """The simulated cameras; yields the config file that names them."""
    words = ["camera-sim", "--json", "--port", "0", "--phase", phase, "--fps", str(stage.CAMERA_FPS)]
    words += ["--user", stage.USER, "--password-file", str(stage.password(plan.folder))]
    words += ["--schedule", str(plan.folder / "schedule")]
    for camera in cameras:
        words += ["--name", camera.name]
        words += ["--look", camera.look] if camera.look else ["--data", str(camera.data)]
    async with _child("camera-sim", words, log=plan.folder / "camera-sim.log") as child:
        ready = await child.json_line(_SIM_READY_S)
        urls = {stream["name"]: stream["url"] for stream in ready["streams"]}
        real = any(camera.data for camera in cameras)
        yield stage.write_config(plan.folder, urls, broker=plan.broker, web=plan.web, real=real)


@contextlib.asynccontextmanager
async def _child(
    name: str,
    words: Sequence[str],
    *,
    log: Path | None = None,
    marked: str | None = None,
    variables: Mapping[str, str] | None = None,
) -> AsyncIterator[Child]:
    child = await Child.start(name, words, log=log, marked=marked, variables=variables)
    try:
        yield child
    finally:
        await child.stop(_STOP_S)


async def _until(stop: asyncio.Event, *work: Coroutine[Any, Any, None]) -> None:
    """All of `work`, or until a signal came: then it is cancelled, which ends its children."""

    async def all_of_it() -> None:
        await asyncio.gather(*work)

    working, stopping = asyncio.create_task(all_of_it()), asyncio.create_task(stop.wait())
    try:
        await asyncio.wait([stopping, working], return_when=asyncio.FIRST_COMPLETED)
        if working.done():
            working.result()
    finally:
        stopping.cancel()
        working.cancel()
        await asyncio.gather(stopping, working, return_exceptions=True)
