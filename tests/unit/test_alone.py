"""One training of a name at a time, also after one that was killed."""

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from trainer.alone import alone
from trainer.errors import DataError

HOLD = """
import sys
from pathlib import Path
from trainer.alone import alone
with alone(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_training_of_a_name_is_refused_and_another_name_is_not(tmp_path: Path) -> None:
    with alone(tmp_path / "top"):
        with pytest.raises(DataError, match="top is being trained already"), alone(tmp_path / "top"):
            pass
        with alone(tmp_path / "side"):
            pass
    with alone(tmp_path / "top"):
        pass


def test_nothing_is_left_of_a_training_that_put_nothing_there(tmp_path: Path) -> None:
    with alone(tmp_path / "models" / "top"):
        pass
    assert not list(tmp_path.iterdir())
    (tmp_path / "models").mkdir()
    with alone(tmp_path / "models" / "top"):
        (tmp_path / "models" / "top" / "1").mkdir()
    assert [p.name for p in (tmp_path / "models" / "top").iterdir()] == ["1"]


def test_a_killed_training_holds_nothing_and_its_drafts_are_cleared_away(tmp_path: Path) -> None:
    home = tmp_path / "top"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as other:
        assert other.stdout is not None and other.stdout.readline() == b"held\n"
        with pytest.raises(DataError, match="being trained already"), alone(home):
            pass
        other.kill()
    (home / ".training.123.draft").write_bytes(b"half")
    (home / ".training.safetensors").write_bytes(b"whole")
    with alone(home):
        assert sorted(p.name for p in home.iterdir()) == [".training.lock", ".training.safetensors"]


def test_a_version_that_was_half_saved_is_cleared_away_and_one_that_is_being_saved_is_not(
    tmp_path: Path,
) -> None:
    for name, age_s in ((".draft-old", 7200), (".draft-new", 5), ("1", 7200)):
        (tmp_path / "top" / name).mkdir(parents=True)
        (tmp_path / "top" / name / "weights.safetensors").write_bytes(b"half")
        os.utime(tmp_path / "top" / name, (time.time() - age_s,) * 2)
    with alone(tmp_path / "top"):
        pass
    assert sorted(p.name for p in (tmp_path / "top").iterdir()) == [".draft-new", "1"]


def test_a_folder_that_can_not_be_held_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "top").write_text("a file")
    with pytest.raises(DataError, match="top can't be held: File exists"), alone(tmp_path / "top"):
        pass
