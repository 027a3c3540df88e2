"""The line is found by its file, by what is left of it, and while it starts."""

import argparse
from pathlib import Path

import pytest

from config.load import ConfigError, parse
from config.settings import Settings
from stream.broker import BrokerError, Endpoint, NotRunning, RunFile, run_file_of
from stream.commands import events
from stream.outbox_file import lock
from stream.running import Starting, remains_of, where, where_despite
from stream.standing import ask

ELSEWHERE = "events: {embedded: {dir: away}, outbox: {path: box.db}}\n"
ERROR = ConfigError(["cameras.yaml:1: no"])


def settings(folder: Path, more: str = "") -> Settings:
    return parse(f"version: 1\n{more}", name="cameras.yaml", folder=folder, env={})


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    events.configure(parser)
    return parser.parse_args(words)


async def test_a_line_that_starts_is_told_from_one_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text("version: 1\n")
    line, words = settings(tmp_path), arguments("--config", str(tmp_path / "cameras.yaml"))
    for find in (lambda: where(line), lambda: events._where(words)):
        with pytest.raises(NotRunning, match="start `linewatch run`"):
            find()
    assert "no Linewatch runs here" in (await ask(line)).text
    with lock(line.events.outbox.path):
        for find in (lambda: where(line), lambda: events._where(words)):
            with pytest.raises(Starting, match="models are being loaded and warmed up"):
                find()
        told = await ask(line)
    assert (told.running, told.text) == (False, "starts: models are being loaded and warmed up")


def test_what_is_left_of_a_file_says_where_its_line_is(tmp_path: Path) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text(f"version: 1\n{ELSEWHERE}cameras: {{top: {{sorce: 3}}, side: 7}}\nwib: 1\n")
    remains = remains_of(file)
    assert remains.is_whole and remains.cameras == ("top", "side")
    left = RunFile(Endpoint("redis://127.0.0.1:1/0"), "a:events", 1, str(tmp_path / "box.db"))
    left.write(tmp_path / "away" / "run.json")
    assert where_despite(ERROR, remains) == left
    file.write_text(f"version: 1\n{ELSEWHERE}cameras: [[\n")
    assert not remains_of(file).is_whole
    with pytest.raises(ConfigError) as refused:
        where_despite(ERROR, remains_of(file))
    assert refused.value.lines[0] == ERROR.lines[0] and "--run-file" in refused.value.lines[1]


@pytest.mark.parametrize("text", ["", "version: 9", "[]", "cameras: top", "site: '*'", "\x00", "events: 3"])
def test_nothing_that_stands_in_a_file_keeps_the_usual_place_from_being_looked_at(
    tmp_path: Path, text: str
) -> None:
    (tmp_path / "cameras.yaml").write_text(text)
    remains = remains_of(tmp_path / "cameras.yaml")
    assert run_file_of(remains.settings.events) == tmp_path / "var/broker/run.json"


def test_the_environment_is_heard_for_a_file_with_mistakes_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LINEWATCH_EVENTS__EMBEDDED__DIR", "there")
    (tmp_path / "cameras.yaml").write_text("version: 1\nwib: 1\n")
    assert run_file_of(remains_of(tmp_path / "cameras.yaml").settings.events) == tmp_path / "there/run.json"


def test_another_broker_is_known_by_the_file_alone(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(
        "version: 1\nsite: a\nevents: {url: 'redis://b:1/0'}\ncameras: {top: 1}"
    )
    found = where_despite(ERROR, remains_of(tmp_path / "cameras.yaml"))
    assert (found.endpoint.url, found.stream) == ("redis://b:1/0", "linewatch:a:line:events")
    assert found.outbox == str(tmp_path / "var/outbox.db")


def test_a_run_file_of_another_version(tmp_path: Path) -> None:
    """As after an update and before the restart, or on the way back."""
    file = tmp_path / "run.json"
    older = '{"endpoint": {"url": "redis://b:1/0"}, "stream": "a:events", "pid": 1}'
    file.write_text(older)
    assert RunFile.read(file).outbox is None
    for newer in (older.replace('{"url"', '{"proxy": 1, "url"'), "[]", "{"):
        file.write_text(newer)
        with pytest.raises(BrokerError, match="another version of Linewatch: ask with the one that runs, or"):
            RunFile.read(file)
