"""The demo as a newcomer runs it: minutes long, so it belongs to `make test-all`."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from stream.sim.line import ProductionLine

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

LINEWATCH = Path(sys.executable).with_name("linewatch")
QUICK = ("--steps", "30", "--frames", "16")
KEYS = {"cameras", "defects", "false_alarms", "events", "latency_ms", "frames_per_s", "peak_rss_mb"}


def demo(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [LINEWATCH, "demo", "--json", "--folder", folder, "--web", "127.0.0.1:0", *words],
        capture_output=True,
        text=True,
        timeout=900,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    assert said.keys() >= KEYS
    assert said["events"]["lost"] == 0
    assert said["events"]["open"] > 0
    secret = (folder / "camera.password").read_text()
    assert secret not in done.stdout + done.stderr + (folder / "run.log").read_text()
    return said


def test_the_demo_finds_defects_and_starts_at_once_the_second_time(tmp_path: Path) -> None:
    # Fewer pictures and steps than a visitor gets: what is looked at here is that all of it works together.
    first = demo(tmp_path, "--seconds", "20", *QUICK)
    assert first["training_s"].keys() == {"top", "side"}
    assert first["defects"]["found"] > 0
    second = demo(tmp_path, "--seconds", "10", *QUICK)
    assert second["training_s"] == {}
    assert second["live_after_s"] < first["live_after_s"]


def test_the_demo_replays_a_folder_of_pictures(tmp_path: Path) -> None:
    parts = pictures(tmp_path / "parts")
    said = demo(tmp_path / "demo", "--seconds", "20", "--steps", "30", "--data", str(parts))
    assert said["cameras"].keys() == {"parts"}
    assert said["defects"]["shown"] > 0


def pictures(folder: Path) -> Path:
    """Parts of the pattern line as an MVTec layout: 16 good ones to learn from, 6 and 6 defective to test."""
    line = ProductionLine("machined", 3, (320, 240))
    good: list[float] = []
    bad: list[float] = []
    for part in range(400):
        at_s = part * 1.6 + 0.8
        (bad if line.shot(at_s).defects else good).append(at_s)
    for n, at_s in enumerate(good[:22]):
        write(
            folder / ("train/good" if n < 16 else "test/good") / f"{n:03}.png", line.picture(at_s)[..., ::-1]
        )
    for n, at_s in enumerate(bad[:6]):
        write(folder / "test/flaw" / f"{n:03}.png", line.picture(at_s)[..., ::-1])
        write(folder / "ground_truth/flaw" / f"{n:03}_mask.png", line.mask(at_s).astype(np.uint8) * 255)
    return folder


def write(path: Path, pixels: "np.ndarray[Any, np.dtype[np.uint8]]") -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    assert cv2.imwrite(str(path), pixels)
