"""A value that a command can't use is answered with what is expected, before anything is tried."""

import argparse
import errno
import socket
from pathlib import Path
from unittest.mock import Mock

import pytest

from config.cli import main
from config.load import parse
from stream.commands import camera_sim
from stream.commands.discover import _login, _section
from stream.discovery import Found
from stream.onvif import Device, Stream

WRONG = {
    "events --last -1": "--last: '-1' is no whole number of 1 or more",
    "events --last 0": "--last: '0' is no whole number of 1 or more",
    "events --last few": "--last: 'few' is no whole number of 1 or more",
    "bench --cameras x": "--cameras: 'x' is no whole number of 1 or more",
    "bench --cameras 1,0": "--cameras: '0' is no whole number of 1 or more",
    "bench --max-batch 0": "--max-batch: '0' is no whole number of 1 or more",
    "bench --seconds -1": "--seconds: '-1' is no number of seconds above 0",
    "bench --seconds soon": "--seconds: 'soon' is no number of seconds above 0",
    "camera-sim --host ä..b": "--host: there can be no host of the name 'ä..b'",
    "camera-sim --port 70000": "--port: '70000' is no port from 0 to 65535",
    "camera-sim --seed -5": "--seed: '-5' is no whole number of 0 or more",
    "camera-sim --dwell 0": "--dwell: '0' is no number of seconds above 0",
    "camera-sim --learn-dwell nan": "--learn-dwell: 'nan' is no number of seconds above 0",
    "demo --steps 0": "--steps: '0' is no whole number of 1 or more",
    "demo --frames -1": "--frames: '-1' is no whole number of 1 or more",
    "demo --seconds nan": "--seconds: 'nan' is no number of seconds above 0",
    "discover --seconds soon": "--seconds: 'soon' is no number of seconds from 0.1 to 60",
    "discover --seconds 0": "--seconds: '0' is no number of seconds from 0.1 to 60",
    "discover --yaml --json": "--json: not allowed with argument --yaml",
    "status --run-file r --probe ready": "--probe: not allowed with argument --run-file",
    "events --group mes --last 5": "--last: not allowed with argument --group",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_value_is_told_with_what_is_expected(line: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(line.split()) == 2
    assert capsys.readouterr().err.splitlines()[-1].endswith(f"error: argument {WRONG[line]}")


def test_a_schedule_that_can_not_be_written_is_told_with_its_option(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["camera-sim", "--port", "0", "--schedule", "/dev/null/shown"]) == 2
    assert capsys.readouterr().err == "--schedule /dev/null/shown: can't be written: Not a directory\n"


def test_a_disk_without_room_for_what_the_simulator_prints_is_no_port_that_is_taken(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(
        camera_sim, "_say", Mock(side_effect=OSError(errno.ENOSPC, "No space left on device"))
    )
    assert main(["camera-sim", "--port", "0", "--look", "machined", "--size", "320x240"]) == 1
    assert capsys.readouterr().err.startswith("linewatch camera-sim: no room for what it writes or prints (")


def nobody() -> str:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return f"127.0.0.1:{taken.getsockname()[1]}"


def test_an_address_where_no_camera_answers_is_said_plainly_and_fails(
    capsys: pytest.CaptureFixture[str],
) -> None:
    place = nobody()
    assert main(["discover", place]) == 1
    out, err = capsys.readouterr()
    assert out == f"127.0.0.1  nothing answered there  {place}: Connection refused\n"
    assert err.startswith(f"linewatch: no camera answered at {place}; check the address")


def test_what_is_found_can_stand_in_the_config_file_whatever_it_is_called_and_says_of_itself() -> None:
    stream = Stream("main", "rtsp://10.0.0.5/s1")
    device = Device("Acme\nline: other\x85", "Eye", "1", (stream,))
    places = ["10.0.0.5", "10.0.0.5", "fe80::1%eth0", "Gate_1." + "long" * 20]
    told = [(Found(place, "http://10.0.0.5/onvif/device_service"), device) for place in places]
    found = parse("version: 1\n" + _section(told, None), name="c.yaml", folder=Path("/"), env={})
    assert list(found.cameras)[:3] == ["camera-10-0-0-5", "camera-10-0-0-5-2", "camera-fe80--1-eth0"]
    assert len(found.cameras) == 4 and found.line == "line"


def test_a_password_file_of_a_windows_editor_is_read_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "pw").write_bytes(b"\xef\xbb\xbfp@ss\r\n")
    login = _login(argparse.Namespace(user="inspect", password_file=tmp_path / "pw"))
    assert login is not None and login.password.get_secret_value() == "p@ss"
