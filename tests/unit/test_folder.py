"""A folder that is filled faster than it is inspected, and with what can't be inspected at all."""

import errno
import os
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from engine.core import Frame
from stream.camera import Camera, CameraPolicy
from stream.collection import write_png
from stream.sources import folder as folder_module
from stream.sources.folder import pictures
from tests.puppets import picture
from tests.unit.test_replay import Taken, ended, folder_source


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for number in (2, 10, 1):
        write_png(picture(number), tmp_path / "drop" / f"{number:03}.png")
    return tmp_path / "drop"


def test_an_unreadable_picture_is_named_but_not_a_folder_full_of_them(
    folder: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("003", "004", "005"):
        (folder / f"{name}.png").write_bytes(b"bad")
    source = folder_source(folder, watch=False, interval_s=0)
    ended(source, Taken())
    (said,) = caplog.messages
    what = "can't be read as a picture (of 100 megapixels at most), and is skipped"
    assert said == f"camera top: {folder / '003.png'} {what}"
    monkeypatch.setattr(folder_module, "_SAID_EVERY_S", 0.0)
    (folder / "006.png").write_bytes(b"bad")
    again = folder_source(folder, watch=False, interval_s=0)
    again.resume(source)
    ended(again, Taken())
    assert "006.png" in caplog.messages[1] and caplog.messages[1].endswith("skipped (and 2 before it)")


def test_a_small_file_that_would_unpack_to_gigabytes_is_no_picture() -> None:
    """In a process that begins as `linewatch` does."""
    script = (
        "import config.cli, cv2, numpy as np\n"
        "from stream.sources.folder import decode\n"
        "sent = cv2.imencode('.png', np.zeros((10_001, 10_000), np.uint8))[1].tobytes()\n"
        "print(len(sent) < 1_000_000, decode(sent))\n"
    )
    told = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert told.stdout == "True None\n"


async def test_pictures_that_are_dropped_at_once_wait_until_they_are_due(folder: Path) -> None:
    for number in range(20, 28):
        write_png(picture(number), folder / f"{number:03}.png")
    frames: list[Frame] = []
    camera = Camera(
        "top",
        lambda: folder_source(folder, watch=False, interval_s=0),
        offer=frames.append,
        policy=CameraPolicy(fps=20),
    )
    await camera.start()
    await camera.finished()
    stats = camera.stats()
    await camera.stop()
    assert (len(frames), stats.received, stats.decimated) == (11, 11, 0)
    assert frames[-1].taken_at - frames[0].taken_at > 9.4 / 20


def test_a_picture_that_is_written_anew_while_it_waits_is_shown_once(folder: Path) -> None:
    latest = folder / "010.png"

    class Late(Taken):
        """`latest` is due only when another one has been written in its place."""

        def due_in_s(self, taken_at: float) -> float:
            if len(self.pixels) == 2 and latest.stat().st_mtime < time.time() - 60:
                write_png(picture(77), latest)
            return 0.0

    for path in folder.iterdir():
        os.utime(path, (time.time() - 90, time.time() - 90))
    taken, stop = Late(), threading.Event()
    thread = threading.Thread(target=folder_source(folder, interval_s=0).run, args=(taken, stop))
    thread.start()
    while len(taken.pixels) < 3:
        time.sleep(0.01)
    write_png(picture(78), folder / "011.png")
    while (taken.pixels[-1] != picture(78)).any():
        time.sleep(0.01)
    stop.set()
    thread.join(5.0)
    assert [int((shown == picture(77)).all()) for shown in taken.pixels] == [0, 0, 1, 0]


def test_a_pipe_that_is_named_like_a_picture_is_skipped(folder: Path) -> None:
    os.mkfifo(folder / "003.png")
    taken = Taken()
    thread = threading.Thread(
        target=lambda: ended(folder_source(folder, watch=False, interval_s=0), taken), daemon=True
    )
    thread.start()
    thread.join(10.0)
    assert not thread.is_alive() and len(taken.pixels) == 3 and taken.skips == ["unreadable"]


def test_stopping_does_not_wait_until_a_picture_is_due(folder: Path) -> None:
    class Never(Taken):
        def due_in_s(self, taken_at: float) -> float:
            return 3600.0

    taken, stop = Never(), threading.Event()
    thread = threading.Thread(target=folder_source(folder, interval_s=0).run, args=(taken, stop))
    thread.start()
    while taken.signs < 10:
        time.sleep(0.01)
    stop.set()
    thread.join(1.0)
    assert not thread.is_alive() and taken.pixels == [] and taken.skips == []


def test_a_subfolder_that_nobody_lets_us_read_is_left_out_and_other_trouble_is_told(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    scandir, refused = os.scandir, {folder / "lost+found": errno.EACCES}
    (folder / "lost+found").mkdir()

    def guarded(path: str) -> object:
        if number := refused.get(Path(path)):
            raise OSError(number, os.strerror(number), path)
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    assert len(pictures(folder)) == 3
    for place, number in ((folder / "lost+found", errno.EIO), (folder, errno.EACCES)):
        refused[place] = number
        with pytest.raises(OSError):
            pictures(folder)
