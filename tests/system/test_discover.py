"""Cameras are found by real multicast on loopback, and asked by real HTTP."""

import json
import socket
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr

from config.cli import main
from config.load import parse
from stream import discovery
from stream.onvif import BadAnswer, Login, NoAnswer, NotAllowed, describe, parse_xml
from tests.onvif_camera import OnvifCamera, serving
from tests.ports import free_port

WHO = Login("inspect", SecretStr("p@:/%#? <&>ü"))


def guarded(**more: object) -> OnvifCamera:
    return OnvifCamera(WHO.username, WHO.password.get_secret_value(), **more)  # type: ignore[arg-type]


def test_a_camera_that_answers_a_probe_is_listed_once() -> None:
    port = free_port()
    with serving(OnvifCamera(listed="10.9.9.9"), port) as camera:
        (found,) = discovery.probe(1.0, port=port)
        assert (found.name, found.hardware) == ("Acme Eye", "Eye 3")
        # The host that answered, not the one that it names: nobody else sees a proof of our password.
        assert found.service == f"http://{found.address}:{camera.port}/onvif/device_service"


def test_its_streams_are_told_the_largest_first_and_without_passwords() -> None:
    with serving(OnvifCamera()) as camera:
        device = describe(camera.service)
    assert (device.maker, device.model) == ("Acme", "Eye 3")
    assert [(s.profile, s.url, s.codec, s.width, s.fps) for s in device.streams] == [
        ("main", "rtsp://127.0.0.1:554/p1?a=1&b=2", "H264", 1920, 25.0),
        ("sub", "rtsp://127.0.0.1:554/p2?a=1&b=2", "H264", 640, 25.0),
    ]


@pytest.mark.parametrize("clock_off_s", [0.0, -86_400.0 * 365, 3600.0])
def test_a_login_is_proven_by_the_camera_s_own_clock_and_the_password_is_never_sent(
    clock_off_s: float,
) -> None:
    with serving(guarded(clock_off_s=clock_off_s)) as camera:
        assert len(describe(camera.service, WHO).streams) == 2
    assert camera.asked[0] == "GetSystemDateAndTime"
    assert not any(b"p@:/" in body for body in camera.bodies)


def test_who_has_no_login_or_a_wrong_one_is_told_so() -> None:
    with serving(guarded()) as camera:
        with pytest.raises(NotAllowed, match="name one with --user"):
            describe(camera.service)
        with pytest.raises(NotAllowed, match="refuses this user or password"):
            describe(camera.service, Login("inspect", SecretStr("wr0ng")))


def test_a_port_where_nobody_listens_and_one_that_speaks_no_onvif_are_told_apart() -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        where = f"http://127.0.0.1:{mute.getsockname()[1]}/onvif/device_service"
        with pytest.raises(NoAnswer):
            describe(where, timeout_s=0.2)
    with pytest.raises(NoAnswer, match="refused"):
        describe(where)
    for wrong in (b"", b"<html>", b'<!DOCTYPE x [<!ENTITY a "b">]><x/>', b"\xff\xfe"):
        with pytest.raises(BadAnswer):
            parse_xml(wrong)


@given(st.binary(max_size=400))
def test_whatever_answers_a_probe_is_no_crash(answer: bytes) -> None:
    assert discovery.read_match(answer, "10.0.0.1", "urn:uuid:1") is None


def match(addresses: str) -> bytes:
    message = "<RelatesTo>urn:uuid:1</RelatesTo>"
    return f"<e>{message}<XAddrs>{addresses}</XAddrs></e>".encode()


@pytest.mark.parametrize("wrong", ["http://[fe80::1/onvif", "http://[]/onvif", "http://10.0.0.1:port/onvif"])
def test_an_address_that_is_none_hides_no_other_one_and_is_no_crash(wrong: str) -> None:
    assert discovery.read_match(match(wrong), "10.0.0.1", "urn:uuid:1") is None
    found = discovery.read_match(match(f"{wrong} http://10.0.0.5/right"), "10.0.0.1", "urn:uuid:1")
    assert found is not None and found.service == "http://10.0.0.1/right"


def test_a_media_service_at_no_address_is_a_bad_answer() -> None:
    said = pytest.raises(BadAnswer, match=r"127\.0\.0\.1:\d+ names an address of its media service")
    with serving(OnvifCamera(listed="[fe80::1")) as camera, said:
        describe(camera.service)


def test_a_host_name_that_can_be_none_is_said() -> None:
    with pytest.raises(NoAnswer, match="there can be no host of that name"):
        describe(f"http://{'x' * 64}.example/onvif/device_service")


def test_the_command_prints_a_camera_a_line_and_no_password(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "pw").write_text(WHO.password.get_secret_value() + "\n", encoding="utf-8")
    with serving(guarded()) as camera, serving(OnvifCamera("other")) as other:
        hosts = [f"127.0.0.1:{camera.port}", f"127.0.0.1:{other.port}"]
        login = ["--user", WHO.username, "--password-file", str(tmp_path / "pw")]
        assert main(["discover", "--json", *login, *hosts]) == 0
        out = capsys.readouterr().out
        first, second = (json.loads(line) for line in out.splitlines())
        assert (first["model"], first["streams"][0]["url"]) == ("Eye 3", "rtsp://127.0.0.1:554/p1?a=1&b=2")
        assert second["streams"] == [] and "refuses" in second["error"]
        assert main(["discover", *login, *hosts]) == 0
        out += capsys.readouterr().out
        assert main(["discover", "--yaml", *login, *hosts]) == 0
        section = capsys.readouterr().out
    for secret in ("p@:/", "s3cret"):
        assert secret not in out + section
    section = section.replace("PATH", str(tmp_path / "pw"))
    (camera_,) = parse("version: 1\n" + section, name="x", folder=tmp_path, env={}).cameras.values()
    assert camera_.source.url == "rtsp://127.0.0.1:554/p1?a=1&b=2"  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--user", "x"], "go together"),
        (["rtsp://h/x"], "expected HOST"),
        (["user:pw@h"], "expected HOST"),
        (["[::1"], "expected HOST"),
        (["10.0.0.1:70000"], "expected HOST"),
        (["a b"], "expected HOST"),
        (["--user", "x", "--password-file", "/nowhere"], "/nowhere"),
    ],
)
def test_the_command_refuses_what_it_cannot_ask(
    arguments: list[str], said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["discover", *arguments]) == 2
    out, err = capsys.readouterr()
    assert out == "" and said in err and "pw@" not in err and err.count("\n") == 1


def test_nobody_there_is_said_and_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(discovery, "PORT", free_port())
    monkeypatch.setattr(discovery, "probe", lambda seconds: [])
    assert main(["discover", "--seconds", "0.2"]) == 1
    assert "no camera answered within 0.2 s" in capsys.readouterr().err


def test_a_section_without_a_camera_is_one_that_the_config_file_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def cameras(*arguments: str) -> int:
        main(["discover", "--yaml", *arguments])
        section = capsys.readouterr().out
        return len(parse("version: 1\n" + section, name="x", folder=tmp_path, env={}).cameras)

    with serving(guarded()) as camera:
        assert cameras(f"127.0.0.1:{camera.port}") == 0
    monkeypatch.setattr(discovery, "probe", lambda seconds: [])
    assert cameras() == 0
