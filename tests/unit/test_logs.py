"""One line a fact, without secrets, and a fact that repeats is said once a second with its count."""

import io
import json
import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from config.logs import OncePerSecond, Redaction, configure
from config.redaction import redacted


@pytest.fixture(autouse=True)
def logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(False)
    structlog.reset_defaults()


def json_lines(out: io.StringIO) -> list[dict[str, object]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_fact_is_one_json_object_with_its_level_time_and_logger() -> None:
    out = io.StringIO()
    configure("info", True, stream=out)
    structlog.get_logger("linewatch.camera").warning("camera is down", camera="top", reason="refused")
    (said,) = json_lines(out)
    assert str(said.pop("at")).endswith("Z")
    assert said == {
        "event": "camera is down",
        "camera": "top",
        "reason": "refused",
        "level": "warning",
        "logger": "linewatch.camera",
    }


def test_the_journal_is_told_how_urgent_each_line_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with (tmp_path / "journal").open("w+") as out:
        told = os.fstat(out.fileno())
        for where, prefixes in (
            (f"{told.st_dev}:{told.st_ino}", ["<4>", "<3>", "<3>"]),
            ("1:2", ["", "", ""]),
        ):
            monkeypatch.setenv("JOURNAL_STREAM", where)
            out.seek(0), out.truncate()
            configure(stream=out)
            logging.getLogger("stream.x").warning("odd")
            logging.getLogger("stream.x").error("worse, in\ntwo lines")
            out.seek(0)
            lines = out.read().splitlines()
            assert len(lines) == 3
            for line, prefix in zip(lines, prefixes, strict=True):
                assert line.startswith(prefix) and line.startswith("<") == bool(prefix)


def test_libraries_that_log_by_the_standard_library_come_out_the_same_way() -> None:
    out = io.StringIO()
    configure("info", True, stream=out)
    logging.getLogger("uvicorn.error").info("started on %s", "rtsp://u:hunter2@h")
    (said,) = json_lines(out)
    assert (said["event"], said["logger"]) == ("started on rtsp://u:***@h", "uvicorn")


def test_what_is_below_the_level_is_not_said_and_chatty_libraries_are_quiet() -> None:
    out = io.StringIO()
    configure("info", False, stream=out)
    structlog.get_logger("linewatch").debug("detail")
    logging.getLogger("aioice.ice").info("candidate pair")
    assert out.getvalue() == ""


def test_a_traceback_is_part_of_its_line_and_holds_no_secret() -> None:
    out = io.StringIO()
    configure("info", True, secrets=[SecretStr("hunter2")], stream=out)
    try:
        raise ValueError("no answer from hunter2")
    except ValueError:
        structlog.get_logger("linewatch").exception("failed")
    (said,) = json_lines(out)
    assert "ValueError: no answer from ***" in str(said["exception"])
    assert "hunter2" not in out.getvalue()


def test_configuring_again_replaces_and_does_not_double() -> None:
    first, second = io.StringIO(), io.StringIO()
    configure("info", True, stream=first)
    configure("info", True, stream=second)
    structlog.get_logger("linewatch").info("once")
    assert (len(json_lines(first)), len(json_lines(second))) == (0, 1)


@settings(max_examples=100, derandomize=True, deadline=None)
@given(secret=st.text("abc19@:/%#?&=+ '\"{}-_.", min_size=4, max_size=16).map(lambda text: f"q7{text}"))
def test_a_known_secret_is_in_no_line_whatever_carries_it(secret: str) -> None:
    event = {
        "event": f"failed with {secret}",
        "url": f"rtsp://u:{secret}@h/s",
        "error": OSError(secret),
        "nested": {"list": [secret, (secret,)], "password": secret},
    }
    said = Redaction([SecretStr(secret)])(None, "info", event)
    assert secret not in str(said)


UNKNOWN = [
    "rtsp://user:hunter2@h/s",
    "redis://:hunter2@h:6379",
    "rtsp://user:hun@ter:hunter2@h/s?x=1",
    "opened 'http://u:hunter2@h' twice",
    "Authorization: Bearer hunter2hunter2",
    "GET /api?token=hunter2&x=1",
    "rtsp://hunter2/99#@127.0.0.1:8554/s1 does not answer",
    "rtsp://h/s1?user=admin&password=hunter2",
    "rtsp://h/s1?usr=admin&pwd=,hunter2",
    "rtsp://h:554/user=admin_password=hunter2_channel=1_stream=0.sdp?real_stream",
    "rtsp://h/admin:hunter2/live: no answer in time",
    "rtsp://h/live/admin:hunter2",
]


@pytest.mark.parametrize("text", UNKNOWN)
def test_a_secret_that_nobody_registered_is_known_by_its_form(text: str) -> None:
    assert "hunter2" not in Redaction().text(text)


@pytest.mark.parametrize(
    "text",
    [
        "rtsp://10.0.0.1:554/s1 answered 404",
        "rtsp://10.0.0.1/cam/realmonitor?channel=1&time=10:30",
        "rtsp://10.0.0.1:1935/vod/mp4:line.mp4: no answer in time",
        "redis+sentinel://a:26379,b:26379/mymaster",
        "stream linewatch:a:b:events at unix:///run/redis/redis:1.sock",
    ],
)
def test_a_plain_address_stays_readable(text: str) -> None:
    assert Redaction().text(text) == text


class Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.said: list[tuple[str, int]] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.said.append((record.getMessage(), getattr(record, "repeated", 0)))


class Clock:
    now_s = 0.0

    def __call__(self) -> float:
        return self.now_s


def say(handler: logging.Handler, text: str, *values: object) -> None:
    handler.handle(logging.LogRecord("a", logging.INFO, "", 0, text, values, None))


def test_a_repeated_fact_is_said_once_a_second_with_its_count() -> None:
    kept, clock = Kept(), Clock()
    handler = OncePerSecond(kept, clock)
    for step in range(30):
        clock.now_s = step * 0.1
        say(handler, "frame %d damaged", step)
    handler.flush()
    assert kept.said == [
        ("frame 0 damaged", 0),
        ("frame 9 damaged", 9),
        ("frame 19 damaged", 10),
        ("frame 29 damaged", 10),
    ]


def test_other_facts_are_said_at_once_and_bring_out_what_was_kept_back() -> None:
    kept, clock = Kept(), Clock()
    handler = OncePerSecond(kept, clock)
    say(handler, "a")
    say(handler, "a")
    say(handler, "b")
    assert kept.said == [("a", 0), ("b", 0)]
    clock.now_s = 5.0
    say(handler, "c")
    assert kept.said[2:] == [("a", 1), ("c", 0)]


def test_the_same_text_about_another_camera_is_another_fact() -> None:
    out = io.StringIO()
    configure("info", True, stream=out)
    log = structlog.get_logger("linewatch.camera")
    for camera in ("top", "side", "top"):
        log.warning("camera is down", camera=camera)
    assert [line["camera"] for line in json_lines(out)] == ["top", "side"]


def test_words_in_the_text_make_another_fact_and_numbers_do_not() -> None:
    target, time_s = Kept(), [0.0]
    log = logging.getLogger("linewatch.test.words")
    log.addHandler(OncePerSecond(target, lambda: time_s[0]))
    log.propagate = False
    for camera, count in (("top", 1), ("side", 1), ("top", 2)):
        log.warning("camera %s lost %d", camera, count)
    assert [text for text, _ in target.said] == ["camera top lost 1", "camera side lost 1"]
    log.handlers.clear()


def test_memory_stays_bounded_when_every_fact_is_new() -> None:
    kept = Kept()
    handler = OncePerSecond(kept, Clock())
    for number in range(3000):
        say(handler, f"fact {number}")
    assert len(kept.said) == 3000
    assert len(handler._facts) <= 1000


@pytest.mark.parametrize("part", ["a.b-", "http://a/b,", "a://", "token_", "/a:b"])
def test_a_long_line_of_somebody_elses_holds_nothing_up(part: str) -> None:
    long = part * (64_000 // len(part))
    began = time.perf_counter()
    assert redacted(f"{long} rtsp://u:secret@h") == f"{long} rtsp://u:***@h"
    assert time.perf_counter() - began < 3.0  # some hundredths; they took up to half a minute
