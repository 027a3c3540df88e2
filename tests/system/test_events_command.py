"""`linewatch events` prints what is in the stream, to people and to programs."""

import argparse
import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.broker import BrokerError, Endpoint, RunFile
from stream.commands import events as command
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


async def test_a_broker_that_is_not_there_is_a_sentence_without_the_password() -> None:
    where = RunFile(Endpoint("redis://127.0.0.1:1/0", password="hidden"), KEYS.events, 1)
    with pytest.raises(BrokerError, match="can't be reached") as told:
        await command._print(where, arguments())
    assert "hidden" not in str(told.value)
