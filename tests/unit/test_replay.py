import errno
import threading
import time
from collections.abc import Callable, Iterator
from fractions import Fraction
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from config.sources import FolderSource as FolderSettings
from stream.collection import write_png
from stream.sources import explain
from stream.sources import folder as folder_module
from stream.sources.base import Broken, Ended, Refused, Source, SourceError, Unreachable
from stream.sources.folder import FolderSource, pictures, read
from stream.sources.replay import FileSource
from tests.puppets import picture


class Taken:
    """A sink that keeps everything."""

    def __init__(self, want: Callable[[float], bool] = lambda at: True) -> None:
        self.pixels: list[NDArray[np.uint8]] = []
        self.times: list[float] = []
        self.skips: list[str] = []
        self.what = ""
        self.signs = 0
        self._want = want

    def connected(self, what: str) -> None:
        self.what = what

    def alive(self) -> None:
        self.signs += 1

    def due_in_s(self, taken_at: float) -> float:
        return 0.0

    def due(self, taken_at: float) -> bool:
        return self._want(taken_at)

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None:
        self.pixels.append(pixels)
        self.times.append(taken_at)

    def skipped(self, why: str) -> None:
        self.skips.append(why)

    def clock(self, offset_s: float) -> None:
        pass


def ended(source: Source, taken: Taken) -> SourceError:
    with pytest.raises(SourceError) as caught:
        source.run(taken, threading.Event())
    return caught.value


class Running:
    """A source in a thread, until it is told to stop."""

    def __init__(self, source: Source) -> None:
        self.taken, self.stop = Taken(), threading.Event()
        self._thread = threading.Thread(target=source.run, args=(self.taken, self.stop))

    def __enter__(self) -> "Running":
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop.set()
        self._thread.join(2)
        assert not self._thread.is_alive()

    def wait(self, is_true: Callable[[Taken], object], within_s: float = 5.0) -> None:
        deadline = time.monotonic() + within_s
        while not is_true(self.taken):
            assert time.monotonic() < deadline
            time.sleep(0.01)


@pytest.fixture
def video(tmp_path: Path) -> Path:
    """Ten pictures, a tenth of a second apart, each brighter than the one before."""
    return write_video(tmp_path / "line.mp4", Fraction(10))


def write_video(path: Path, rate: Fraction) -> Path:
    with av.open(str(path), "w") as container:
        stream = container.add_stream("libx264", rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.time_base = 1 / rate
        for number in range(10):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * number, np.uint8), "rgb24")
            frame.pts = number
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    for number in (2, 10, 1):
        write_png(picture(number), tmp_path / "drop" / f"{number:03}.png")
    yield tmp_path / "drop"


def folder_source(path: Path, **options: object) -> FolderSource:
    return FolderSource("top", FolderSettings.model_validate({"type": "folder", "path": path, **options}))


def test_a_video_is_shown_whole_and_then_over(video: Path) -> None:
    taken = Taken()
    over = ended(FileSource("top", video, pace="full"), taken)
    assert isinstance(over, Ended)
    assert over.final
    means = [float(pixels.mean()) for pixels in taken.pixels]
    assert len(means) == 10
    assert means == sorted(means)
    assert np.diff(taken.times) == pytest.approx([0.1] * 9, abs=0.001)


def test_a_video_at_its_own_speed_takes_its_time(video: Path) -> None:
    start = time.monotonic()
    ended(FileSource("top", video), Taken())
    assert 0.85 < time.monotonic() - start < 2.0


def test_a_video_without_times_is_shown_at_25_pictures_a_second(tmp_path: Path) -> None:
    bare, taken = tmp_path / "line.h264", Taken()  # a stream without a container holds no times
    with av.open(str(bare), "w", format="h264") as container:
        stream = container.add_stream("libx264", rate=25, options={"bf": "0"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for shown in (*(av.VideoFrame(64, 48, "yuv420p") for _ in range(10)), None):
            container.mux(stream.encode(shown))
    ended(FileSource("top", bare), taken)
    assert np.diff(taken.times) == pytest.approx([0.04] * 9, abs=0.001)


def test_a_looped_video_goes_on_without_a_gap_until_it_is_stopped(video: Path) -> None:
    with Running(FileSource("top", video, pace="full", loop=True)) as running:
        running.wait(lambda taken: len(taken.times) > 35)
    assert min(np.diff(running.taken.times)) > 0
    assert max(np.diff(running.taken.times)) < 0.2


def test_recordings_that_were_joined_into_one_file_are_shown_one_after_the_other(tmp_path: Path) -> None:
    joined, taken = tmp_path / "joined.ts", Taken()
    with av.open(str(joined), "w") as container:
        stream = container.add_stream("libx264", rate=10, options={"tune": "zerolatency"})
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for number in range(30):
            frame = av.VideoFrame.from_ndarray(picture(number), "rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    joined.write_bytes(2 * joined.read_bytes())  # the second one's times begin again
    ended(FileSource("top", joined, pace="full"), taken)
    steps = np.diff(taken.times)
    assert len(steps) == 59 and steps.min() > 0.02 and steps.max() < 0.2


def test_stopping_does_not_wait_for_the_next_picture(tmp_path: Path) -> None:
    once_a_minute = write_video(tmp_path / "slow.mp4", Fraction(1, 60))
    with Running(FileSource("top", once_a_minute)) as running:
        running.wait(lambda taken: taken.pixels)


@pytest.mark.parametrize("content", [b"", b"no video at all", b"\x00\x00\x00\x20ftypisom" + bytes(500)])
def test_a_file_that_is_no_video_is_broken_and_says_so(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "line.mp4"
    path.write_bytes(content)
    error = ended(FileSource("top", path), Taken())
    assert isinstance(error, Broken)
    assert str(path) in str(error)


def test_a_truncated_video_shows_what_there_is_or_says_why_not(video: Path) -> None:
    whole = video.read_bytes()
    for share in (0.3, 0.6, 0.9):
        video.write_bytes(whole[: int(len(whole) * share)])
        assert isinstance(ended(FileSource("top", video, pace="full"), Taken()), Ended | Broken)


def test_a_missing_file_or_folder_needs_a_person(tmp_path: Path) -> None:
    assert isinstance(ended(FileSource("top", tmp_path / "no.mp4"), Taken()), Refused)
    assert isinstance(ended(folder_source(tmp_path / "no"), Taken()), Refused)


def test_what_the_system_does_not_let_us_look_at_is_said_with_its_reason(tmp_path: Path) -> None:
    beyond = tmp_path / ("x" * 300)  # is_dir and is_file raise for it, as for a share that hangs up
    for source in (FileSource("top", beyond), folder_source(beyond)):
        error = ended(source, Taken())
        assert isinstance(error, Unreachable) and str(error).endswith("can't be read: File name too long")
    refused = explain.local(PermissionError(13, "Permission denied"), tmp_path)
    assert isinstance(refused, Refused)
    assert str(refused).startswith(f"{tmp_path}: no right to read it; ")


def test_a_folder_is_shown_in_order_of_name_and_then_over(folder: Path) -> None:
    taken = Taken()
    over = ended(folder_source(folder, watch=False, interval_s=0), taken)
    assert isinstance(over, Ended)
    assert over.final
    assert [(shown == picture(seed)).all() for shown, seed in zip(taken.pixels, (1, 2, 10), strict=True)] == [
        True
    ] * 3


def test_a_picture_that_a_machine_drops_is_shown_once_it_is_complete(folder: Path) -> None:
    with Running(folder_source(folder, existing=False, interval_s=0)) as running:
        running.wait(lambda taken: taken.what)
        half = folder / "new.png"
        whole = (folder / "001.png").read_bytes()
        half.write_bytes(whole[: len(whole) // 2])
        half.write_bytes(whole)
        running.wait(lambda taken: taken.pixels)
    assert len(running.taken.pixels) == 1
    assert running.taken.skips == []


def test_a_picture_that_is_written_anew_is_a_new_picture(folder: Path) -> None:
    with Running(folder_source(folder, existing=False, interval_s=0)) as running:
        running.wait(lambda taken: taken.what)
        write_png(picture(77), folder / "001.png")
        running.wait(lambda taken: taken.pixels)
    assert (running.taken.pixels[0] == picture(77)).all()


def test_a_looped_folder_begins_again(folder: Path) -> None:
    with Running(folder_source(folder, loop=True, interval_s=0)) as running:
        running.wait(lambda taken: len(taken.pixels) >= 7)
    assert (running.taken.pixels[0] == running.taken.pixels[3]).all()


class Leaving(Taken):
    """`leave` is called when the second picture was taken."""

    def __init__(self, leave: Callable[[], object]) -> None:
        super().__init__()
        self._leave = leave

    def put(self, pixels: NDArray[np.uint8], taken_at: float, clock: str = "host") -> None:
        super().put(pixels, taken_at, clock)
        if len(self.pixels) == 2:
            self._leave()


def test_a_share_that_went_away_is_told_and_goes_on_where_it_was(folder: Path) -> None:
    away = folder.with_name("away")
    first, taken = folder_source(folder, interval_s=0), Leaving(lambda: folder.rename(away))
    gone = ended(first, taken)
    assert isinstance(gone, Unreachable)
    assert str(gone) == f"{folder} is gone; is the share still mounted?"
    second = folder_source(folder, interval_s=0)
    second.resume(first)
    assert isinstance(ended(second, Taken()), Unreachable)
    away.rename(folder)
    third, again = folder_source(folder, watch=False, interval_s=0), Taken()
    third.resume(second)
    assert str(ended(third, again)).endswith("all 3 pictures were shown")
    assert [(pixels == picture(10)).all() for pixels in again.pixels] == [True]


def test_new_pictures_that_came_while_a_folder_was_away_are_shown(folder: Path) -> None:
    first = folder_source(folder, existing=False, watch=False)
    ended(first, Taken())
    write_png(picture(7), folder / "007.png")
    second, taken = folder_source(folder, existing=False, watch=False), Taken()
    second.resume(first)
    ended(second, taken)
    assert [(pixels == picture(7)).all() for pixels in taken.pixels] == [True]


def test_a_source_does_not_go_on_in_another_folder(folder: Path, tmp_path: Path) -> None:
    first = folder_source(folder, watch=False, interval_s=0)
    ended(first, Taken())
    other, taken = folder_source(tmp_path, watch=False, interval_s=0), Taken()
    other.resume(first)
    ended(other, taken)
    assert len(taken.pixels) == 3


def test_the_empty_place_of_a_share_makes_nothing_be_shown_again(folder: Path) -> None:
    with Running(folder_source(folder, interval_s=0)) as running:
        running.wait(lambda taken: len(taken.pixels) == 3)
        away = folder.rename(folder.with_name("away"))
        folder.mkdir()
        signs = running.taken.signs
        running.wait(lambda taken: taken.signs > signs + 5)
        away.rename(folder)
        write_png(picture(99), folder / "099.png")
        running.wait(lambda taken: len(taken.pixels) > 3)
    assert [(pixels == picture(99)).all() for pixels in running.taken.pixels[3:]] == [True]


def test_a_file_that_cannot_be_told_for_a_moment_is_not_shown_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hidden, stamp = set[str](), folder_module._stamp
    monkeypatch.setattr(
        folder_module, "_stamp", lambda path, sink: None if path.name in hidden else stamp(path, sink)
    )
    with Running(folder_source(folder, interval_s=0)) as running:
        for names in ({"001.png"}, set[str]()):
            running.wait(lambda taken: len(taken.pixels) == 3)
            hidden.clear()
            hidden.update(names)
            signs = running.taken.signs
            running.wait(lambda taken, signs=signs: taken.signs > signs + 20)
    assert len(running.taken.pixels) == 3


def test_a_file_that_fails_is_tried_twice_because_it_may_be_the_share(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    load = folder_module.load

    def failing(path: Path) -> NDArray[np.uint8] | None:
        if path.name == "002.png":
            raise OSError(errno.EIO, "Input/output error")
        return load(path)

    monkeypatch.setattr(folder_module, "load", failing)
    first = folder_source(folder, watch=False, interval_s=0)
    assert isinstance(ended(first, Taken()), Unreachable)
    second, taken = folder_source(folder, watch=False, interval_s=0), Taken()
    second.resume(first)
    assert isinstance(ended(second, taken), Ended)
    assert (len(taken.pixels), taken.skips) == (1, ["unreadable"])


def test_a_long_pause_between_pictures_is_no_silence(folder: Path) -> None:
    with Running(folder_source(folder, interval_s=3600)) as running:
        running.wait(lambda taken: taken.pixels)
        signs = running.taken.signs
        running.wait(lambda taken: taken.signs > signs + 3)


def test_unreadable_pictures_are_skipped_and_counted(folder: Path) -> None:
    (folder / "000.png").write_bytes(b"\x89PNG\r\n\x1a\nbut no more")
    (folder / "005.jpg").write_bytes(b"")
    taken = Taken()
    ended(folder_source(folder, watch=False, interval_s=0), taken)
    assert (len(taken.pixels), taken.skips) == (3, ["unreadable", "unreadable"])


def test_a_loop_over_nothing_readable_is_broken_and_no_busy_loop(tmp_path: Path) -> None:
    (tmp_path / "bad.png").write_bytes(b"bad")
    assert isinstance(ended(folder_source(tmp_path, loop=True, interval_s=0), Taken()), Broken)


def test_pictures_that_are_not_due_are_not_even_read(folder: Path) -> None:
    (folder / "000.png").write_bytes(b"bad")
    taken = Taken(want=lambda at: False)
    ended(folder_source(folder, watch=False, interval_s=0), taken)
    assert (taken.pixels, taken.skips) == ([], [])


def test_sub_folders_are_read_and_hidden_files_are_not(folder: Path) -> None:
    write_png(picture(3), folder / "shift-2" / "a.png")
    write_png(picture(4), folder / ".trash" / "b.png")
    (folder / ".half.png").write_bytes(b"")
    (folder / "notes.txt").write_text("no picture")
    assert [path.name for path in pictures(folder)] == ["001.png", "002.png", "010.png", "a.png"]


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_grey_and_deep_pictures_become_rgb(tmp_path: Path, dtype: type) -> None:
    path = tmp_path / "grey.png"
    assert cv2.imwrite(str(path), np.full((5, 7), np.iinfo(dtype).max // 2, dtype))
    pixels = read(path)
    assert pixels is not None
    assert pixels.shape == (5, 7, 3)
    assert set(np.unique(pixels)) <= {127, 128}


@settings(max_examples=150, derandomize=True, deadline=None)
@given(data=st.binary(max_size=300), cut=st.integers(0, 4000), flip=st.integers(0, 4000))
def test_no_file_makes_reading_a_picture_fail(
    tmp_path_factory: pytest.TempPathFactory, data: bytes, cut: int, flip: int
) -> None:
    path = tmp_path_factory.getbasetemp() / "fuzz.png"
    done, good = cv2.imencode(".png", picture(1))
    assert done
    damaged = bytearray(good.tobytes()[: len(good) - cut % len(good)] + data)
    damaged[flip % len(damaged)] ^= 0x10
    path.write_bytes(bytes(damaged))
    shown = read(path)
    assert shown is None or shown.ndim == 3
