"""The clients in deploy/examples run, each against its bridge."""

import asyncio
import base64
import contextlib
import os
import socket
import sys
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from stream.bridges.modbus_server import ModbusSink
from stream.bridges.process import Bridge
from tests.bridgeline import BridgeLine, running
from tests.brokers import until, valkey
from tests.mosquitto import PASSWORD, USER, Mosquitto
from tests.ports import free_port
from tests.webhook_peer import SECRET

# As the Standard Webhooks libraries want it: base64 of the key's bytes.
WHSEC = f"whsec_{base64.b64encode(SECRET.encode()).decode()}"
PLC = 'plc: {type: modbus, listen: "127.0.0.1:0", stations: {top: {address: 100}, side: {address: 200}}}'
EXAMPLES = Path(__file__).parents[2] / "deploy/examples"


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


@contextlib.asynccontextmanager
async def example(name: str, *words: str, **env: str) -> AsyncIterator[asyncio.subprocess.Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, str(EXAMPLES / name), *words),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, **env},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
        await process.communicate()


def answers(port: int) -> bool:
    """Whether somebody listens there."""
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1.0):
        return True
    return False


async def said(process: asyncio.subprocess.Process, wanted: str) -> str:
    """The first line that it prints with `wanted` in it."""
    assert process.stdout is not None
    while line := (await process.stdout.readline()).decode():
        if wanted in line:
            return line
    raise AssertionError(f"it never said {wanted}")


async def complaint(process: asyncio.subprocess.Process) -> str:
    """What it says on stderr before it ends as one that failed."""
    _, told = await process.communicate()
    assert process.returncode == 1
    return told.decode()


async def place(bridge: Bridge) -> tuple[str, str]:
    """Where a Modbus bridge listens, once it sees the line: until then everything is a reject."""
    sink = bridge.sink
    assert isinstance(sink, ModbusSink)
    await until(lambda: sink.port > 0 and bridge.link.alive)
    return "127.0.0.1", str(sink.port)


async def test_the_plc(line: BridgeLine) -> None:
    async with (
        running(line, "plc", PLC) as bridge,
        example("modbus_plc.py", *await place(bridge), "100", "A-1", "A-2") as plc,
    ):
        for n, verdict in ((1, "ng"), (2, "ok")):
            await until(lambda: len(line.triggers) == n)  # noqa: B023
            line.verdict(line.triggers[-1]["part_id"], verdict)  # type: ignore[arg-type]
            assert await said(plc, f"A-{n}") == f"{n} A-{n} {verdict} reject={verdict == 'ng'}\n"
        assert await plc.wait() == 0


async def test_the_plc_takes_a_result_that_stands_there_first(line: BridgeLine) -> None:
    async with running(line, "plc", PLC) as bridge:
        line.verdict("old-1")
        line.verdict("old-2")
        words = await place(bridge)
        await until(lambda: bridge.report.held == 2)
        async with example("modbus_plc.py", *words, "100", "A-1") as plc:
            assert await said(plc, "old-1") == "1 old-1 ng reject=True\n"
            assert await said(plc, "old-2") == "2 old-2 ng reject=True\n"
            await until(lambda: len(line.triggers) == 1)
            line.verdict("A-1", "ok")
            assert await said(plc, "A-1") == "3 A-1 ok reject=False\n"
            assert await plc.wait() == 0


async def test_the_plc_that_watches_takes_results_as_they_come(line: BridgeLine) -> None:
    async with running(line, "plc", PLC) as bridge:
        line.defect("side")
        async with example("modbus_plc.py", *await place(bridge), "200", "watch") as plc:
            assert await said(plc, "1 -") == "1 - ng reject=True\n"
            line.defect("side")
            assert await said(plc, "2 -") == "2 - ng reject=True\n"
            await until(lambda: bridge.report.delivered == 2)


WRONG = {
    ("200", "A-1"): "camera station 200 takes no triggers: it needs `frames: every` in the config\n",
    ("300", "A-1"): "there is no camera station at register 300: look at `stations` in the config\n",
    ("100", "A" * 33): f"'{'A' * 33}' can't be a part id: write 1 to 32 ASCII characters\n",
    (
        "top",
        "A-1",
    ): "say where and what: modbus_plc.py HOST PORT REGISTER PART... (or `watch` for parts)\n",
}


@pytest.mark.parametrize("words", WRONG)
async def test_the_plc_says_in_one_sentence_what_is_wrong(line: BridgeLine, words: tuple[str, str]) -> None:
    async with (
        running(line, "plc", PLC) as bridge,
        example("modbus_plc.py", *await place(bridge), *words) as plc,
    ):
        assert await complaint(plc) == WRONG[words]


@pytest.mark.slow
async def test_the_plc_waits_no_longer_than_it_says_for_a_verdict(line: BridgeLine) -> None:
    async with (
        running(line, "plc", PLC) as bridge,
        example("modbus_plc.py", *await place(bridge), "100", "A-1") as plc,
    ):
        assert await complaint(plc) == "no verdict on part A-1 within 10 s: is `linewatch run` up?\n"


async def test_the_receiver_of_webhooks(line: BridgeLine) -> None:
    port = free_port()
    line.verdict("A-1")
    told = f'mes: {{type: webhook, url: "http://127.0.0.1:{port}/", secret: "{SECRET}"}}'
    async with (
        example("webhook_receiver.py", str(port), WEBHOOK_SECRET=SECRET) as receiver,
        running(line, "mes", told) as bridge,
    ):
        assert await said(receiver, "part.verdict") == "top part.verdict ng\n"
        await until(lambda: bridge.report.delivered == 1)


async def test_the_receiver_of_webhooks_lets_no_camera_wait_for_another(line: BridgeLine) -> None:
    port = free_port()
    told = f'mes: {{type: webhook, url: "http://127.0.0.1:{port}/", secret: "{WHSEC}", timeout_s: 2}}'
    async with example("webhook_receiver.py", str(port), WEBHOOK_SECRET=WHSEC) as receiver:
        await until(lambda: answers(port))
        for n in range(5):
            line.verdict(f"A-{n}")
            line.defect("side")
        async with running(line, "mes", told) as bridge:
            await until(lambda: bridge.report.delivered == 10)
            assert bridge.report.failed == 0
            await said(receiver, "side defect.open ng")


async def test_the_receiver_of_webhooks_takes_nothing_that_others_signed(line: BridgeLine) -> None:
    port = free_port()
    line.verdict("A-1")
    told = f'mes: {{type: webhook, url: "http://127.0.0.1:{port}/", secret: "{SECRET}"}}'
    async with (
        example("webhook_receiver.py", str(port), WEBHOOK_SECRET="another secret"),
        running(line, "mes", told) as bridge,
    ):
        await until(lambda: "answers 401" in str(bridge.report.trouble))


async def test_the_opc_ua_client(line: BridgeLine) -> None:
    port = free_port()
    async with running(line, "scada", f'scada: {{type: opcua, listen: "127.0.0.1:{port}"}}') as bridge:
        await bridge.sink.started()  # type: ignore[attr-defined]
        async with example("opcua_client.py", f"opc.tcp://127.0.0.1:{port}/linewatch", "top") as client:
            await said(client, "top.ModelVersion")
            sending = asyncio.create_task(_verdicts_until_cancelled(line))
            assert "part ng A-" in await said(client, "part ng")
            sending.cancel()
            await asyncio.gather(sending, return_exceptions=True)


async def test_the_opc_ua_client_that_acknowledges(line: BridgeLine) -> None:
    port = free_port()
    for n in range(2):
        line.verdict(f"A-{n}")
    told = f'scada: {{type: opcua, listen: "127.0.0.1:{port}", handshake: client}}'
    async with running(line, "scada", told) as bridge:
        await bridge.sink.started()  # type: ignore[attr-defined]
        address = f"opc.tcp://127.0.0.1:{port}/linewatch"
        async with example("opcua_client.py", address, "top", "acknowledge") as client:
            assert await said(client, "part ng") == "top #1 part ng A-0\n"
            assert await said(client, "#2") == "top #2 part ng A-1\n"
            await until(lambda: bridge.report.delivered == 2)


async def test_the_opc_ua_client_ends_with_a_sentence_when_its_server_goes_away(line: BridgeLine) -> None:
    port = free_port()
    address = f"opc.tcp://127.0.0.1:{port}/linewatch"
    async with contextlib.AsyncExitStack() as stack:
        told = f'scada: {{type: opcua, listen: "127.0.0.1:{port}"}}'
        async with running(line, "scada", told) as bridge:
            await bridge.sink.started()  # type: ignore[attr-defined]
            client = await stack.enter_async_context(example("opcua_client.py", address, "top"))
            await said(client, "top.ModelVersion")
            line.verdict("A-1")
            await until(lambda: bridge.report.delivered == 1)
        words = await asyncio.wait_for(complaint(client), 20)
        assert words.startswith(f"{address}, camera top: ") and words.count("\n") == 1


NONE_THERE = {
    (
        "opcua_client.py",
        "opc.tcp://127.0.0.1:1/linewatch",
        "top",
    ): "opc.tcp://127.0.0.1:1/linewatch, camera top: ",
    ("opcua_client.py", "127.0.0.1"): "Say where and which camera: opcua_client.py ",
    ("mqtt_client.py", "127.0.0.1", "1", "linewatch/test/line-1"): "127.0.0.1:1: ",
    ("mqtt_client.py",): "Say which broker and which line: mqtt_client.py ",
    ("webhook_receiver.py",): "Say the secret and the port: ",
    ("webhook_receiver.py", "70000"): "can't listen on 127.0.0.1:70000: ",
    ("subscriber.py", "http://x", "STREAM"): "The broker http://x: expected embedded, redis://",
}


@pytest.mark.parametrize("words", NONE_THERE, ids=" ".join)
async def test_an_example_says_in_one_sentence_what_is_wrong(words: tuple[str, ...]) -> None:
    async with example(*words, WEBHOOK_SECRET=SECRET) as client:
        told = await complaint(client)
        assert told.startswith(NONE_THERE[words]) and told.count("\n") == 1


async def test_a_key_that_is_no_base64_is_told_in_one_sentence() -> None:
    async with example("webhook_receiver.py", "8000", WEBHOOK_SECRET="whsec_x") as receiver:
        assert (
            await complaint(receiver) == "WEBHOOK_SECRET begins with whsec_, and what follows is no base64\n"
        )


async def _verdicts_until_cancelled(line: BridgeLine) -> None:
    """The client says nothing when it has subscribed."""
    for n in range(10_000):
        line.verdict(f"A-{n}")
        await asyncio.sleep(0.1)


@pytest.mark.debian
async def test_the_mqtt_client(line: BridgeLine, tmp_path: Path) -> None:
    async with Mosquitto(tmp_path) as mosquitto:
        login = f'username: {USER}, password: "{PASSWORD}"'
        told = f'scada: {{type: mqtt, url: "mqtt://127.0.0.1:{mosquitto.port}", {login}}}'
        words = ("127.0.0.1", str(mosquitto.port), "linewatch/test/line-1")
        login_too = {"MQTT_USER": USER, "MQTT_PASSWORD": PASSWORD}
        async with running(line, "scada", told) as bridge:
            async with example("mqtt_client.py", *words, **login_too) as client:
                await said(client, "availability online")
                line.verdict("A-1")
                assert '"part_id":"A-1"' in await said(client, "events/part")
            line.verdict("A-2")  # while nobody listens
            await until(lambda: bridge.report.delivered == 2)
            async with example("mqtt_client.py", *words, "top", "2.5", **login_too) as client:
                assert '"part_id":"A-2"' in await said(client, "events/part")
                assert '"answer": "done"' in await said(client, "top/answer")
