"""An edit of the config file is carried out whole or not at all, and said."""

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from config.changes import Changes
from config.load import load
from config.settings import Settings
from stream import live
from stream.endings import end
from stream.events import Event
from stream.live import LiveConfig, waits
from stream.outbox import Outbox
from stream.recorder import Recorder
from stream.web.errors import Refused
from tests.puppets import until

FILE = "version: 1\ncameras:\n  top:\n    source: {type: pattern}\n"
LOOK_S = 0.02


class Line:
    """Notes what it is to carry out; `wrong` is what it objects to."""

    def __init__(self) -> None:
        self.done: list[Changes] = []
        self.wrong: dict[str, str] = {}

    def check(self, changes: Changes) -> dict[str, str]:
        return self.wrong

    async def change(self, changes: Changes) -> None:
        self.done.append(changes)


class Running:
    def __init__(self, folder: Path, meanwhile: str = "") -> None:
        self.file = folder / "cameras.yaml"
        self.line = Line()
        self.events: list[Event] = []
        self.before: list[tuple[Settings, Settings]] = []
        self.outbox = Outbox(folder / "outbox.db")
        recorder = Recorder(self.outbox, site="s", line="l", on_recorded=self.events.extend)
        settings = load(self.file, {})
        if meanwhile:
            self.write(meanwhile)
        self.live = LiveConfig(settings, self.line, recorder, lambda *both: self.before.append(both), LOOK_S)

    def write(self, text: str) -> None:
        """As editors do: a new file takes the old one's place."""
        new = self.file.with_suffix(".new")
        new.write_text(text)
        new.replace(self.file)

    def facts(self) -> list[tuple[str, object]]:
        return [(event.type, event.detail["answer"]) for event in self.events]


@contextlib.asynccontextmanager
async def running(folder: Path, text: str = FILE, meanwhile: str = "") -> AsyncIterator[Running]:
    (folder / "cameras.yaml").write_text(text)
    edited = Running(folder, meanwhile)
    task = asyncio.create_task(edited.live.run())
    try:
        yield edited
    finally:
        await end([task])
        edited.outbox.close()


async def test_a_saved_edit_is_carried_out_and_told(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        it.write(FILE + "  side:\n    source: {type: pattern}\n")
        await until(lambda: it.events)
        assert [changes.added for changes in it.line.done] == [("side",)]
        assert it.facts() == [("system.config", "done")]
        assert it.events[0].reason == "cameras added side"
        assert it.events[0].config_sha256 == it.live.view().sha256


async def test_an_edit_while_the_program_is_starting_is_carried_out_too(tmp_path: Path) -> None:
    async with running(tmp_path, meanwhile=FILE + "  side:\n    source: {type: pattern}\n") as edited:
        await until(lambda: edited.line.done)
        assert edited.line.done[0].added == ("side",)


async def test_a_mistake_that_is_made_while_the_program_is_starting_is_told(tmp_path: Path) -> None:
    async with running(tmp_path, meanwhile=FILE + "    fps: fast\n") as edited:
        await until(lambda: edited.live.view().mistakes)
        assert not edited.line.done


async def test_a_broken_edit_changes_nothing_and_says_where(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as it:
        before = it.live.view().sha256
        it.write(FILE + "    fsp: 3\n")
        await until(lambda: it.live.view().mistakes)
        (mistake,) = it.live.view().mistakes
        assert "cameras.yaml:5: cameras.top.fsp: unknown key, did you mean fps?" in mistake
        assert mistake in caplog.text
        assert it.facts() == [("system.config", "refused")]
        assert it.line.done == [] and it.live.view().sha256 == before


async def test_an_edit_that_cannot_be_read_for_a_bug_of_ours_stops_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def load_badly(file: Path) -> Settings:
        raise RuntimeError("s3" + "cret")

    async with running(tmp_path) as it:
        with monkeypatch.context() as patched:
            patched.setattr(live, "load", load_badly)
            it.write(FILE + "    fps: 3\n")
            for _ in range(2):
                (mistake,) = (await it.live.reload()).mistakes
        assert "can't be read because of a fault in Linewatch (RuntimeError)" in mistake
        assert caplog.text.count("in load_badly") == 1 and "s3cret" not in caplog.text
        assert it.facts() == [("system.config", "refused")]
        await it.live.reload()
        assert [changes.changed for changes in it.line.done] == [("top",)]


async def test_a_broken_edit_is_told_once_and_is_over_when_it_is_mended(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        it.write("version: 1\ncameras: {top: 1}\n")
        await until(lambda: it.live.view().mistakes)
        for _ in range(3):
            assert (await it.live.reload()).mistakes
        it.write(FILE)
        await until(lambda: not it.live.view().mistakes)
        assert it.facts() == [("system.config", "refused")]


async def test_a_file_that_is_gone_for_a_while_stops_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        it.file.unlink()
        await until(lambda: it.live.view().mistakes)
        assert "there is no such file" in it.live.view().mistakes[0]
        it.write(FILE.replace("pattern", "pattern, seed: 2"))
        await until(lambda: it.line.done)
        assert it.line.done[0].changed == ("top",)


async def test_a_file_that_is_being_written_is_not_read(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        whole = FILE + "  side:\n    source: {type: pattern}\n"
        with it.file.open("w") as file:
            for part in (whole[:22], whole[22:60], whole[60:]):
                file.write(part)
                file.flush()
                os.utime(it.file, ns=(0, file.tell()))  # another signature, however coarse the disk's clock
                await asyncio.sleep(LOOK_S * 0.8)
        await until(lambda: it.line.done)
        assert [changes.added for changes in it.line.done] == [("side",)]
        assert it.live.view().mistakes == ()


async def test_what_only_the_line_can_know_is_said_with_its_place_too(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        it.line.wrong = {"top": "nothing is left to inspect"}
        it.write(FILE + "    fps: 3\n")
        await until(lambda: it.live.view().mistakes)
        assert it.live.view().mistakes == (f"{it.file}:3: cameras.top: nothing is left to inspect",)
        assert it.line.done == []


async def test_a_password_that_was_changed_in_its_file_is_taken_up(tmp_path: Path) -> None:
    secret = tmp_path / "pw"
    secret.write_text("old-s3cret\n")
    text = "version: 1\ncameras:\n  top:\n    source: {type: rtsp, url: 'rtsp://h/s', password: {file: pw}}\n"
    async with running(tmp_path, text) as it:
        secret.write_text("new-s3cret\n")
        await until(lambda: it.line.done)
        assert it.line.done[0].changed == ("top",)
        assert it.live.view().sha256 == it.events[0].config_sha256
        ((old, new),) = it.before
        assert old.cameras["top"] != new.cameras["top"]
        assert "s3cret" not in repr(it.events)


async def test_keys_of_the_start_are_named_in_one_sentence_and_change_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    async with running(tmp_path) as it:
        it.write(FILE + "events: {url: 'redis://other:6379'}\n")
        await until(lambda: it.live.view().at_next_start)
        assert waits(("events.url",)) in caplog.text
        assert "events.url: can't be changed while the line runs" in caplog.text
        assert it.line.done == [] and it.events == []


async def test_asking_reads_at_once_and_answers_what_became_of_it(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        it.write(FILE + "    fps: 3\n")
        assert (await it.live.reload()).changed == ("top",)
        assert (await it.live.reload()).changed == ()


async def test_validating_a_text_changes_nothing(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        assert (await it.live.validate(FILE + "    fps: 3\n")).changed == ("top",)
        assert "cameras.yaml:1: version" in (await it.live.validate("version: 2\n")).mistakes[0]
        assert it.line.done == [] and it.live.view().mistakes == ()


async def test_who_asks_while_the_line_ends_gets_an_answer(tmp_path: Path) -> None:
    async with running(tmp_path) as it:
        asking = asyncio.create_task(it.live.reload())
        await asyncio.sleep(0)
    with contextlib.suppress(Refused):
        await asking
    with pytest.raises(Refused):
        await it.live.reload()


async def test_a_bug_of_the_line_is_raised_and_not_hidden(tmp_path: Path) -> None:
    (tmp_path / "cameras.yaml").write_text(FILE)
    it = Running(tmp_path)

    async def change(changes: Changes) -> None:
        raise KeyError("bug")

    it.line.change = change  # type: ignore[method-assign]
    task = asyncio.create_task(it.live.run())
    it.write(FILE + "    fps: 3\n")
    with pytest.raises(KeyError):
        await asyncio.wait_for(task, 5)
    it.outbox.close()
