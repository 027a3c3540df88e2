"""Values that no path and no address can have are mistakes like any other, with their place."""

from pathlib import Path

import pytest

from config.load import ConfigError, parse
from config.settings import Settings


def read(text: str) -> Settings:
    return parse(f"version: 1\n{text}\n", name="c.yaml", folder=Path("/etc/linewatch"), env={})


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
    ["foo", "http://10.0.0.9:3478", "stun:", "stun://h", "turn:u@h", "stun:h:port", "stun:h?transport=udp"],
)
def test_an_ice_server_is_a_stun_or_turn_address(wrong: str) -> None:
    for where in (
        "cameras: {top: {source: {type: webrtc, ice_servers: [%s]}}}",
        "web: {webrtc: {ice_servers: [%s]}}",
    ):
        read(where % "'stun:10.0.0.9', 'stuns:h:1', 'turns:turn.example:5349?transport=tcp'")
        with pytest.raises(ConfigError, match=r"ice_servers\[0\]: is no address of a STUN or TURN server"):
            read(where % f"'{wrong}'")
