"""`linewatch events` prints what is in the stream, to people and to programs."""

import argparse
import asyncio
import contextlib
import json
import shlex
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.broker import BrokerError, Endpoint, RunFile
from stream.commands import events as command
from stream.console import linewatch
from stream.endings import end
from stream.events import entry_fields
from stream.outbox import Outbox
from stream.publisher import Publisher
from tests.brokers import KEYS, facts, publishing, until, valkey


@pytest_asyncio.fixture
async def run_file(tmp_path: Path) -> AsyncIterator[RunFile]:
    async with valkey(tmp_path / "broker") as broker, broker.endpoint.client() as client:
        outbox = Outbox(tmp_path / "outbox.db")
        for event in outbox.put(facts(5)):
            fields: dict[object, object] = dict(entry_fields(event.json_text(), 1_700_000_001.0))
            await client.xadd(KEYS.events, fields)  # type: ignore[arg-type]
        await client.xadd(KEYS.events, {"foreign": "1"})
        outbox.close()
        yield RunFile(broker.endpoint, KEYS.events, 1)


def arguments(*words: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    command.configure(parser)
    return parser.parse_args(words)


async def printed(where: RunFile, capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert await command._print(where, arguments(*words)) == 0
    return capsys.readouterr().out.splitlines()


async def test_it_prints_one_json_object_a_line(
    run_file: RunFile, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = await printed(run_file, capsys, "--json")
    assert [json.loads(line)["seq"] for line in lines] == [1, 2, 3, 4, 5]


async def test_it_prints_a_line_for_people(run_file: RunFile, capsys: pytest.CaptureFixture[str]) -> None:
    first, *_ = await printed(run_file, capsys)
    assert "top #1 camera.flicker" in first


async def test_it_prints_the_last_ones(run_file: RunFile, capsys: pytest.CaptureFixture[str]) -> None:
    lines = await printed(run_file, capsys, "--last", "3", "--json")
    assert [json.loads(line)["seq"] for line in lines] == [4, 5]


async def test_a_group_goes_on_where_it_stopped(
    run_file: RunFile, capsys: pytest.CaptureFixture[str]
) -> None:
    assert len(await printed(run_file, capsys, "--group", "mes", "--json")) == 5
    assert await printed(run_file, capsys, "--group", "mes", "--json") == []


async def test_following_outlives_a_broker_that_goes_away(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(command, "_AGAIN_S", 0.01)
    async with valkey(tmp_path / "broker") as broker:
        outbox = Outbox(tmp_path / "outbox.db")
        publisher = Publisher(outbox, broker.endpoint.client, KEYS, maxlen=100)
        where = RunFile(broker.endpoint, KEYS.events, 1)
        told = ""

        def has_printed(text: str) -> bool:
            nonlocal told
            out, err = capsys.readouterr()
            told += out + err
            return text in told

        following = asyncio.create_task(command._print(where, arguments("--follow")))
        async with publishing(publisher):
            outbox.put(facts(1))
            publisher.wake()
            await until(lambda: has_printed("top #1"))
            await broker.stop()
            await until(lambda: has_printed("waiting: the broker can't be reached"))
            await broker.start()
            outbox.put(facts(1))
            await until(lambda: has_printed("top #2"))
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        outbox.close()
    assert told.count("#1 ") == 1


NOWHERE = RunFile(Endpoint("redis://127.0.0.1:1/0", password="hidden"), KEYS.events, 1)


@pytest.mark.parametrize("words", [(), ("--group", "mes")])
async def test_a_broker_that_is_not_there_is_a_sentence_without_the_password(words: tuple[str, ...]) -> None:
    with pytest.raises(BrokerError, match="can't be reached") as told:
        await command._print(NOWHERE, arguments(*words))
    assert "hidden" not in str(told.value)


@pytest.mark.parametrize("words", [("--follow",), ("--follow", "--group", "mes")])
@pytest.mark.parametrize("url", ["redis://127.0.0.1:1/0", "redis+cluster://127.0.0.1:1"])
async def test_who_follows_waits_for_a_broker_that_is_not_there_yet(
    url: str, words: tuple[str, ...], capsys: pytest.CaptureFixture[str]
) -> None:
    where = RunFile(Endpoint(url), KEYS.events, 1)
    following = asyncio.create_task(command._print(where, arguments(*words)))
    await until(lambda: following.done() or "waiting: the broker can't be reached" in capsys.readouterr().err)
    assert not following.done()
    await end([following])


async def test_a_group_that_follows_says_once_that_it_waits(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with valkey(tmp_path / "broker") as broker:
        outbox = Outbox(tmp_path / "outbox.db")
        publisher = Publisher(outbox, broker.endpoint.client, KEYS, maxlen=100)
        where = RunFile(broker.endpoint, KEYS.events, 1)
        told = ""

        def printed_so_often(text: str, times: int) -> bool:
            nonlocal told
            out, err = capsys.readouterr()
            told += out + err
            return told.count(text) == times

        await broker.stop()
        following = asyncio.create_task(command._print(where, arguments("--follow", "--group", "mes")))
        await until(lambda: printed_so_often("waiting: the broker can't be reached", 1))
        await broker.start()
        async with publishing(publisher):
            outbox.put(facts(1))
            publisher.wake()
            await until(lambda: printed_so_often("top #1 ", 1))
            await broker.stop()
            await until(lambda: printed_so_often("waiting: ", 2))
            await broker.start()
            outbox.put(facts(1))
            await until(lambda: printed_so_often("top #2 ", 1))
        following.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await following
        outbox.close()
    assert told.count("waiting: ") == 2


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("| head -1 > /dev/null", ""),
        ("> /dev/full", "the output can't be written: No space left on device\n"),
    ],
)
async def test_an_output_that_fails_is_not_taken_for_the_brokers_trouble(
    tmp_path: Path, to: str, said: str
) -> None:
    async with valkey(tmp_path / "broker") as broker, broker.endpoint.client() as client:
        outbox = Outbox(tmp_path / "outbox.db")
        for event in outbox.put(facts(500)):  # more than a pipe holds
            fields: dict[object, object] = dict(entry_fields(event.json_text(), 1_700_000_001.0))
            await client.xadd(KEYS.events, fields)  # type: ignore[arg-type]
        outbox.close()
        file = tmp_path / "run.json"
        RunFile(broker.endpoint, KEYS.events, 1).write(file)
        line = f"set -o pipefail; {shlex.join(linewatch())} events --run-file {file} --json {to}"
        process = await asyncio.create_subprocess_exec("bash", "-c", line, stderr=asyncio.subprocess.PIPE)
        _, err = await process.communicate()
    assert (process.returncode, err.decode()) == (1, said)
