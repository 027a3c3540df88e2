"""The MQTT bridge against Debian's mosquitto."""

import asyncio
import gc
import json
import signal
import warnings
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from tests.bridgeline import CONFIG, BridgeLine, bridge_process, running
from tests.brokers import until, valkey
from tests.certificates import make_certificate
from tests.mosquitto import PASSWORD, USER, Mosquitto, listening

pytestmark = pytest.mark.debian

LINE = "linewatch/test/line-1"


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


@pytest_asyncio.fixture
async def mosquitto(tmp_path: Path) -> AsyncIterator[Mosquitto]:
    async with Mosquitto(tmp_path) as mosquitto:
        yield mosquitto


def scada(mosquitto: Mosquitto, more: str = "", scheme: str = "mqtt") -> str:
    login = f'username: {USER}, password: "{PASSWORD}"'
    return f'scada: {{type: mqtt, url: "{scheme}://127.0.0.1:{mosquitto.port}", {login}, timeout_s: 2{more}}}'


async def test_events_states_and_availability_are_published(line: BridgeLine, mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as heard, running(line, "scada", scada(mosquitto)) as bridge:
        sent = [line.verdict(f"A-{n}") for n in range(50)] + [line.defect("side")]
        await until(lambda: bridge.report.delivered == 51)
        await until(lambda: len(heard.of(f"{LINE}/top/events/part")) == 50)
        assert [e["id"] for e in heard.json_of(f"{LINE}/top/events/part")] == [e.id for e in sent[:50]]
        assert heard.json_of(f"{LINE}/side/events/defect")[0]["id"] == sent[50].id
        assert heard.of(f"{LINE}/availability") == [b"online"]
        await until(lambda: any(state["ready"] == "1" for state in heard.json_of(f"{LINE}/top/state")))


async def test_who_comes_late_gets_what_is_retained(line: BridgeLine, mosquitto: Mosquitto) -> None:
    async with running(line, "scada", scada(mosquitto)):
        async with listening(mosquitto.port) as early:
            await until(lambda: bool(early.of(f"{LINE}/top/state")))
        line.alive = False
        async with listening(mosquitto.port) as late:
            await until(lambda: b'"ready": "0"' in b"".join(late.of(f"{LINE}/top/state")))
            assert late.of(f"{LINE}/availability") == [b"online"]
    async with listening(mosquitto.port) as after:
        await until(lambda: after.of(f"{LINE}/availability") == [b"offline"])


async def test_the_state_of_a_camera_that_was_removed_is_taken_back(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    """It stood as ready for ever, beside an availability that says online."""
    side, without = f"{LINE}/side/state", CONFIG.replace("  side: {source: {type: pattern}}\n", "")
    assert without != CONFIG
    async with running(line, "scada", scada(mosquitto)), listening(mosquitto.port) as before:
        await until(lambda: b'"ready": "1"' in b"".join(before.of(side)))
    async with listening(mosquitto.port) as heard, running(line, "scada", scada(mosquitto), config=without):
        await until(lambda: heard.of(side)[-1:] == [b""])
        async with listening(mosquitto.port) as late:
            await until(lambda: bool(late.of(f"{LINE}/top/state")))
            assert late.of(side) == []


async def test_a_camera_that_the_line_has_no_more_is_not_ready(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    async with running(line, "scada", scada(mosquitto)), listening(mosquitto.port) as heard:
        await until(lambda: b'"ready": "1"' in b"".join(heard.of(f"{LINE}/side/state")))
        del line.status["side"]
        await until(lambda: heard.json_of(f"{LINE}/side/state")[-1] == {"ready": "0", "busy": "0"})


async def test_a_bridge_for_some_cameras_has_nothing_to_do_with_the_others(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    """Two bridges, each for its cameras, would both carry out a command."""
    async with (
        listening(mosquitto.port) as heard,
        running(line, "scada", scada(mosquitto, ", cameras: [top]")),
    ):
        await until(lambda: bool(heard.of(f"{LINE}/availability")))
        line.defect("side")
        line.verdict("A-1")
        command = json.dumps({"command": "threshold", "value": 2.5, "id": "c1"})
        for camera in ("side", "top"):
            await heard.client.publish(f"{LINE}/{camera}/command", command, qos=1)
        for topic in ("state", "events/part", "answer"):
            await until(lambda topic=topic: bool(heard.of(f"{LINE}/top/{topic}")))  # type: ignore[misc]
        assert line.thresholds == {"top": 2.5}
        for topic in ("state", "events/defect", "answer"):
            assert heard.of(f"{LINE}/side/{topic}") == []


async def test_a_bridge_that_is_killed_is_offline_by_its_last_will(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    async with listening(mosquitto.port) as heard, bridge_process(line, "scada", scada(mosquitto)) as process:
        await until(lambda: heard.of(f"{LINE}/availability") == [b"online"])
        process.kill()
        await until(lambda: heard.of(f"{LINE}/availability") == [b"online", b"offline"])


async def test_commands_are_answered_and_nonsense_too(line: BridgeLine, mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as heard, running(line, "scada", scada(mosquitto)):
        await until(lambda: bool(heard.of(f"{LINE}/availability")))

        async def asked(payload: object, camera: str = "top", retain: bool = False) -> dict[str, str]:
            answers = len(heard.of(f"{LINE}/{camera}/answer"))
            text = payload if isinstance(payload, str) else json.dumps(payload)
            await heard.client.publish(f"{LINE}/{camera}/command", text, qos=1, retain=retain)
            await until(lambda: len(heard.of(f"{LINE}/{camera}/answer")) > answers)
            told: dict[str, str] = heard.json_of(f"{LINE}/{camera}/answer")[-1]
            return told

        done = await asked({"command": "threshold", "value": 2.5, "id": "c1"})
        assert done == {"id": "c1", "answer": "done", "reason": "the alarm level is 2.5"}
        refused = await asked({"command": "threshold", "value": "high", "id": "c2"})
        assert (refused["id"], refused["answer"]) == ("c2", "refused")
        assert "not an alarm level" in refused["reason"]
        assert "no camera nowhere" in (await asked({"command": "enable", "id": "c3"}, "nowhere"))["reason"]
        for nonsense in ("not JSON", "[]", '{"command": 3}', '{"command": "enable", "id": {}}', "x" * 5000):
            assert (await asked(nonsense))["answer"] == "refused"
        for command in ("\ud800", "x" * 2000, "a\nb", ""):
            told = await asked({"command": command, "value": 1, "id": "c4"})
            assert (told["id"], told["answer"]) == ("c4", "refused")
        nobody = "x" * 129
        await heard.client.publish(f"{LINE}/{nobody}/command", '{"command": "enable"}', qos=1)
        assert (await asked({"command": "threshold", "value": 2.5, "id": "c5"}))["answer"] == "done"
        assert heard.of(f"{LINE}/{nobody}/answer") == []
        assert line.thresholds == {"top": 2.5}


async def test_of_many_commands_at_once_each_is_answered(line: BridgeLine, mosquitto: Mosquitto) -> None:
    """A change of recipe for all cameras comes in one burst: what found no place was dropped unanswered."""
    async with listening(mosquitto.port) as heard, running(line, "scada", scada(mosquitto)):
        await until(lambda: bool(heard.of(f"{LINE}/availability")))
        asked = {str(n) for n in range(100)}
        commands = [json.dumps({"command": "threshold", "value": 2.5, "id": n}) for n in asked]
        topic = f"{LINE}/top/command"
        await asyncio.gather(*(heard.client.publish(topic, command, qos=1) for command in commands))
        await until(lambda: {answer["id"] for answer in heard.json_of(f"{LINE}/top/answer")} == asked)


async def test_a_broker_that_refuses_our_subscription_is_said_and_gets_the_events(
    line: BridgeLine, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Commands never came, and nothing said why."""
    async with (
        Mosquitto(tmp_path, refuses=True) as mosquitto,
        running(line, "scada", scada(mosquitto)) as bridge,
    ):
        line.verdict("A-1")
        await until(lambda: bridge.report.delivered == 1)
    assert f"refuses the subscription to {LINE}/+/command: no command will come" in caplog.text


async def test_a_retained_command_is_not_carried_out_at_each_start(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    async with listening(mosquitto.port) as heard:
        command = json.dumps({"command": "threshold", "value": 9.0, "id": "old"})
        await heard.client.publish(f"{LINE}/top/command", command, qos=1, retain=True)
        async with running(line, "scada", scada(mosquitto)):
            await until(lambda: bool(heard.of(f"{LINE}/top/answer")))
            assert heard.json_of(f"{LINE}/top/answer")[0]["answer"] == "refused"
    assert line.thresholds == {}


async def test_a_broker_that_is_restarted_gets_everything_in_order(
    line: BridgeLine, mosquitto: Mosquitto
) -> None:
    async with running(line, "scada", scada(mosquitto)) as bridge:
        line.verdict("before")
        await until(lambda: bridge.report.delivered == 1)
        await mosquitto.stop()
        sent = [line.verdict(f"A-{n}") for n in range(20)]
        await until(lambda: bridge.report.trouble is not None)
        await mosquitto.start()
        async with listening(mosquitto.port) as heard:
            last = line.verdict("last")
            await until(lambda: last.id in [e["id"] for e in heard.json_of(f"{LINE}/top/events/part")])
            await until(lambda: bridge.report.delivered == len(sent) + 2)
            seqs = [e["seq"] for e in heard.json_of(f"{LINE}/top/events/part")]
            assert seqs == sorted(seqs)


async def test_a_broker_that_hangs_is_a_broker_that_is_away(line: BridgeLine, mosquitto: Mosquitto) -> None:
    async with running(line, "scada", scada(mosquitto)) as bridge:
        line.verdict("before")
        await until(lambda: bridge.report.delivered == 1)
        assert mosquitto.process is not None
        mosquitto.process.send_signal(signal.SIGSTOP)
        line.verdict("during")
        await until(lambda: bridge.report.failed > 0)
        mosquitto.process.send_signal(signal.SIGCONT)
        await until(lambda: bridge.report.delivered == 2)
        await until(lambda: bridge.report.trouble is None)


async def test_a_wrong_password_is_said(line: BridgeLine, mosquitto: Mosquitto) -> None:
    wrong = scada(mosquitto).replace(PASSWORD, "hunter2-hunter2")
    async with running(line, "scada", wrong) as bridge:
        await until(lambda: bridge.report.trouble is not None)
        assert "ot authorized" in str(bridge.report.trouble) or "password" in str(bridge.report.trouble)
        assert "hunter2" not in str(bridge.report.trouble)


async def test_topics_may_be_ordered_as_sparkplug_does(line: BridgeLine, mosquitto: Mosquitto) -> None:
    async with listening(mosquitto.port) as heard:
        async with running(line, "scada", scada(mosquitto, ", topics: sparkplug")) as bridge:
            sent = line.verdict("A-1")
            await until(lambda: bridge.report.delivered == 1)
            await until(lambda: bool(heard.of("linewatch/test/DDATA/line-1/top")))
            assert heard.json_of("linewatch/test/DDATA/line-1/top")[0]["id"] == sent.id
            assert heard.of("linewatch/test/NBIRTH/line-1") == [b"online"]
            await until(lambda: bool(heard.of("linewatch/test/DBIRTH/line-1/top")))
        await until(lambda: heard.of("linewatch/test/NDEATH/line-1")[-1:] == [b"offline"])


@pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")
async def test_tls_is_verified(line: BridgeLine, tmp_path: Path) -> None:
    certificate = make_certificate(tmp_path, "mqtt", hosts=("127.0.0.1",))
    async with Mosquitto(tmp_path, certificate) as mosquitto:
        line.verdict("A-1")
        async with running(line, "scada", scada(mosquitto, scheme="mqtts")) as bridge:
            await until(lambda: bridge.report.trouble is not None)
            assert "certificate" in str(bridge.report.trouble)
        trusting = scada(mosquitto, f', tls: {{ca_file: "{certificate.cert_file}"}}', "mqtts")
        async with running(line, "scada", trusting) as bridge:
            await until(lambda: bridge.report.delivered == 1)
    with warnings.catch_warnings(action="ignore", category=ResourceWarning):
        gc.collect()  # paho leaves the socket of a handshake that failed to the garbage collector


def test_an_address_with_a_user_in_it_is_refused() -> None:
    from pydantic import ValidationError

    from stream.bridges.mqtt import Options

    for url in ("mqtt://u:p@h", "http://h", "mqtt://", "mqtt://h/path", "mqtt://h:0"):
        with pytest.raises(ValidationError):
            Options(url=url)
    assert Options(url="mqtts://h").address == ("h", 8883)
