"""Kinds of sources are found by entry point, in whichever thread a camera is made."""

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from stream.sources import base


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
