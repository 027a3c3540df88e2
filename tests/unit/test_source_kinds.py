"""Kinds of sources: found by entry point, in whichever thread a camera is made; and what none takes."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import av
import pytest

from config.url import CameraUrl
from stream.sources import base, rtsp
from stream.sources.base import Refused
from stream.sources.replay import FileSource


class Point:
    """An entry point whose modules must not be imported by two threads at a time."""

    busy = threading.Lock()

    def __init__(self, name: str) -> None:
        self.name = name

    def load(self) -> Any:
        assert self.busy.acquire(blocking=False), "imported by two threads at once"
        time.sleep(0.02)
        self.busy.release()
        return lambda camera, settings: (self.name, camera)


def test_packages_are_imported_by_one_thread_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(base, "entry_points", lambda group, name: [Point(name)])
    base._installed.cache_clear()
    kinds = [f"kind-{i}" for i in range(6)]
    try:
        with ThreadPoolExecutor(6) as threads:
            made = list(threads.map(lambda kind: base._installed(kind)("top", None), kinds))
    finally:
        base._installed.cache_clear()
    assert made == [(kind, "top") for kind in kinds]


def test_video_with_pictures_above_the_limit_is_refused_and_not_converted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of 20000x20000 each took gigabytes, where a picture file of that size was refused."""
    video = tmp_path / "line.avi"
    with av.open(str(video), "w") as container:
        stream = container.add_stream("mjpeg", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuvj420p"
        container.mux(stream.encode(av.VideoFrame(64, 48, "yuvj420p")))
        container.mux(stream.encode(None))
    monkeypatch.setattr(base, "MAX_PIXELS", 64 * 48 - 1)
    said = "its pictures of 64×48 are too large \\(100 megapixels at most\\)"
    connection = rtsp.Connection(CameraUrl(f"file:{video}"))
    for source in (FileSource("top", video), rtsp.RtspSource("top", connection, base.Deadlines())):
        with pytest.raises(Refused, match=said):
            source.run(Mock(), threading.Event())
    with pytest.raises(Refused, match=said):  # as of a camera whose pictures grow, and by WebRTC
        rtsp.rgb(av.VideoFrame(64, 48, "rgb24"))
