"""`linewatch check` and `linewatch capture` against a real camera, as processes of their own."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import cv2
import pytest

from stream.sim.auth import Credentials
from tests.servers import RunningSim, rtsp_sim

SECRET = "s3cr@t:/%#?x"
BIN = Path(sys.executable).parent / "linewatch"


@pytest.fixture(scope="module")
def sim() -> Iterator[RunningSim]:
    with rtsp_sim(credentials=Credentials("inspect", SECRET), fps=10) as running:
        yield running


def config(tmp_path: Path, sim: RunningSim, password: str = SECRET, more: str = "") -> Path:
    (tmp_path / "secret").write_text(password + "\n")
    path = tmp_path / "cameras.yaml"
    path.write_text(
        f"""
version: 1
cameras:
  top:
    source:
      type: rtsp
      url: "{sim.url()}"
      username: inspect
      password: {{file: secret}}
{more}"""
    )
    return path


def linewatch(*words: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run([BIN, *map(str, words)], capture_output=True, text=True, timeout=60, check=False)
    assert SECRET not in done.stdout + done.stderr
    return done


def test_check_says_what_each_camera_and_the_broker_answered(sim: RunningSim, tmp_path: Path) -> None:
    folder = "  side:\n    source: {type: folder, path: nowhere}\n"
    done = linewatch("check", config(tmp_path, sim, more=folder), "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["cameras"]["top"]["ok"]
    assert "320×240" in told["cameras"]["top"]["answer"]
    assert "there is no such folder" in told["cameras"]["side"]["answer"]
    assert told["broker"]["ok"]


def test_check_of_a_wrong_password_says_so_and_strictly_fails(sim: RunningSim, tmp_path: Path) -> None:
    done = linewatch("check", config(tmp_path, sim, password="wr0ng:/pass"), "--strict")
    assert done.returncode == 1
    assert "refuses this user or password (401)" in done.stdout
    assert "wr0ng" not in done.stdout + done.stderr


def test_check_of_a_wrong_file_exits_2_and_tries_nothing(sim: RunningSim, tmp_path: Path) -> None:
    path = config(tmp_path, sim)
    path.write_text(path.read_text().replace("username", "usernam"))
    done = linewatch("check", path)
    assert done.returncode == 2
    assert "cameras.yaml:8: cameras.top.source.usernam" in done.stderr
    assert done.stdout == ""


def test_capture_writes_good_pictures_and_counts(sim: RunningSim, tmp_path: Path) -> None:
    path = config(tmp_path, sim)
    done = linewatch("capture", "top", "--frames", 3, "--every", 0.2, "--config", path, "--json")
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["written"] == 3
    assert isinstance(told["skipped"], dict)
    written = sorted((tmp_path / "var/pictures/top/good").iterdir())
    assert [cv2.imread(str(picture)).shape for picture in written] == [(240, 320, 3)] * 3


def test_capture_of_an_unknown_camera_exits_2(sim: RunningSim, tmp_path: Path) -> None:
    done = linewatch("capture", "tip", "--config", config(tmp_path, sim))
    assert done.returncode == 2
    assert "there are: top" in done.stderr
