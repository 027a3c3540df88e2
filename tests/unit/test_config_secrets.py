"""A secret is never in a message, a text, a checksum or a warning, wherever the operator put it."""

import json
import os
import traceback
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from config.load import ConfigError, parse
from config.settings import Settings, config_sha256
from config.sources import RtspSource
from config.url import CameraUrl, split_credentials

# Passwords as people choose them: everything that has a meaning in a URL or in YAML.
PASSWORDS = st.text("abcXYZ019@:/%#?&=+ '\"*!{}[]|>-_.,~", min_size=1, max_size=20).map(
    lambda text: f"q7{text}7q"
)

# Where a password may stand, rightly or wrongly; `%s` is the password as a JSON text, which YAML reads.
PLACES = [
    "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', password: %s}}}",
    "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', pasword: %s}}}",
    "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', password: [%s]}}}",
    "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', password: {fil: %s}}}}",
    "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s', password: {file: x, env: %s}}}}",
    "cameras: {a: {source: {type: rtsp, url: [%s]}}}",
    "cameras: {a: {source: {type: webrtc, mode: whep, token: %s}}}",
    "cameras: {a: {source: {type: none, password: %s}}}",
    "cameras: {a: {source: {password: %s}}}",
    "events: {url: 'http://h', password: %s}",
    "events: {password: %s, maxlen: 0}",
    "bridges: {b: {type: none, token: %s}}",
    "password: %s",
]


def read(text: str, env: dict[str, str] | None = None, folder: Path = Path("/etc/lw")) -> Settings:
    return parse("version: 1\n" + text, name="cameras.yaml", folder=folder, env=env or {})


def everything_said(text: str, env: dict[str, str] | None = None) -> str:
    """All that reading `text` says: the error with its traceback, or the settings' warnings and texts."""
    try:
        found = read(text, env)
    except ConfigError as error:
        return "".join(traceback.format_exception(error)) + repr(error)
    source = next(iter(found.cameras.values())).source if found.cameras else None
    said = [*found.warnings, repr(found), str(found), found.model_dump_json(), config_sha256(found)]
    return "\n".join(said) + (str(source.camera_url()) if isinstance(source, RtspSource) else "")


@pytest.mark.parametrize("place", PLACES)
@settings(max_examples=15, derandomize=True, deadline=None)
@given(password=PASSWORDS)
def test_no_message_holds_a_password_wherever_it_stands(place: str, password: str) -> None:
    assert password not in everything_said(place % json.dumps(password))


@pytest.mark.parametrize("url", ["rtsp://u:%s@h/s", "http://u:%s@h/s", "u:%s@h"])
@settings(max_examples=15, derandomize=True, deadline=None)
@given(password=PASSWORDS)
def test_no_message_holds_a_password_that_stands_in_an_address(url: str, password: str) -> None:
    place = "cameras: {a: {source: {type: rtsp, url: %s}}}"
    assert password not in everything_said(place % json.dumps(url % password))


@settings(max_examples=15, derandomize=True, deadline=None)
@given(password=PASSWORDS)
def test_no_message_holds_a_password_from_the_environment(password: str) -> None:
    right = {"LINEWATCH_CAMERAS__A__SOURCE__PASSWORD": password}
    wrong = {"LINEWATCH_CAMERAS__A__SOURCE__PASWORD": password, "LINEWATCH_EVENTS__PASSWORD__FIL": password}
    place = "cameras: {a: {source: {type: rtsp, url: 'rtsp://h/s'}}}"
    assert password not in everything_said(place, right)
    assert password not in everything_said(place, wrong)


@pytest.mark.parametrize(
    "text", ["*hunter2", "!hunter2", "@hunter2", "`hunter2", "'hunter2", "%hunter2", "12345"]
)
def test_a_password_without_quotes_that_breaks_the_yaml_is_not_repeated(text: str) -> None:
    with pytest.raises(ConfigError, match=r"cameras.yaml:\d") as caught:
        read(f"events: {{password: {text}}}")
    assert "hunter2" not in str(caught.value)
    assert "12345" not in str(caught.value)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(user=PASSWORDS, password=PASSWORDS)
def test_the_revealed_address_gives_user_and_password_back_whatever_they_hold(
    user: str, password: str
) -> None:
    found = read(
        "cameras: {a: {source: {type: rtsp, url: 'rtsp://cam:554/s?x=1#y', "
        f"username: {json.dumps(user)}, password: {{env: P}}}}}}}}",
        {"P": password},
    )
    source = found.cameras["a"].source
    assert isinstance(source, RtspSource)
    url = source.camera_url()
    parts = urlsplit(url.reveal())
    assert (parts.hostname, parts.port) == ("cam", 554)
    assert (unquote(parts.username or ""), unquote(parts.password or "")) == (user, password)
    assert password in user or password not in f"{url} {url!r}"


def test_a_secret_file_is_read_without_its_last_newline_and_counts_from_the_files_folder(
    tmp_path: Path,
) -> None:
    (tmp_path / "top").write_text("p@ss w\n")
    found = read("events: {password: {file: top}}", folder=tmp_path)
    assert found.events.password is not None
    assert found.events.password.get_secret_value() == "p@ss w"
    assert found.warnings == ()


def test_a_secret_file_of_a_windows_editor_is_read_without_its_mark(tmp_path: Path) -> None:
    (tmp_path / "top").write_bytes(b"\xef\xbb\xbfp@ss w\r\n")
    (tmp_path / "empty").write_bytes(b"\xef\xbb\xbf\r\n")
    password = read("events: {password: {file: top}}", folder=tmp_path).events.password
    assert password is not None and password.get_secret_value() == "p@ss w"
    with pytest.raises(ConfigError, match="empty is empty"):
        read("events: {password: {file: empty}}", folder=tmp_path)


@pytest.mark.parametrize("written", ["", "#abc", "&abc", "null"])
def test_a_secret_without_a_value_is_a_mistake(written: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(
            f"events:\n  password: {written}\n"
            "cameras:\n  a:\n    source:\n      type: webrtc\n      token:\n"
            "bridges:\n  b:\n    type: webhook\n    url: 'http://h'\n    secret:\n"
        )
    wish = "is empty; put it in quotes, or leave the key out"
    assert told.value.lines == (
        f"cameras.yaml:3: events.password: {wish}",
        f"cameras.yaml:8: cameras.a.source.token: {wish}",
        f"cameras.yaml:13: bridges.b.secret: {wish}",
    )


def test_a_password_that_is_no_utf8_is_a_mistake_that_says_where() -> None:
    latin1 = os.fsdecode("Prüfung-12".encode("latin-1"))
    with pytest.raises(ConfigError) as told:
        read("events: {password: {env: PW}}", {"PW": latin1})
    assert str(told.value) == (
        "cameras.yaml:2: events.password: the environment variable PW is not UTF-8 text; set it in UTF-8, or "
        "use {file: PATH}"
    )
    with pytest.raises(ConfigError) as told:
        read("site: s", {"LINEWATCH_EVENTS__PASSWORD": latin1})
    assert str(told.value) == (
        "environment LINEWATCH_EVENTS__PASSWORD: events.password: is not UTF-8 text, expected one that is, "
        "or {file: PATH}"
    )


def test_the_environment_may_give_or_take_a_secret_that_the_file_leaves_empty() -> None:
    given = read("events: {password: }", {"LINEWATCH_EVENTS__PASSWORD": "hunter2"}).events.password
    assert given is not None and given.get_secret_value() == "hunter2"
    assert (
        read("events: {password: {env: P}}", {"LINEWATCH_EVENTS__PASSWORD": "null"}).events.password is None
    )


def test_a_literal_secret_that_a_comment_cuts_short_is_warned_of() -> None:
    (said,) = read("events:\n  password: ab #c\n").warnings
    assert said == (
        "cameras.yaml:3: events.password: a literal secret, and what follows the # is no part of it; put it "
        "in quotes"
    )
    assert "better {file: PATH}" in read("events:\n  password: 'ab #c' # not this\n").warnings[0]


def test_a_secret_that_is_not_there_is_said_with_where_it_was_looked_for(tmp_path: Path) -> None:
    (tmp_path / "empty").write_text("\n")
    text = (
        "events: {password: {file: top}}\n"
        "cameras:\n"
        "  a: {source: {type: rtsp, url: 'rtsp://h/s', password: {env: NOPE}}}\n"
        "  b: {source: {type: rtsp, url: 'rtsp://h/s', password: {file: empty}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        read(text, folder=tmp_path)
    assert caught.value.lines == (
        f"cameras.yaml:2: events.password: secret file {tmp_path}/top can't be read: "
        "No such file or directory",
        "cameras.yaml:4: cameras.a.source.password: the environment variable NOPE is not set or empty",
        f"cameras.yaml:5: cameras.b.source.password: secret file {tmp_path}/empty is empty",
    )


def test_a_literal_password_works_with_a_warning_that_names_its_line() -> None:
    found = read("events: {password: hunter2}")
    assert found.warnings == (
        "cameras.yaml:2: events.password: a literal secret, better {file: PATH} or {env: NAME}",
    )
    assert found.events.password is not None
    assert found.events.password.get_secret_value() == "hunter2"


def test_credentials_inside_an_address_move_out_of_it_with_a_warning() -> None:
    found = read("events: {url: 'rediss://u:hunter2@h:6380/0'}")
    assert (found.events.url, found.events.username) == ("rediss://h:6380/0", "u")
    assert found.events.password is not None
    assert found.events.password.get_secret_value() == "hunter2"
    assert "better in the keys username and password" in found.warnings[0]


HIDDEN = {
    "rtsp://h/s1?user=admin&password=hunter2": "rtsp://h/s1?user=admin&password=***",
    "rtsp://h:554/user=admin&password=hunter2&channel=1": "rtsp://h:554/user=admin&password=***&channel=1",
    "rtsp://h:554/user=admin_password=hunter2_channel=1.sdp": "rtsp://h:554/user=admin_password=***",
    "rtsp://h/admin:hunter2/live": "rtsp://h/admin:***/live",
    "rtsp://inspect:12345/hunter2@h/s": "rtsp://inspect/***",  # for all we know 12345 is a port
}


@pytest.mark.parametrize("url", HIDDEN)
def test_a_secret_in_the_path_or_query_of_an_address_is_hidden_and_warned_of(url: str) -> None:
    found = read(f"cameras:\n  a:\n    source:\n      type: rtsp\n      url: '{url}'\n")
    source = found.cameras["a"].source
    assert isinstance(source, RtspSource)
    assert source.camera_url().reveal() == url
    assert source.camera_url().url == str(source.camera_url()) == HIDDEN[url]
    (said,) = found.warnings
    assert said.startswith("cameras.yaml:6: cameras.a.source.url: a secret stands inside the address itself")
    assert "hunter2" not in said


def test_an_address_with_an_at_in_its_path_keeps_the_host_that_a_certificate_is_checked_for() -> None:
    url = CameraUrl("rtsps://[::1]:322/live@2", "u", SecretStr("hunter2"))
    assert (url.url, str(url)) == ("rtsps://[::1]/***", "rtsps://u:***@[::1]/***")
    assert url.reveal() == "rtsps://u:hunter2@[::1]:322/live@2"


UNCLEAR = {
    "cameras:\n  a:\n    source:\n      type: rtsp\n      url: 'rtsp://%s@127.0.0.1:8554/s1'": (
        "cameras.a.source.url: user and password belong into their own keys username and password"
    ),
    "cameras:\n  a:\n    source: {type: webrtc, mode: whep,\n\n      url: 'http://%s@h/whep'}": (
        "cameras.a.source.url: user and password belong into their own key token"
    ),
    "\n\nevents:\n  maxlen: 1000\n  url: 'redis://%s@127.0.0.1:6379/0'": (
        "events.url: user and password belong into their own keys username and password"
    ),
}


@pytest.mark.parametrize("place", UNCLEAR)
@pytest.mark.parametrize("login", ["inspect:hun@ter2/99#", "inspect:hun@ter2#", "inspect:hun@/ter2"])
def test_a_password_that_can_not_be_told_from_the_host_is_a_mistake(place: str, login: str) -> None:
    with pytest.raises(ConfigError) as told:
        read(place % login)
    assert told.value.lines == (f"cameras.yaml:6: {UNCLEAR[place]}, not into the address",)


SPLITS = {
    "rtsp://h/s": ("rtsp://h/s", None, None),
    "rtsp://h:554/s": ("rtsp://h:554/s", None, None),
    "rtsp://u@h/s": ("rtsp://h/s", "u", None),
    "rtsp://u:p@h/s": ("rtsp://h/s", "u", "p"),
    "rtsp://u:p%40x@h/s": ("rtsp://h/s", "u", "p@x"),
    "rtsp://u:p@x@h/s": ("rtsp://h/s", "u", "p@x"),
    "rtsp://u:p/x?#@h/s": ("rtsp://h/s", "u", "p/x?#"),
    "rtsp://h:554/a@b": ("rtsp://h:554/a@b", None, None),
    "rtsp://h/a@b": ("rtsp://h/a@b", None, None),
    "redis://:p@h": ("redis://h", None, "p"),
    "rtsp://[::1]:554/a@b": ("rtsp://[::1]:554/a@b", None, None),
}


@pytest.mark.parametrize("url", SPLITS)
def test_an_address_is_split_where_its_credentials_end(url: str) -> None:
    split = split_credentials(url)
    password = None if split.password is None else split.password.get_secret_value()
    assert (split.url, split.username, password) == SPLITS[url]


def test_a_camera_address_shows_the_user_and_stars() -> None:
    url = CameraUrl("rtsp://h/s", "u", SecretStr("hunter2"))
    assert repr(url) == "CameraUrl('rtsp://u:***@h/s')"
    assert url.reveal() == "rtsp://u:hunter2@h/s"
