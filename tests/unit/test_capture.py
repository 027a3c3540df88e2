import asyncio
import io
from datetime import UTC, datetime
from pathlib import Path

import cv2
import numpy as np
import pytest

from config.cli import main
from engine.core import Frame
from stream.capture import Capture, CaptureError
from stream.collection import Captured, Selection, picture_path, write_png
from stream.commands.capture import Progress, summary
from stream.condition import CameraState, State
from stream.sources.base import Ended, Refused, Unreachable
from tests.puppets import Puppet, picture, until
from tests.unit.test_health import scene


def soft(seed: int) -> np.ndarray:
    return np.asarray(cv2.GaussianBlur(scene(seed), (0, 0), 8), dtype=np.uint8)


@pytest.mark.parametrize("every", ["-1", "nan", "often"])
def test_a_pause_that_there_can_not_be_is_told(every: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["capture", "top", "--every", every]) == 2
    assert f"--every: '{every}' is no number of seconds, 0 or more" in capsys.readouterr().err


def test_pictures_are_spread_over_time() -> None:
    selection = Selection(every_s=1.0)
    kept = [n for n in range(30) if selection.wants(scene(n), n / 10)]
    assert kept == [0, 10, 20]
    assert not selection.skipped


def test_dark_bright_blurred_and_same_pictures_are_skipped_and_counted() -> None:
    selection = Selection(every_s=0.0)
    for n in range(5):
        assert selection.wants(scene(n), n)
    dark, bright = np.full((480, 640, 3), 2, np.uint8), np.full((480, 640, 3), 254, np.uint8)
    for n, pixels in enumerate([dark, bright, soft(9), scene(2)], start=5):
        assert not selection.wants(pixels, n)
    assert selection.skipped == {"dark": 1, "overexposed": 1, "blurred": 1, "duplicate": 1}


def test_noise_alone_does_not_make_another_picture() -> None:
    rng = np.random.default_rng(0)
    selection = Selection(every_s=0.0)
    noisy = [np.clip(scene() + rng.normal(0, 2, (480, 640, 3)), 0, 255).astype(np.uint8) for _ in range(2)]
    assert [selection.wants(pixels, n) for n, pixels in enumerate(noisy)] == [True, False]


def test_one_part_that_moved_makes_another_picture() -> None:
    selection = Selection(every_s=0.0)
    moved = scene()
    moved[100:140, 100:140] = 255 - moved[100:140, 100:140]
    assert selection.wants(scene(), 0.0)
    assert selection.wants(moved, 1.0)


def test_a_picture_s_name_sorts_by_its_time(tmp_path: Path) -> None:
    at = datetime(2026, 11, 23, 16, 19, 5, 123456, UTC).timestamp()
    path = picture_path(tmp_path, Frame("top", 1, at, 0.0, scene()))
    assert path.name == "20261123T161905.123456Z.png"


def test_a_written_picture_is_the_same_and_nothing_else_is_left(tmp_path: Path) -> None:
    write_png(picture(1), tmp_path / "good" / "a.png")
    read = cv2.cvtColor(cv2.imread(str(tmp_path / "good" / "a.png")), cv2.COLOR_BGR2RGB)
    assert (read == picture(1)).all()
    assert len(list((tmp_path / "good").iterdir())) == 1


async def captured(puppet: Puppet, folder: Path, frames: int, patience_s: float = 60.0) -> Captured:
    return await Capture(
        "top", lambda: puppet, folder, frames=frames, every_s=0.0, patience_s=patience_s
    ).run()


async def test_pictures_are_written_until_there_are_enough(tmp_path: Path) -> None:
    puppet = Puppet()
    task = asyncio.create_task(captured(puppet, tmp_path, 3))
    for n in range(3):
        puppet.show(scene(n))
        await until(lambda n=n: len(list(tmp_path.glob("2*.png"))) == n + 1)
    assert await task == Captured(3, {})


async def test_a_recording_that_is_over_ends_the_capture(tmp_path: Path) -> None:
    puppet = Puppet()
    puppet.show(scene(1))
    puppet.fail(Ended("over", final=True))
    assert (await captured(puppet, tmp_path, 3)).written == 1


async def test_a_camera_that_refuses_is_an_error_in_words(tmp_path: Path) -> None:
    puppet = Puppet()
    puppet.fail(Refused("10.0.0.1 refuses this user or password (401)"))
    with pytest.raises(CaptureError, match=r"top: no picture came; it is refused: 10\.0\.0\.1 refuses"):
        await captured(puppet, tmp_path, 3)


async def test_a_camera_that_shows_nothing_good_is_an_error_that_counts(tmp_path: Path) -> None:
    puppet = Puppet()
    puppet.show(np.zeros((48, 64, 3), np.uint8))
    with pytest.raises(CaptureError, match="1 dark"):
        await captured(puppet, tmp_path, 3, patience_s=0.3)


async def test_a_camera_that_does_not_answer_is_given_up_and_the_error_says_why(tmp_path: Path) -> None:
    told: list[str] = []
    puppet = Puppet()
    puppet.fail(Unreachable("10.0.0.1: nothing listens there (connection refused)"))
    capture = Capture(
        "top",
        lambda: puppet,
        tmp_path,
        frames=3,
        every_s=0.0,
        patience_s=0.6,
        on_state=lambda s: told.append(s.words),
    )
    with pytest.raises(CaptureError) as error:
        await capture.run()
    why = "connecting: 10.0.0.1: nothing listens there (connection refused)"
    assert str(error.value) == f"top: no picture came within 0.6 s; it is {why}"
    assert told == ["connecting", why]


async def test_patience_begins_when_the_next_picture_has_its_turn(tmp_path: Path) -> None:
    puppet = Puppet()
    capture = Capture("top", lambda: puppet, tmp_path, frames=2, every_s=0.8, patience_s=0.4)
    task = asyncio.create_task(capture.run())
    for n in range(12):
        puppet.show(scene(n))
        await asyncio.sleep(0.1)
    assert (await task).written == 2


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def camera_is(state: State, reason: str) -> CameraState:
    return CameraState("top", state, reason, 0.0)


def test_piped_progress_is_a_line_for_each_news_and_a_count_now_and_then() -> None:
    now, out = [0.0], io.StringIO()
    progress = Progress(5, out, clock=lambda: now[0])
    for state, reason in (("connecting", "connecting"), ("down", "no answer"), ("down", "no answer")):
        progress.state(camera_is(state, reason))  # type: ignore[arg-type]
    for now[0] in np.arange(0.0, 75.0, 0.5):
        progress.count(Captured(int(now[0] / 20), {"dark": 1}))
    progress.end()
    assert out.getvalue().splitlines() == [
        "top is down: no answer",
        "1/5 written, 1 skipped",
        "3/5 written, 1 skipped",
    ]


def test_on_a_terminal_the_count_is_renewed_below_what_the_camera_says() -> None:
    out = Terminal()
    progress = Progress(5, out)
    progress.count(Captured(0, {}))
    progress.state(camera_is("down", "no answer"))
    progress.count(Captured(1, {"dark": 2}))
    progress.end()
    lines = out.getvalue().replace("\x1b[K", "").split("\n")
    assert [line.split("\r")[-1] for line in lines] == [
        "top is down: no answer",
        "1/5 written, 2 skipped",
        "",
    ]


def test_the_last_line_says_why_there_are_no_more_and_what_helps_against_duplicates() -> None:
    told = summary(Captured(3, {"duplicate": 9}), camera_is("live", "H.264"), "/good", 5, 60.0)
    assert told == (
        "3 of 5 pictures written to /good; skipped: 9 duplicate; top gave no more: nothing new to keep for "
        "60 s; most pictures were like one before: give a longer --every, about as long as a part is seen"
    )
    told = summary(Captured(3, {"dark": 1}), camera_is("down", "no answer"), "/good", 5, 60.0)
    assert told.endswith("; skipped: 1 dark; top gave no more: down: no answer")
    told = summary(Captured(5, {"duplicate": 4}), camera_is("down", "no answer"), "/good", 5, 60.0)
    assert told == "5 of 5 pictures written to /good; skipped: 4 duplicate"


def test_a_folder_that_can_not_be_written_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "pictures").write_text("a file, no folder")
    config = tmp_path / "cameras.yaml"
    config.write_text("version: 1\npictures: {dir: pictures}\ncameras: {top: {source: {type: pattern}}}\n")
    assert main(["capture", "top", "--frames", "1", "--config", str(config)]) == 1
    assert f"no pictures can be written to {tmp_path}/pictures/top/good: " in capsys.readouterr().err
