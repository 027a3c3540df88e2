"""Versions of a model: numbers never used twice, a pointer never half written, a way back."""

import errno
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from engine.versions import (
    VersionError,
    history,
    latest,
    names,
    place,
    promote,
    remove_old,
    replace_file,
    resolve,
    rollback,
    versions,
)


def _draft(models: Path, name: str) -> Path:
    draft = models / f".draft-{name}"
    draft.mkdir(parents=True)
    return draft


def _add(models: Path, name: str = "top") -> int:
    draft = _draft(models, name)
    return int(place(draft, models, name, lambda n: _label(draft, n)).name)


def _label(draft: Path, number: int) -> None:
    (draft / "manifest.json").write_text(str(number))


@pytest.fixture
def three(tmp_path: Path) -> Path:
    """Versions 1, 2, 3 of "top", promoted one after the other."""
    for _ in range(3):
        promote(tmp_path, "top", _add(tmp_path))
    return tmp_path


def test_versions_count_up_from_one(three: Path) -> None:
    assert versions(three, "top") == [1, 2, 3] and names(three) == ["top"]


def test_a_folder_without_a_manifest_is_no_version(three: Path) -> None:
    (three / "top" / "9").mkdir()
    assert versions(three, "top") == [1, 2, 3]


def test_a_number_is_never_used_again(three: Path) -> None:
    (three / "top" / "3" / "manifest.json").unlink()
    (three / "top" / "3").rmdir()
    assert _add(three) == 4


def test_trainers_that_finish_together_get_different_numbers(tmp_path: Path) -> None:
    drafts = [_draft(tmp_path, str(i)) for i in range(16)]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda d: place(d, tmp_path, "top", lambda n: _label(d, n)), drafts))
    assert sorted(int(f.name) for f in found) == list(range(1, 17))
    assert all((f / "manifest.json").read_text() == f.name for f in found)


def test_a_new_version_is_not_the_latest_until_somebody_says_so(three: Path) -> None:
    _add(three)
    assert latest(three, "top") == 3


@pytest.mark.parametrize(("ref", "folder"), [("top", "3"), ("top@latest", "3"), ("top@1", "1")])
def test_a_reference_leads_to_its_folder(three: Path, ref: str, folder: str) -> None:
    assert resolve(three, ref) == three.resolve() / "top" / folder


@pytest.mark.parametrize(
    ("ref", "sentence"),
    [
        ("side", "no model side in .* \\(there is: top\\): train it first"),
        ("top@8", "no version 8 in .*; it has: 1, 2, 3"),
        ("top@new", "is not a model: write NAME"),
        ("../top", "can't be a model's name"),
        ("", "is not a model"),
    ],
)
def test_a_reference_to_nothing_says_what_there_is(three: Path, ref: str, sentence: str) -> None:
    with pytest.raises(VersionError, match=sentence):
        resolve(three, ref)


def test_a_model_that_was_never_promoted_says_how(tmp_path: Path) -> None:
    _add(tmp_path)
    with pytest.raises(VersionError, match="linewatch promote top@1"):
        resolve(tmp_path, "top@latest")


def test_rollback_goes_back_step_by_step_and_then_says_no(three: Path) -> None:
    assert [rollback(three, "top"), rollback(three, "top"), latest(three, "top")] == [2, 1, 1]
    with pytest.raises(VersionError, match="no earlier promoted version"):
        rollback(three, "top")


def test_two_who_saw_the_same_latest_go_back_once(three: Path) -> None:
    assert rollback(three, "top", seen=3) == 2
    with pytest.raises(VersionError, match="Another version is in use meanwhile"):
        rollback(three, "top", seen=3)
    assert latest(three, "top") == 2


def test_rollback_undoes_the_promotion_and_not_the_number(three: Path) -> None:
    promote(three, "top", 1)
    assert rollback(three, "top") == 3
    assert rollback(three, "top") == 2


def test_promoting_after_a_rollback_starts_a_new_way(three: Path) -> None:
    rollback(three, "top")
    promote(three, "top", _add(three))
    assert (latest(three, "top"), rollback(three, "top")) == (4, 2)


def test_promoting_twice_is_one_step_back(three: Path) -> None:
    promote(three, "top", 3)
    assert rollback(three, "top") == 2


def test_rollback_passes_over_a_version_that_was_deleted(three: Path) -> None:
    (three / "top" / "2" / "manifest.json").unlink()
    assert rollback(three, "top") == 1


def test_a_pointer_moved_by_hand_rules_over_the_history(three: Path) -> None:
    (three / "top" / "latest").write_text("2\n")
    assert rollback(three, "top") == 1


def test_a_history_line_cut_short_is_passed_over(three: Path) -> None:
    with (three / "top" / "history.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    assert [m.version for m in history(three, "top")] == [1, 2, 3]
    assert rollback(three, "top") == 2


def test_a_line_after_one_cut_short_still_counts(three: Path) -> None:
    with (three / "top" / "history.jsonl").open("a") as file:
        file.write('{"at": "2026-')
    promote(three, "top", _add(three))
    assert (latest(three, "top"), rollback(three, "top")) == (4, 3)


def test_a_version_that_is_not_there_can_not_be_promoted(three: Path) -> None:
    with pytest.raises(VersionError, match="no version 4"):
        promote(three, "top", 4)
    assert latest(three, "top") == 3


def test_a_broken_pointer_is_a_sentence(three: Path) -> None:
    (three / "top" / "latest").write_text("seven")
    with pytest.raises(VersionError, match="'seven' instead of a version number"):
        latest(three, "top")


def test_readers_never_see_half_a_pointer(three: Path) -> None:
    with ThreadPoolExecutor(4) as pool:
        moves = [pool.submit(promote, three, "top", 1 + i % 3) for i in range(60)]
        seen = {latest(three, "top") for _ in range(500)}
        assert not any(m.exception() for m in moves)
    assert seen <= {1, 2, 3} and len(history(three, "top")) == 63


def test_a_full_disk_is_a_sentence_and_the_old_version_stays(
    three: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(VersionError, match="No space left on device"):
        promote(three, "top", 1)
    assert latest(three, "top") == 3


def test_a_write_that_fails_leaves_the_old_text_and_no_rubbish(tmp_path: Path) -> None:
    replace_file(tmp_path / "latest", "1\n")
    with pytest.raises(UnicodeEncodeError):
        replace_file(tmp_path / "latest", "\ud800")
    assert (tmp_path / "latest").read_text() == "1\n" and len(list(tmp_path.iterdir())) == 1


def test_old_versions_go_but_never_one_that_is_in_use_or_the_way_back(three: Path) -> None:
    for _ in range(4):
        _add(three)
    promote(three, "top", 5)
    assert remove_old(three, "top", 2, in_use={1}) == [2, 4]
    assert versions(three, "top") == [1, 3, 5, 6, 7]
    assert rollback(three, "top") == 3


def test_a_removed_version_leaves_nothing_and_its_number_is_not_used_again(three: Path) -> None:
    (three / "top" / ".gone-x" / "1").mkdir(parents=True)
    assert remove_old(three, "top", 1, in_use=()) == [1]
    assert not list((three / "top").glob(".gone-*"))
    assert _add(three) == 4
