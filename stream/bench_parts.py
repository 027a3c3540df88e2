"""What `linewatch bench` feeds the engine with, and what it measures beside it, each alone."""

import asyncio
import io
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import av
import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from engine.artifact import Artifact
from engine.calibration import Calibration
from engine.choose import torch_threads
from engine.cores import usable_cores
from engine.images import to_device
from engine.model.cost import costs
from engine.model.dmdd import SIZES, build_network
from engine.model.teacher import Teacher
from engine.tiles import Tiling

from .broker import BrokerError, EmbeddedBroker
from .keys import Keys
from .outbox import Outbox
from .publisher import Publisher

PICTURES = 4
INPUT_PX = 256
# Of a frame's map, how much lies above the alarm level.
_ANOMALOUS_SHARE = 0.01
_CODED_PICTURES = 100
_MATRIX_SIDE = {"cpu": 2048, "cuda": 8192}

Pictures = Sequence[NDArray[np.uint8]]


def pictures(seed: int) -> list[NDArray[np.uint8]]:
    """Frames of 480 x 640: a part with texture and noise on a plain ground, somewhere else each time."""
    dice = np.random.default_rng(seed)
    made = []
    for _ in range(PICTURES):
        scene = np.full((480, 640, 3), 90.0)
        x, y = dice.integers(200, 440), dice.integers(160, 320)
        cv2.circle(scene, (int(x), int(y)), 120, (150, 160, 170), -1)
        coarse = dice.normal(0.0, 12.0, (24, 32, 3))
        scene += cv2.resize(coarse, (640, 480), interpolation=cv2.INTER_CUBIC)
        scene += dice.normal(0.0, 4.0, scene.shape)
        made.append(scene.clip(0, 255).astype(np.uint8))
    return made


def model(size: str, tiles: str, seed: int, frames: Pictures, teacher: Teacher) -> tuple[Artifact, float]:
    """An untrained model and the threshold at which a few regions of these frames stand out."""
    torch.manual_seed(seed)
    network, tiling = build_network(size).eval(), Tiling.of(INPUT_PX, tiles)
    images = to_device([square for frame in frames for square in tiling.cut(tiling.fit(frame))], "cpu")
    with torch.inference_mode():
        features = teacher(images)
        parts = network.parts(images, features)
        network.part_mean.copy_(parts.mean((0, 2, 3)))
        network.part_std.copy_(parts.std((0, 2, 3)).clamp(min=1e-6))
        raw = network(images, features)
    threshold = float(np.quantile(raw.numpy(), 1.0 - _ANOMALOUS_SHARE))
    median = float(raw.median())
    # Good scores from which the same threshold would follow, so that the parity gate measures in its unit.
    good = np.linspace(2 * median - threshold, threshold, 40) * 0.8 + 0.2 * median
    artifact = Artifact(
        name=f"bench-{seed}",
        size=size,
        input_px=INPUT_PX,
        teacher=SIZES[size].teacher,
        teacher_sha256=teacher.sha256,
        state={name: value.clone() for name, value in network.state_dict().items()},
        calibration=Calibration.fit(good, good, min_area_px=8, input_px=INPUT_PX),
        version=1,
        tiles=tiles,
    )
    return artifact, threshold


def gmacs_of(size: str, tiles: str) -> float:
    """10^9 multiply-accumulates of a frame."""
    return Tiling.of(INPUT_PX, tiles).count * sum(part.gmacs for part in costs(size, INPUT_PX).values())


def gmacs_per_s(device: torch.device, *, bf16: bool, seconds: float = 1.0) -> float:
    """10^9 multiply-accumulates a second of one large matrix product: what the device can do at best."""
    side, dtype = _MATRIX_SIDE[device.type], torch.bfloat16 if bf16 else torch.float32
    a, b = (torch.randn(side, side, device=device, dtype=dtype) for _ in range(2))

    def multiply() -> None:
        torch.mm(a, b)
        if device.type == "cuda":
            torch.cuda.synchronize(device)

    with torch_threads(usable_cores()):
        return side**3 / 1e9 * calls_per_s(multiply, seconds)


def calls_per_s(call: Callable[[], None], seconds: float) -> float:
    """A first call, untimed, then as many as fit in `seconds`."""
    call()
    done, started = 0, time.monotonic()
    while (spent := time.monotonic() - started) < seconds or not done:
        call()
        done += 1
    return done / spent


def decode_ms(frames: Pictures) -> float:
    """H.264 → RGB of one frame, on one thread, as a camera's thread does it."""
    coded = _coded([frames[index % len(frames)] for index in range(_CODED_PICTURES)])
    with av.open(io.BytesIO(coded), "r") as container:
        container.streams.video[0].thread_type = "SLICE"
        started = time.monotonic()
        count = len([frame.to_ndarray(format="rgb24").shape for frame in container.decode(video=0)])
        return 1000.0 * (time.monotonic() - started) / count


def _coded(frames: Pictures) -> bytes:
    height, width = frames[0].shape[:2]
    out = io.BytesIO()
    with av.open(out, "w", format="mpegts") as container:
        stream = container.add_stream("libx264", rate=25, options={"preset": "veryfast", "g": "25"})
        stream.width, stream.height, stream.pix_fmt = width, height, "yuv420p"
        for pixels in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels, format="rgb24")))
        container.mux(stream.encode())
    return out.getvalue()


def publish_ms(outbox: Outbox) -> float | None:
    """Outbox → broker of one event: all that wait in the outbox go to a broker of our own, in batches.

    None where there is no broker to start or nothing to send.
    """
    waiting = outbox.pending
    try:
        return asyncio.run(_publish(outbox)) * 1000.0 / waiting if waiting else None
    except BrokerError:
        return None


async def _publish(outbox: Outbox) -> float:
    with tempfile.TemporaryDirectory() as folder:
        broker = EmbeddedBroker(Path(folder))
        endpoint = await broker.start()
        publisher = Publisher(outbox, endpoint.client, Keys("linewatch:bench:line:events"), maxlen=1_000_000)
        task = asyncio.create_task(publisher.run())
        started = time.monotonic()
        try:
            publisher.wake()
            await publisher.drained(60.0)
            return time.monotonic() - started
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await broker.stop()
