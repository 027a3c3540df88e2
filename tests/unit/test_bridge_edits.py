"""A bridge that runs by hand says when its file was edited, and an unknown one is told before all else."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.cli import main
from config.load import load
from stream.bridges.edits import tell_edits
from stream.endings import end
from tests.puppets import until

FILE = """version: 1
cameras:
  top: {source: {type: pattern}}
bridges:
  plc: {type: modbus, stations: {top: {address: 100}}}
  mes: {type: modbus, stations: {top: {address: 100}}}
"""


class Edited:
    """The file of a bridge that runs, and what was said of its edits."""

    def __init__(self, file: Path, caplog: pytest.LogCaptureFixture) -> None:
        self.file, self._caplog = file, caplog
        file.write_text(FILE)

    def write(self, old: str, new: str) -> None:
        fresh = self.file.with_suffix(".new")
        fresh.write_text(self.file.read_text().replace(old, new))
        fresh.replace(self.file)

    def said(self) -> list[str]:
        return [record.getMessage() for record in self._caplog.records if record.name.endswith("edits")]


@contextlib.asynccontextmanager
async def running(file: Path, caplog: pytest.LogCaptureFixture) -> AsyncIterator[Edited]:
    edited = Edited(file, caplog)
    task = asyncio.create_task(tell_edits("plc", load(file, {}), 0.02))
    await asyncio.sleep(0)
    try:
        yield edited
    finally:
        await end([task])


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("top: {source: {type: pattern}}", "top: {source: {type: pattern}, frames: every}"),
        ("plc: {type: modbus", "plc: {type: modbus, handshake: every"),
    ],
)
async def test_an_edit_that_the_bridge_should_take_up_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, old: str, new: str
) -> None:
    async with running(tmp_path / "cameras.yaml", caplog) as it:
        it.write(old, new)
        await until(lambda: it.said())
    assert it.said() == ["the config file was edited: start bridge plc again, and it takes that up"]


async def test_an_edit_of_something_else_and_a_broken_one_are_not_said(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path / "cameras.yaml", caplog) as it:
        it.write("mes: {type: modbus", "mes: {type: modbus, handshake: every")
        await asyncio.sleep(0.1)
        it.write("version: 1", "version: 1\nnonsense: 1")
        await asyncio.sleep(0.1)
        assert it.said() == []
        it.write("version: 1\nnonsense: 1\ncameras:", "version: 1\nline: other\ncameras:")
        await until(lambda: it.said())


def test_an_unknown_bridge_is_told_also_where_no_line_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "cameras.yaml"
    file.write_text(FILE)
    assert main(["bridge", "plk", "--config", str(file)]) == 2
    told = capsys.readouterr().err.strip().splitlines()
    assert len(told) == 1
    assert "there is no bridge plk in the config file; there is: mes, plc" in told[0]
