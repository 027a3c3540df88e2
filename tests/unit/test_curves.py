"""The scores around a kept picture: a disk that hangs holds up nobody's end."""

import asyncio
import threading
import time
from pathlib import Path

import pytest

from stream.evidence import Evidence, Item
from stream.web import curves as curves_module
from stream.web.curves import Curves
from stream.web.scores import Scores
from tests.webline import inspection


class HangingDisk(Evidence):
    """Takes no scores before `goes_on` is set."""

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self.goes_on, self.threads = threading.Event(), set[threading.Thread]()

    def keep_scores(self, item: Item, scores: bytes) -> None:
        self.threads.add(threading.current_thread())
        self.goes_on.wait(30.0)


def scores_now() -> Scores:
    scores = Scores()
    scores.add(inspection())
    return scores


async def test_a_disk_that_hangs_does_not_hold_up_the_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(curves_module, "_STOP_WITHIN_S", 0.3)
    disk, scores = HangingDisk(tmp_path), scores_now()
    taken_at = float(scores.since(0.0)[0][0])
    for number in range(5):
        disk.fresh.append(Item("top", f"s{number}", taken_at, 1.5, "top@3", (), 10))
    curves = Curves(disk, lambda camera: scores)
    curves.start()
    began = time.monotonic()
    await curves.stop()
    assert time.monotonic() - began < 2.0
    # Another one would be waited for by asyncio, or by the interpreter.
    assert disk.threads and all(thread.daemon for thread in disk.threads)
    disk.goes_on.set()


async def test_a_disk_that_refuses_costs_only_the_scores(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Refusing(Evidence):
        def keep_scores(self, item: Item, scores: bytes) -> None:
            raise OSError("the disk is full")

    disk, scores = Refusing(tmp_path), scores_now()
    disk.fresh.append(Item("top", "s", float(scores.since(0.0)[0][0]), 1.5, "top@3", (), 10))
    curves = Curves(disk, lambda camera: scores)
    curves.start()
    await asyncio.wait_for(curves.stop(), 5.0)
    assert "could not be kept: the disk is full" in caplog.text
