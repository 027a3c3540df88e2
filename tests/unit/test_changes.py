"""What differs between two settings, and when it takes effect."""

from pathlib import Path

import pytest

from config.changes import compare, unsafe_pushes
from config.load import parse
from config.settings import Settings, config_sha256

FILE = """
version: 1
defaults: {fps: 5}
cameras:
  top: {source: {type: pattern}}
  side: {source: {type: pattern}, fps: 8}
  spare: {source: {type: pattern}, enabled: false}
events: {url: "redis://broker:6379", password: one}
"""


def read(text: str = FILE) -> Settings:
    return parse(text, name="cameras.yaml", folder=Path("/nowhere"), env={})


def edited(*edits: tuple[str, str]) -> Settings:
    text = FILE
    for old, new in edits:
        assert old in text
        text = text.replace(old, new)
    return read(text)


def test_the_same_file_changes_nothing() -> None:
    changes = compare(read(), read("# said better\n" + FILE))
    assert not changes.any and not changes.at_next_start
    assert (changes.added, changes.removed, changes.changed) == ((), (), ())


def test_cameras_are_added_removed_and_changed_by_name() -> None:
    changes = compare(read(), edited(("  top:", "  front:"), ("fps: 8", "fps: 9")))
    assert (changes.added, changes.removed, changes.changed) == (("front",), ("top",), ("side",))


def test_disabled_is_removed_and_enabled_is_added() -> None:
    changes = compare(
        read(),
        edited(
            (", enabled: false", ""),
            ("top: {source: {type: pattern}", "top: {enabled: false, source: {type: pattern}"),
        ),
    )
    assert (changes.added, changes.removed, changes.changed) == (("spare",), ("top",), ())


def test_a_default_touches_the_cameras_that_don_t_say_otherwise() -> None:
    changes = compare(read(), edited(("{fps: 5}", "{fps: 6}")))
    assert changes.changed == ("top",)


def test_a_bridges_own_options_wait_too() -> None:
    bridge = "bridges: {plc: {type: modbus, stations: {top: {address: %d}}}}\n"
    changes = compare(read(FILE + bridge % 100), read(FILE + bridge % 200))
    assert changes.at_next_start == ("bridges.plc.stations.top.address",)


def test_what_was_decided_at_the_start_waits_and_is_named_without_its_value() -> None:
    changes = compare(
        read(),
        edited(("broker:6379", "other:6379"), ("password: one", "password: two"), ("{fps: 5}", "{fps: 6}")),
    )
    assert changes.at_next_start == ("events.url", "events.password")
    assert changes.after.events == read().events
    assert changes.after.defaults.fps == 6


def test_only_what_is_in_force_counts_for_the_checksum() -> None:
    changes = compare(read(), edited(("broker:6379", "other:6379")))
    assert config_sha256(changes.after) == config_sha256(read())
    assert not changes.any


def test_what_waits_is_named_again_after_every_edit() -> None:
    first = compare(read(), edited(("broker:6379", "other:6379")))
    second = compare(first.after, edited(("broker:6379", "other:6379"), ("fps: 8", "fps: 9")))
    assert second.at_next_start == ("events.url",) and second.changed == ("side",)


@pytest.mark.parametrize(("listen", "cameras"), [("0.0.0.0:80", ["pushed"]), ("127.0.0.1:80", [])])
def test_a_push_without_a_token_is_judged_by_where_the_page_listens_now(
    listen: str, cameras: list[str]
) -> None:
    running = read(FILE + f'web: {{listen: "{listen}", users_file: users}}\n')
    wish = read(FILE.replace("cameras:", "cameras:\n  pushed: {source: {type: webrtc}}"))
    assert unsafe_pushes(compare(running, wish).after) == cameras
