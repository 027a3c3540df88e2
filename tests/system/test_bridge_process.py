"""`linewatch bridge` as a process of its own: killed at any moment, started twice, started by the line."""

import asyncio
import contextlib
import os
import random
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import pytest_asyncio

from config.load import load
from stream import claim
from stream.bridges import children
from stream.bridges import link as bridge_link
from stream.bridges.children import BridgeProcesses
from stream.bridges.link import MOST_WAITING, LineLink, Place
from stream.bridges.process import Bridge, BridgeError
from stream.bridges.report import Report
from stream.claim import Taken
from stream.console import linewatch
from tests.bridgeline import BridgeLine, bridge_process, config_file, environment, running, settings_with
from tests.brokers import KEYS, until, valkey
from tests.webhook_peer import SECRET, Peer


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


@pytest.fixture
def peer() -> Iterator[Peer]:
    with Peer() as peer:
        yield peer


def mes(peer: Peer) -> str:
    return f'mes: {{type: webhook, url: "{peer.url}", secret: "{SECRET}"}}'


async def killed_now_and_then(line: BridgeLine, peer: Peer, kills: int) -> None:
    """Events come all the while; in the end each has arrived, and none out of order or under two ids."""
    rng, sent = random.Random(7), []
    for _ in range(kills):
        async with bridge_process(line, "mes", mes(peer)) as process:
            seen = len(peer.taken)
            while len(peer.taken) < seen + rng.randrange(1, 40):
                sent += [line.verdict(f"A-{len(sent)}"), line.defect("side")]
                await asyncio.sleep(0.002)
            process.kill()
    async with bridge_process(line, "mes", mes(peer)):
        await until(lambda: {event["id"] for event in peer.taken} == {event.id for event in sent})
    for camera in ("top", "side"):
        first_times = list(dict.fromkeys(event["seq"] for event in peer.taken if event["camera"] == camera))
        assert first_times == sorted(first_times)
    assert len(peer.taken) <= len(sent) + 2 * kills, "at most what was under way at each kill came again"


async def test_a_bridge_that_is_killed_loses_nothing(line: BridgeLine, peer: Peer) -> None:
    await killed_now_and_then(line, peer, 3)


async def test_a_second_process_of_a_bridge_and_an_unknown_bridge_are_refused(
    line: BridgeLine, peer: Peer
) -> None:
    line.verdict("A-1")
    async with bridge_process(line, "mes", mes(peer)) as first:
        await until(lambda: len(peer.taken) == 1)
        for name, sentence in (
            ("mes", b"runs already in another process"),
            ("mse", b"there is no bridge mse"),
        ):
            async with bridge_process(line, name, mes(peer)) as second:
                assert await second.wait() == 2
                said = (line.folder / f"{name}.log").read_bytes()
                assert sentence in said.splitlines()[-1]
                assert b"Traceback" not in said
        first.terminate()
        assert await first.wait() == 0


async def test_a_second_process_of_a_bridge_on_another_machine_is_refused(
    line: BridgeLine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each event went to one of the two, and what one held came again from the other."""
    monkeypatch.setattr(claim, "RENEW_EVERY_S", 0.02)
    elsewhere = settings_with(line.folder / "elsewhere", mes(peer))
    async with running(line, "mes", mes(peer)):
        line.verdict("A-1")
        await until(lambda: len(peer.taken) == 1)
        with pytest.raises(Taken, match=r"bridge mes runs already on .*; stop that one"):
            await Bridge("mes", elsewhere, line.broker.endpoint, KEYS.events).run(asyncio.Event())


async def test_a_state_folder_that_can_not_be_made_is_said(line: BridgeLine, peer: Peer) -> None:
    """It was a traceback."""
    settings = settings_with(line.folder, mes(peer))
    folder = settings.bridges["mes"].state_dir
    folder.mkdir(parents=True)
    (folder / "mes").write_text("in the way")
    with pytest.raises(BridgeError, match=r"bridges\.mes\.state_dir .*: File exists; name another folder"):
        Bridge("mes", settings, line.broker.endpoint, KEYS.events)


def parts(peer: Peer) -> set[str]:
    """What came; a bridge that was killed before it could note it sends the same again."""
    return {event["part_id"] for event in peer.taken}


async def test_the_lines_bridges_are_started_again_when_they_die_and_end_with_it(
    line: BridgeLine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", environment(line)["BROKER_PASSWORD"])
    idle = "idle: {type: modbus, stations: {top: {address: 8}}, autostart: false}"
    bridges = BridgeProcesses(load(config_file(line, mes(peer), idle)))
    assert bridges.names == ("mes",)
    bridges.start()
    try:
        line.verdict("A-1")
        await until(lambda: len(parts(peer)) == 1)
        (first,) = _children()
        os.kill(first, signal.SIGKILL)
        line.verdict("A-2")
        await until(lambda: len(parts(peer)) == 2)
        (second,) = _children()
        bridges.renew()
        await until(lambda: _children() not in ([], [second]))
        line.verdict("A-3")
        await until(lambda: len(parts(peer)) == 3)
        async with line.broker.endpoint.client() as client:
            assert Report.parse(await client.get(KEYS.bridge_report("mes")) or b"") is not None
    finally:
        await bridges.stop()
    assert _children() == []


async def test_the_lines_bridges_start_again_when_an_edit_changes_what_they_know_of_the_line(
    line: BridgeLine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BROKER_PASSWORD", environment(line)["BROKER_PASSWORD"])
    file = config_file(line, mes(peer))
    before = load(file)
    bridges = BridgeProcesses(before)
    bridges.start()
    try:
        line.verdict("A-1")
        await until(lambda: len(parts(peer)) == 1)
        first = _children()
        file.write_text(file.read_text().replace("side: {", "side: {fps: 3, "))
        bridges.changed(before, limits := load(file))
        line.verdict("A-2")
        await until(lambda: len(parts(peer)) == 2)
        assert _children() == first
        file.write_text(file.read_text().replace("side: {", "side: {frames: every, "))
        bridges.changed(limits, load(file))
        await until(lambda: _children() not in ([], first))
        line.verdict("A-3")
        await until(lambda: len(parts(peer)) == 3)
    finally:
        await bridges.stop()


@pytest.mark.parametrize("left", ["mes2: {", "mes: {autostart: false, "])
async def test_one_that_the_file_names_no_more_ends_quietly_until_it_does_again(
    line: BridgeLine, peer: Peer, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, left: str
) -> None:
    """It was tried in vain for as long as the line ran."""
    monkeypatch.setenv("BROKER_PASSWORD", environment(line)["BROKER_PASSWORD"])
    monkeypatch.setattr(children, "LONGEST_WAIT_S", 0.05)
    looked, is_gone = list[str](), children._is_gone

    def look(name: str, file: Path) -> bool:
        looked.append(name)
        return is_gone(name, file)

    monkeypatch.setattr(children, "_is_gone", look)
    caplog.set_level("INFO")
    file = config_file(line, mes(peer))
    before = load(file)
    bridges = BridgeProcesses(before)
    bridges.start()
    try:
        line.verdict("A-1")
        await until(lambda: len(parts(peer)) == 1)
        named = file.read_text()
        file.write_text(named.replace("side: {", "side: {frames: every, ").replace("mes: {", left))
        bridges.changed(before, load(file))
        await until(lambda: "bridge mes has ended" in caplog.text)
        line.verdict("A-2")
        looks = len(looked)
        await until(lambda: len(looked) > looks + 1)  # one is over, and led to nothing
        assert _children() == [] and len(parts(peer)) == 1
        file.write_text(named)
        await until(lambda: len(parts(peer)) == 2)
    finally:
        await bridges.stop()
    assert [record for record in caplog.records if record.levelname == "ERROR"] == []


async def test_one_that_hangs_is_killed_when_it_is_to_start_again(
    line: BridgeLine, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It went on as the file had been, and nobody asked it again."""
    monkeypatch.setenv("BROKER_PASSWORD", environment(line)["BROKER_PASSWORD"])
    monkeypatch.setattr(children, "STOP_WITHIN_S", 0.5)
    bridges = BridgeProcesses(load(config_file(line, mes(peer))))
    bridges.start()
    try:
        line.verdict("A-1")
        await until(lambda: len(parts(peer)) == 1)
        (first,) = _children()
        os.kill(first, signal.SIGSTOP)
        bridges.renew()
        line.verdict("A-2")
        await until(lambda: len(parts(peer)) == 2)
        assert _children() != [first]
    finally:
        await bridges.stop()


async def test_a_bridge_ends_with_whoever_started_it(line: BridgeLine, peer: Peer) -> None:
    words = ["bridge", "mes", "--config", str(config_file(line, mes(peer))), "--until-eof"]
    process = await asyncio.create_subprocess_exec(
        *linewatch(), *words, stdin=asyncio.subprocess.PIPE, env=environment(line)
    )
    line.verdict("A-1")
    await until(lambda: len(parts(peer)) == 1)
    assert process.stdin is not None
    process.stdin.close()
    assert await process.wait() == 0


async def test_what_waits_for_a_line_that_is_down_does_not_fill_the_broker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A PLC went on triggering for a weekend, and in the end no event found room either."""
    monkeypatch.setattr(bridge_link, "ANSWER_WITHIN_S", 0.01)
    place = Place("test", "line-1", ("top",), frozenset({"top"}), 1000.0, tmp_path)
    async with valkey(tmp_path) as broker, broker.endpoint.client() as client:
        link = LineLink(broker.endpoint.client, KEYS, place)
        for key in (KEYS.triggers, KEYS.commands):
            pipe = client.pipeline(transaction=False)
            for n in range(MOST_WAITING + 2000):
                pipe.xadd(key, {"camera": "top", "part_id": f"old-{n}"})
            await pipe.execute()
        await link.trigger("top", "newest", "")
        assert (await link.ask("disable", "top", "")).answer == "unanswered"
        for key in (KEYS.triggers, KEYS.commands):
            assert MOST_WAITING <= await client.xlen(key) <= MOST_WAITING + 100
        ((_, fields),) = await client.xrevrange(KEYS.triggers, count=1)
        assert fields[b"part_id"] == b"newest", "the oldest went"
        await link._client.aclose()


def _children() -> list[int]:
    """Bridges that this process has started and that live."""
    found = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # the thread has just ended
            for pid in map(int, (task / "children").read_text().split()):
                with contextlib.suppress(OSError):  # it has just gone
                    if b"bridge\0mes" in Path(f"/proc/{pid}/cmdline").read_bytes():
                        found.append(pid)
    return found


def test_a_bug_in_reading_the_file_leaves_no_bridge_unwatched(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The task that starts the bridge again would have ended, in silence."""

    def load_with_a_bug(file: Path) -> None:
        raise KeyError("a bug")

    monkeypatch.setattr(children, "load", load_with_a_bug)
    assert not children._is_gone("mes", Path("cameras.yaml"))
    assert "whether cameras.yaml still names bridge mes could not be seen" in caplog.text
