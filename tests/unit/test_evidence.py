"""Kept pictures: whole or not there, bounded, and answered by people."""

import json
import os
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import replace
from datetime import datetime
from pathlib import Path

import cv2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.core import Frame
from stream import evidence as evidence_module
from stream.evidence import Evidence, EvidenceError, Item, Kind, describe, overdue
from tests.webline import inspection

AGAIN = settings(derandomize=True, max_examples=60, deadline=None)
BOX = (100, 80, 180, 140)


def item(at: float, size: int = 10, feedback: str | None = None) -> Item:
    return Item("top", f"s{at}", at, 1.5, "top@3", (), size, feedback)  # type: ignore[arg-type]


@pytest.fixture
def evidence(tmp_path: Path) -> Iterator[Evidence]:
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()
    yield evidence
    evidence.stop()


def kept(evidence: Evidence, camera: str = "top") -> Item:
    """One more kept picture, written."""
    image, _ = evidence.keep(inspection(camera, box=BOX))
    evidence.stop()
    evidence.start()
    found = evidence.of_image(image)
    assert found is not None
    return found


@AGAIN
@given(
    st.lists(st.tuples(st.integers(0, 99), st.integers(1, 50), st.booleans()), max_size=12),
    st.integers(0, 300),
)
def test_what_stays_fits_and_confirmed_ones_go_last(rows: list[tuple[int, int, bool]], room: int) -> None:
    items = [item(at, size, "confirmed" if yes else None) for at, size, yes in rows]
    gone = overdue(items, 100.0, max_bytes=room, max_age_s=None)
    stay = [i for i in items if all(i is not g for g in gone)]
    assert sum(i.size_bytes for i in stay) <= room
    if any(i.feedback == "confirmed" for i in gone):
        assert all(i.feedback == "confirmed" for i in stay)


def test_old_ones_go_unless_confirmed() -> None:
    old, sure, new = item(0.0), item(1.0, feedback="confirmed"), item(90.0)
    assert overdue([new, sure, old], 100.0, max_bytes=1000, max_age_s=50.0) == [old]


def test_pictures_of_a_clock_that_was_ahead_make_room_for_those_of_now() -> None:
    ahead, now = item(5000.0), item(100.0)
    assert overdue([now, ahead], 100.0, max_bytes=10, max_age_s=None) == [ahead]


def test_the_picture_is_kept_as_it_was_inspected(evidence: Evidence) -> None:
    shown = inspection(box=BOX)
    image, heatmap = evidence.keep(shown)
    evidence.stop()
    found = evidence.of_image(image)
    assert found is not None and found.heatmap == heatmap
    back = cv2.imread(str(evidence.path(found, "png")), cv2.IMREAD_COLOR_RGB)
    assert (back == shown.frame.pixels).all()
    assert cv2.imread(str(evidence.path(found, "jpg"))).shape == back.shape
    assert found.boxes[0] == pytest.approx((100 / 320, 80 / 240, 180 / 320, 140 / 240))


def test_everything_is_there_again_after_a_restart(evidence: Evidence, tmp_path: Path) -> None:
    first = kept(evidence)
    again = Evidence(tmp_path / "evidence")
    again.start()
    again.stop()
    assert again.items() == [first]


def test_a_list_is_continued_after_its_last_picture(evidence: Evidence) -> None:
    for tenths in range(10):  # of a microsecond, which a stem and a JSON answer don't have
        made = inspection(seq=tenths, box=BOX)
        made.frame.pixels[0, 0] = tenths
        evidence.keep(
            replace(made, frame=replace(made.frame, taken_at=1_800_000_000.0 + tenths * 10.0000001))
        )
    evidence.stop()
    before, listed = None, []
    while found := evidence.items(before=before, limit=1):
        listed += found
        before = datetime.fromisoformat(found[0].stem.partition("Z-")[0] + "Z").timestamp()
        assert len(listed) <= 10
    assert len(listed) == 10


def test_a_list_that_is_continued_leaves_out_no_picture_of_one_part(evidence: Evidence) -> None:
    for camera in ("left", "right", "top"):  # one trigger, and so one time, for all of them
        made = inspection(camera, box=BOX)
        evidence.keep(replace(made, frame=replace(made.frame, taken_at=1_800_000_000.5)))
    evidence.keep(inspection("top", box=BOX))
    evidence.stop()
    first = evidence.items(limit=2)
    assert len(first + evidence.items(before=first[-1].taken_at, limit=2)) == 4


def test_half_a_picture_of_a_crash_is_removed_and_strange_files_are_left_alone(tmp_path: Path) -> None:
    folder = tmp_path / "evidence" / "top"
    folder.mkdir(parents=True)
    half = folder / f"{describe(inspection(box=BOX)).stem}.png"
    strange = folder / "holiday.png"
    broken = folder / f"{describe(inspection(seq=2)).stem}.json"
    unfinished = [folder / f".{half.stem}.jpg.part", folder / f".{half.stem}.png.4711"]
    for path in (half, strange, broken, *unfinished):
        path.write_bytes(b"not whole")
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()
    evidence.stop()
    assert evidence.items() == []
    assert [path.exists() for path in (half, strange, broken)] == [False, True, True]
    assert not any(path.exists() for path in unfinished)


def test_a_picture_whose_words_a_power_cut_left_empty_is_removed(evidence: Evidence, tmp_path: Path) -> None:
    item = kept(evidence)
    files = [evidence.path(item, kind) for kind in ("json", "png", "jpg")]
    files[0].write_bytes(b"")
    again = Evidence(tmp_path / "evidence")
    again.start()
    again.stop()
    assert again.items() == [] and not any(path.exists() for path in files)


def test_a_picture_of_which_a_newer_version_says_more_is_kept(evidence: Evidence, tmp_path: Path) -> None:
    """Left alone it would stand in no list, and never make room again."""
    item = kept(evidence)
    path = evidence.path(item, "json")
    path.write_text(json.dumps(json.loads(path.read_text()) | {"depth": [1]}))
    again = Evidence(tmp_path / "evidence")
    again.start()
    again.stop()
    assert again.items() == [item]


def test_a_moved_description_is_not_believed(evidence: Evidence, tmp_path: Path) -> None:
    path = evidence.path(kept(evidence), "json")
    words = json.loads(path.read_text()) | {"camera": "../../etc"}
    path.write_text(json.dumps(words))
    again = Evidence(tmp_path / "evidence")
    again.start()
    again.stop()
    assert again.items() == []


def test_lists_are_newest_first_filtered_and_continued(evidence: Evidence) -> None:
    items = [kept(evidence, camera) for camera in ("top", "side", "top")]
    assert [i.taken_at for i in evidence.items()] == sorted((i.taken_at for i in items), reverse=True)
    assert len(evidence.items(camera="top")) == 2
    assert evidence.items(before=items[1].taken_at) == [items[0]]
    assert len(evidence.items(limit=1)) == 1
    assert evidence.items(feedback="confirmed") == []
    assert len(evidence.items(feedback="none")) == 3


def test_a_false_alarm_that_could_not_be_noted_is_not_filed(evidence: Evidence, tmp_path: Path) -> None:
    found, good = kept(evidence), tmp_path / "good"
    words = evidence.path(found, "json")
    words.unlink()
    words.mkdir()  # a disk that takes no more
    with pytest.raises(OSError):
        evidence.answer("top", found.stem, "false_alarm", good)
    words.rmdir()
    evidence.answer("top", found.stem, "confirmed", good)
    assert list(good.iterdir()) == []


def test_a_false_alarm_is_filed_with_the_good_ones_and_can_be_taken_back(
    evidence: Evidence, tmp_path: Path
) -> None:
    found, good = kept(evidence), tmp_path / "pictures" / "top" / "good"
    evidence.answer("top", found.stem, "false_alarm", good)
    evidence.answer("top", found.stem, "false_alarm", good)
    assert [p.read_bytes() for p in good.iterdir()] == [evidence.path(found, "png").read_bytes()]
    assert evidence.answer("top", found.stem, "confirmed", good).feedback == "confirmed"
    assert list(good.iterdir()) == []
    assert json.loads(evidence.path(found, "json").read_text())["feedback"] == "confirmed"


def test_of_two_people_who_answer_at_once_one_is_the_last(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, good = kept(evidence), tmp_path / "good"
    write, at_it, go_on = evidence._write_words, threading.Event(), threading.Event()

    def slowly(item: Item) -> None:
        if item.feedback == "confirmed":
            at_it.set()
            assert go_on.wait(5)
        write(item)

    monkeypatch.setattr(evidence, "_write_words", slowly)
    with ThreadPoolExecutor(2) as people:
        people.submit(evidence.answer, "top", found.stem, "confirmed", good)
        assert at_it.wait(5)
        second = people.submit(evidence.answer, "top", found.stem, "false_alarm", good)
        wait([second], 0.3)
        go_on.set()
    filed = (good / f"{found.stem}.png").exists()
    assert filed == (evidence.find("top", found.stem).feedback == "false_alarm")


def test_what_is_confirmed_while_room_is_made_stays(
    evidence: Evidence, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = kept(evidence)

    def chosen(items: list[Item], now: float, **limits: object) -> list[Item]:
        evidence.answer("top", found.stem, "confirmed", tmp_path)
        return items

    monkeypatch.setattr(evidence_module, "overdue", chosen)
    evidence._make_room()
    assert evidence.find("top", found.stem).feedback == "confirmed"
    assert evidence.path(found, "png").exists()


def test_a_picture_that_was_removed_by_hand_leaves_no_words_behind(
    evidence: Evidence, tmp_path: Path
) -> None:
    found = kept(evidence)
    kinds: tuple[Kind, ...] = ("png", "jpg", "json")
    for kind in kinds:
        evidence.path(found, kind).unlink()
    with pytest.raises(FileNotFoundError):
        evidence.answer("top", found.stem, "confirmed", tmp_path)
    assert not evidence.path(found, "json").exists()


def test_what_is_not_there_can_not_be_answered(evidence: Evidence, tmp_path: Path) -> None:
    with pytest.raises(EvidenceError, match="no such picture"):
        evidence.answer("..", "../../etc/passwd", "confirmed", tmp_path)


def test_pictures_that_find_no_room_to_wait_are_dropped_counted_and_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    evidence = Evidence(tmp_path)  # not started: nobody writes
    said = [evidence.keep(inspection(seq=i, box=BOX)) for i in range(34)]
    assert said[31] != (None, None)
    assert said[32:] == [(None, None)] * 2
    assert evidence.dropped == 2
    assert (
        caplog.messages == ["a picture of camera top is not kept: the disk of evidence.dir is too slow"] * 2
    )


def test_a_camera_s_folder_that_is_not_ours_keeps_no_other_s_pictures(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing went any more, of any camera, until the disk was full."""
    evidence = Evidence(tmp_path, max_mb=0, max_age_days=None)
    for number, camera in enumerate(("side", "top")):
        evidence._items[camera, "old"] = replace(item(float(number)), camera=camera, stem="old")
    (tmp_path / "side" / "old.json").mkdir(parents=True)  # which nobody can unlink, root neither
    evidence._make_room()
    assert [item.camera for item in evidence.items()] == ["side"]
    assert "1 old pictures of defects can't be removed, let Linewatch do that: " in caplog.text


def test_a_disk_that_refuses_is_counted_and_the_item_is_forgotten(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "evidence")
    evidence.start()
    (tmp_path / "evidence" / "top").write_text("a file where a folder should be")
    evidence.keep(inspection(box=BOX))
    evidence.stop()
    assert evidence.dropped == 1
    assert evidence.items() == []


def test_of_a_picture_that_could_not_be_kept_whole_nothing_stays_and_old_ones_still_make_room(
    tmp_path: Path,
) -> None:
    evidence = Evidence(tmp_path / "evidence", max_mb=0, max_age_days=None)
    shown = inspection(box=BOX)
    evidence.start()
    evidence._items["top", "old"] = replace(item(1.0, 10), stem="old")
    old = evidence.path(evidence.find("top", "old"), "png")
    # A folder where the heat map should be: the picture is written already when that is noticed.
    (tmp_path / "evidence" / "top" / f"{describe(shown).stem}.jpg").mkdir(parents=True)
    old.write_bytes(b"an old picture")
    evidence.keep(shown)
    evidence.stop()
    assert evidence.dropped == 1
    assert [path for path in (tmp_path / "evidence").rglob("*") if path.is_file()] == []


def test_a_frame_that_is_kept_twice_is_written_once(evidence: Evidence) -> None:
    shown = inspection(box=BOX)
    assert evidence.keep(shown) == evidence.keep(shown)
    evidence.stop()
    assert evidence.version == 1


def test_a_disk_that_hangs_does_not_hold_up_the_end(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.start()
    shown = inspection(box=BOX)
    (tmp_path / "top").mkdir()
    hanging = tmp_path / "top" / f".{describe(shown).stem}.jpg.{os.getpid()}"
    os.mkfifo(hanging)  # whoever opens it to write waits for a reader
    for number in range(3):
        evidence.keep(shown if number == 0 else inspection(seq=number, box=BOX))
    evidence.stop(within_s=0.3)
    assert evidence.dropped == 2
    hanging.read_bytes()  # lets the thread go


def test_scores_do_not_wait_for_a_disk_that_hangs(evidence: Evidence, tmp_path: Path) -> None:
    before, shown = kept(evidence), inspection(box=BOX)
    hanging = tmp_path / "evidence" / "top" / f".{describe(shown).stem}.jpg.{os.getpid()}"
    os.mkfifo(hanging)
    evidence.keep(shown)
    while not evidence._filing.locked():
        time.sleep(0.01)
    with pytest.raises(OSError, match="does not answer"):
        evidence.keep_scores(before, b"{}")
    hanging.read_bytes()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_thread_that_died_does_not_hold_up_the_end(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path)
    evidence.start()
    evidence._jobs.put("a bug")  # type: ignore[arg-type]
    assert evidence._thread is not None
    evidence._thread.join()
    for number in range(32):
        evidence.keep(inspection(seq=number, box=BOX))
    evidence.stop(within_s=60)
    assert evidence.dropped == 32


def test_the_oldest_make_room(tmp_path: Path) -> None:
    evidence = Evidence(tmp_path / "evidence", max_mb=0, max_age_days=None)
    evidence.start()
    evidence.keep(inspection(box=BOX))
    evidence.stop()
    assert evidence.items() == []
    assert [p for p in (tmp_path / "evidence").rglob("*") if p.is_file()] == []


def test_old_pictures_go_although_no_new_one_comes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """By our own clock: a camera's may say 1970, or next year."""
    monkeypatch.setattr("stream.evidence._LOOK_EVERY_S", 0.01)
    now = [2_000_000_000.0]
    evidence = Evidence(
        tmp_path / "evidence", max_age_days=1.0, now_s=lambda: now[0], tick_s=lambda: now[0] - 1.9e9
    )
    evidence.start()
    shown = inspection(box=BOX)
    for taken_at in (0.0, 4_000_000_000.0):
        evidence.keep(replace(shown, frame=Frame("top", 1, taken_at, 0.0, shown.frame.pixels)))
    wait_for(lambda: len(evidence.items()) == 2)
    now[0] += 2 * 86400.0
    wait_for(lambda: not evidence.items())
    evidence.stop()


def wait_for(true: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 10
    while not true() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert true()


def test_a_folder_that_can_not_be_made_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(EvidenceError, match="choose another"):
        Evidence(tmp_path / "file" / "evidence").start()


def test_names_sort_by_time() -> None:
    shown = inspection(box=BOX)
    earlier = replace(shown, frame=Frame("top", 1, time.time() - 5, 0.0, shown.frame.pixels))
    assert describe(earlier).stem < describe(shown).stem
