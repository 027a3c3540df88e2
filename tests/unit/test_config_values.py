"""Values that no path and no address can have are mistakes like any other, with their place."""

from pathlib import Path

import pytest

from config.load import ConfigError, parse
from config.settings import Settings, secrets_of
from stream.ice import rtc_servers


def read(text: str, folder: Path = Path("/etc/linewatch")) -> Settings:
    return parse(f"version: 1\n{text}\n", name="c.yaml", folder=folder, env={"X": "x"})


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("type: folder, path: ~operater-x/parts", "source.path: ~operater-x is nobody's home"),
        ("type: rtsp, url: 'rtsp://h', password: {file: ~operater-x/pw}", "source.password: ~operater-x is"),
        ('type: folder, path: "a\\0b"', "source.path: holds a NUL character"),
        ('type: rtsp, url: "rtsp://h", password: {file: "a\\0b"}', "source.password: holds a NUL character"),
    ],
)
def test_a_path_that_can_be_none_is_a_mistake(source: str, said: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(f"cameras: {{top: {{source: {{{source}}}}}}}")
    assert str(told.value).startswith(f"c.yaml:2: cameras.top.{said}")


@pytest.mark.parametrize(
    "wrong",
    [
        "foo",
        "http://10.0.0.9:3478",
        "stun:",
        "stun://h",
        "stuns:h:1",
        "turn:u@h",
        "stun:h:port",
        "stun:h:99999",
        "stun:h?transport=udp",
    ],
)
def test_an_ice_server_is_a_stun_or_turn_address(wrong: str) -> None:
    for where in (
        "cameras: {top: {source: {type: webrtc, ice_servers: [%s]}}}",
        "web: {webrtc: {ice_servers: [%s]}}",
    ):
        read(where % "'stun:10.0.0.9', 'turns:turn.example:5349?transport=tcp'")
        with pytest.raises(ConfigError, match=r"ice_servers\[0\]: is no address of a STUN or TURN server"):
            read(where % f"'{wrong}'")


def test_a_turn_server_is_asked_with_a_name_and_a_password_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "turn.password").write_text("s3cret\n")
    login = "{url: 'turn:h:3478?transport=tcp', username: lw, credential: {file: turn.password}}"
    settings = read(f"web: {{webrtc: {{ice_servers: ['stun:h', {login}]}}}}", tmp_path)
    assert settings.warnings == () and "s3cret" not in repr(settings)
    stun, turn = rtc_servers(settings.web.webrtc.ice_servers)
    assert (stun.urls, stun.username, stun.credential) == ("stun:h", None, None)
    assert (turn.urls, turn.username, turn.credential) == ("turn:h:3478?transport=tcp", "lw", "s3cret")
    assert [secret.get_secret_value() for secret in secrets_of(settings)].count("s3cret") == 1


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ("url: 'turn:h', username: lw", r"\[0\]: .*username and credential belong together"),
        ("url: 'stun:h', username: lw, credential: {env: X}", r"\[0\]: .*only a TURN server takes"),
        ("url: 'http://h'", r"\[0\].url: is no address of a STUN or TURN server"),
        ("url: 'turn:h', user: lw", r"\[0\].user"),
        ("username: lw", r"\[0\].*url"),
    ],
)
def test_what_is_wrong_with_a_turn_server_is_said(keys: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        read(f"web: {{webrtc: {{ice_servers: [{{{keys}}}]}}}}")


@pytest.mark.parametrize("place", ["h:99999", "h:0", "h:abc", ":554", "[::1"])
@pytest.mark.parametrize(
    "source", ["type: rtsp, url: 'rtsp://%s/s1'", "type: webrtc, mode: whep, url: 'http://%s/s1'"]
)
def test_a_source_that_has_no_host_or_no_port_that_there_can_be_is_a_mistake(place: str, source: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(f"cameras: {{top: {{source: {{{source % place}}}}}}}")
    wish = "expected HOST or HOST:PORT after the ://, with a port from 1 to 65535"
    assert str(told.value) == f"c.yaml:2: cameras.top.source.url: {wish}"


@pytest.mark.parametrize("place", ["cam_1", "10.0.0.9:65535", "[::1]:554", "[fe80::1%25eth0]", "h:"])
def test_a_source_may_leave_its_port_out(place: str) -> None:
    assert read(f"cameras: {{top: {{source: {{type: rtsp, url: 'rtsp://{place}/s1'}}}}}}").cameras


SEVERITIES = {
    "defaults:\n  severity: {major_from_ratio: 3, critical_from_ratio: 2}": (
        "c.yaml:3: defaults.severity.critical_from_ratio: critical_from_ratio is 2, less than "
        "major_from_ratio 3: major would never be reached"
    ),
    "defaults:\n  severity: {major_from_ratio: 3}": (
        "c.yaml:3: defaults.severity.major_from_ratio: critical_from_ratio is 2.5, less than "
    ),
    "cameras:\n  a:\n    source: {type: pattern}\n    severity:\n      critical_from_ratio: 1.2": (
        "c.yaml:6: cameras.a.severity.critical_from_ratio: critical_from_ratio is 1.2, less than "
    ),
    "defaults: {severity: {major_from_area_px: 900}}\n"
    "cameras:\n  a:\n    source: {type: pattern}\n    severity:\n      critical_from_area_px: 40": (
        "c.yaml:7: cameras.a.severity.critical_from_area_px: critical_from_area_px is 40, less than "
    ),
}


@pytest.mark.parametrize("text", SEVERITIES)
def test_a_severity_that_no_defect_could_have_is_a_mistake(text: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(text)
    (line,) = told.value.lines
    assert line.startswith(SEVERITIES[text])


def test_a_camera_may_say_one_limit_of_severity_and_the_defaults_the_other() -> None:
    found = read(
        "defaults: {severity: {critical_from_ratio: 5}}\n"
        "cameras:\n"
        "  a: {source: {type: pattern}, severity: {major_from_ratio: 3}}\n"
        "  b: {source: {type: pattern}, severity: {major_from_ratio: 5, major_from_area_px: 900}}\n"
    )
    assert [camera.severity.major_from_ratio for camera in found.cameras.values()] == [3, 5]


def test_each_pushed_camera_that_waits_for_no_trigger_is_told_with_its_line() -> None:
    cameras = "".join(f"  {name}:\n    source: {{type: pushed}}\n" for name in ("a", "b"))
    with pytest.raises(ConfigError) as told:
        read(f"cameras:\n{cameras}")
    places = [line.split(": its pictures")[0] for line in told.value.lines]
    assert places == ["c.yaml:3: cameras.a.frames", "c.yaml:5: cameras.b.frames"]
    assert len(read(f"defaults: {{frames: every}}\ncameras:\n{cameras}").cameras) == 2


def test_each_camera_that_takes_any_push_is_told() -> None:
    cameras = "cameras: {a: {source: {type: webrtc}}, b: {source: {type: webrtc}}}\n"
    with pytest.raises(ConfigError) as told:
        read(cameras + "web: {listen: '0.0.0.0:80', users_file: users.yaml}")
    places = [line.split(" takes")[0] for line in told.value.lines]
    assert places == ["c.yaml:3: web: camera a", "c.yaml:3: web: camera b"]
