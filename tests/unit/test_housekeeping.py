"""Which good pictures have to go, and that nothing else does."""

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.housekeeping import Stored, good_pictures, overdue, tidy_models, tidy_pictures
from stream.steady_days import SteadyDays

AGAIN = settings(derandomize=True, max_examples=60, deadline=None)
STORED = st.lists(st.tuples(st.integers(0, 100), st.integers(1, 50)), max_size=12)
DAY_S = 86400.0


def stored(ages_and_sizes: list[tuple[int, int]]) -> list[Stored]:
    return [Stored(Path(f"{i}.png"), float(at), size) for i, (at, size) in enumerate(ages_and_sizes)]


@AGAIN
@given(STORED, st.integers(0, 300))
def test_what_stays_fits_and_is_newer_than_what_goes(seen: list[tuple[int, int]], room: int) -> None:
    pictures = stored(seen)
    gone = overdue(pictures, 100.0, max_bytes=room, max_age_s=None)
    left = [picture for picture in pictures if picture not in gone]
    assert sum(p.size_bytes for p in left) <= room
    assert all(g.at <= p.at for g in gone for p in left)
    # Not one too many: the last that went would not have fitted.
    assert not gone or sum(p.size_bytes for p in left) + gone[-1].size_bytes > room


@AGAIN
@given(STORED, st.integers(0, 100))
def test_with_room_enough_exactly_what_is_too_old_goes(seen: list[tuple[int, int]], age: int) -> None:
    gone = overdue(stored(seen), 100.0, max_bytes=10**6, max_age_s=float(age))
    assert sorted(p.at for p in gone) == sorted(float(at) for at, _ in seen if 100 - at > age)


def test_what_a_wrong_clock_dated_in_the_future_goes_before_what_comes_now() -> None:
    ahead, now, older = stored([(10_000, 10), (100, 10), (50, 10)])
    assert overdue([ahead, now, older], 100.0, max_bytes=20, max_age_s=None) == [ahead]
    assert overdue([ahead, now, older], 100.0, max_bytes=10, max_age_s=None) == [ahead, older]


def test_one_that_is_dated_in_the_future_keeps_none_that_is_too_old() -> None:
    ahead, old = stored([(10_000, 10), (5, 10)])
    assert overdue([ahead, old], 100.0, max_bytes=1000, max_age_s=50.0) == [old]


def test_ages_are_not_believed_for_a_day_after_the_clock_was_set() -> None:
    days = SteadyDays("pictures")
    assert not days.are(1000.0, 0.0) and not days.are(4599.0, 3599.0), "the machine may have started with it"
    assert days.are(4600.0, 3600.5)
    assert not days.are(10 * DAY_S, 3601.0)
    assert not days.are(4602.0, 3602.0)  # and back again
    assert not days.are(4602.0 + DAY_S - 1, 3601.0 + DAY_S)
    assert days.are(4602.0 + DAY_S, 3602.0 + DAY_S)


def picture(folder: Path, camera: str, name: str, age_days: float, now: float) -> Path:
    path = folder / camera / "good" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(b"x" * 1_000_000)
    os.utime(path, (now - age_days * DAY_S,) * 2)
    return path


def test_only_pictures_in_good_folders_are_removed(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    old = picture(tmp_path, "top", "a.png", 40, now)
    new = picture(tmp_path, "top", "b.png", 1, now)
    notes = picture(tmp_path, "top", "notes.txt", 400, now)
    elsewhere = tmp_path / "top" / "test" / "c.png"
    elsewhere.parent.mkdir()
    elsewhere.write_bytes(b"x")
    os.utime(elsewhere, (0, 0))
    assert tidy_pictures(tmp_path, now, max_mb=100, max_age_days=30) == 1
    assert [path.exists() for path in (old, new, notes, elsewhere)] == [False, True, True, True]


def test_all_cameras_share_the_room_and_the_oldest_go_first(tmp_path: Path) -> None:
    now = 1_000_000_000.0
    paths = [
        picture(tmp_path, camera, "a.png", age, now) for camera, age in (("top", 3), ("side", 2), ("x", 1))
    ]
    assert tidy_pictures(tmp_path, now, max_mb=2, max_age_days=None) == 1
    assert [path.exists() for path in paths] == [False, True, True]


def test_a_link_to_nothing_hides_no_picture(tmp_path: Path) -> None:
    made = [picture(tmp_path, "top", f"{i}.png", 1, 0.0) for i in range(20)]
    (made[0].parent / "moved-away.png").symlink_to(tmp_path / "nowhere.png")
    assert sorted(stored.path for stored in good_pictures(made[0].parent)) == sorted(made)


def test_pictures_that_can_not_be_removed_keep_no_other_and_are_one_sentence(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    now = 100 * DAY_S
    old = picture(tmp_path, "top", "old.png", 40, now)
    folders = [old.with_name(f"no-file-{i}.png") for i in range(3)]
    for folder in folders:
        folder.mkdir()
        os.utime(folder, (0.0, 0.0))
    assert tidy_pictures(tmp_path, now, max_mb=100, max_age_days=30) == 1
    assert not old.exists() and all(folder.is_dir() for folder in folders)
    (said,) = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert said.startswith("3 old good pictures can't be removed")


def test_folders_that_are_not_there_are_fine(tmp_path: Path) -> None:
    assert tidy_pictures(tmp_path / "none", 0.0, max_mb=1, max_age_days=1) == 0
    assert tidy_models(tmp_path / "none", 2, {}) == 0
