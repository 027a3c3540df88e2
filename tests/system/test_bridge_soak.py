"""All bridges side by side, each with a peer that keeps a book: killed again and again, and peers away."""

import asyncio
import contextlib
import json
import random
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt
import pytest
import pytest_asyncio
from asyncua import Client, ua
from pymodbus.client import AsyncModbusTcpClient
from pymodbus.exceptions import ModbusException

from stream.bridges import modbus_map as m
from stream.bridges.opcua_tree import NAMESPACE
from stream.endings import end
from stream.events import Event
from tests.bridgeline import BridgeLine, bridge_process
from tests.brokers import until, valkey
from tests.mosquitto import PASSWORD, USER, Mosquitto
from tests.ports import free_port
from tests.webhook_peer import SECRET, Peer

pytestmark = pytest.mark.debian
CAMERAS = ("top", "side")


@pytest_asyncio.fixture
async def line(tmp_path: Path) -> AsyncIterator[BridgeLine]:
    async with valkey(tmp_path / "broker") as broker, BridgeLine(broker, tmp_path) as line:
        yield line


class Book:
    """What a peer has taken, camera by camera: (what it is, under which id), as it came."""

    def __init__(self) -> None:
        self.taken: dict[str, list[tuple[int, str]]] = {camera: [] for camera in CAMERAS}

    def note(self, camera: str, seq: int, event_id: str) -> None:
        self.taken[camera].append((seq, event_id))

    def first_times(self, camera: str) -> list[tuple[int, str]]:
        return list(dict.fromkeys(self.taken[camera]))

    def __len__(self) -> int:
        return sum(map(len, self.taken.values()))


class BridgePeer:
    """A peer of the bridge `name` with these `options`: there, and away again, as often as the test likes."""

    name = ""
    options = ""

    def __init__(self) -> None:
        self.book, self.port = Book(), free_port()

    def wanted(self, event: Event) -> tuple[int, str]:
        """What the book says of an event that was taken."""
        return event.seq, event.id

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        """Those that are clients only have to run."""
        task = asyncio.create_task(self.run(), name=f"{self.name} peer")
        try:
            yield
        finally:
            await end([task])

    async def run(self) -> None:
        """Until cancelled."""
        raise NotImplementedError


class WebhookPeer(BridgePeer):
    """A server of the standard library."""

    name = "webhook"

    def __init__(self) -> None:
        super().__init__()
        url = f"http://127.0.0.1:{self.port}/"
        self.options = f'{{type: webhook, url: "{url}", secret: "{SECRET}"}}'

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        def take(event: dict[str, Any]) -> int:
            self.book.note(event["camera"], event["seq"], event["id"])
            return 204

        with Peer(port=self.port) as peer:
            peer.behave = take
            yield


class MqttPeer(BridgePeer):
    """Debian's mosquitto, and a subscriber that it keeps the messages for."""

    name = "mqtt"

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self._broker = Mosquitto(folder, remembers=True)
        url, login = f"mqtt://127.0.0.1:{self._broker.port}", f'username: {USER}, password: "{PASSWORD}"'
        self.options = f'{{type: mqtt, url: "{url}", {login}}}'

    @contextlib.asynccontextmanager
    async def there(self) -> AsyncIterator[None]:
        async with self._broker:
            subscribed = asyncio.Event()
            task = asyncio.create_task(self._subscriber(subscribed), name="mqtt subscriber")
            await subscribed.wait()
            try:
                yield
            finally:
                await end([task])

    async def _subscriber(self, subscribed: asyncio.Event) -> None:
        port = self._broker.port
        login = {"username": USER, "password": PASSWORD, "identifier": "mes", "clean_session": False}
        async with aiomqtt.Client("127.0.0.1", port, **login) as client:  # type: ignore[arg-type]
            await client.subscribe("linewatch/+/+/+/events/#", qos=1)
            subscribed.set()
            async for message in client.messages:
                event = json.loads(str(bytes(message.payload), "utf-8"))  # type: ignore[arg-type]
                self.book.note(event["camera"], event["seq"], event["id"])


class ModbusPeer(BridgePeer):
    """A PLC: reads a block, notes the result, acknowledges it, and looks for the next one."""

    name = "modbus"

    def __init__(self) -> None:
        super().__init__()
        self._blocks = {"top": 100, "side": 200}
        self._last = dict.fromkeys(CAMERAS, 0)
        stations = ", ".join(f"{name}: {{address: {at}}}" for name, at in self._blocks.items())
        self.options = (
            f'{{type: modbus, listen: "127.0.0.1:{self.port}", handshake: every, stations: {{{stations}}}}}'
        )

    def wanted(self, event: Event) -> tuple[int, str]:
        """The numbers go from 1 up for each camera, and so do our seqs: no kind of event is left out."""
        return event.seq, event.part_id if event.camera == "top" else ""

    async def run(self) -> None:
        while True:
            client = AsyncModbusTcpClient(
                "127.0.0.1", port=self.port, retries=0, timeout=1, reconnect_delay=0
            )
            with contextlib.suppress(ModbusException, OSError):
                while await client.connect():
                    for camera in CAMERAS:
                        await self._look(client, camera)
                    await asyncio.sleep(0.01)
            client.close()
            await asyncio.sleep(0.05)

    async def _look(self, client: AsyncModbusTcpClient, camera: str) -> None:
        at = self._blocks[camera]
        answer = await client.read_holding_registers(at, count=m.PART + m.PART_REGISTERS)
        if answer.isError():
            return
        number = answer.registers[m.RESULT_NO]
        if answer.registers[m.STATUS] & m.NEW:
            if number != self._last[camera]:
                part = m.registers_text(answer.registers[m.PART :])
                self.book.note(camera, number, part)
                self._last[camera] = number
            await client.write_register(at + m.ACK, number)


class OpcUaPeer(BridgePeer):
    """A client that subscribes to events and acknowledges each."""

    name = "opcua"

    def __init__(self) -> None:
        super().__init__()
        self.options = f'{{type: opcua, listen: "127.0.0.1:{self.port}", handshake: client}}'

    async def run(self) -> None:
        while True:
            with contextlib.suppress(OSError, TimeoutError, ua.UaError):
                async with Client(f"opc.tcp://127.0.0.1:{self.port}/linewatch", timeout=2) as client:
                    await self._follow(client)
            await asyncio.sleep(0.1)

    async def _follow(self, client: Client) -> None:
        came: asyncio.Queue[Any] = asyncio.Queue()

        class Handler:
            def event_notification(self, event: Any) -> None:
                came.put_nowait(event)

        index = await client.get_namespace_index(NAMESPACE)
        subscription = await client.create_subscription(20, Handler())
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinewatchResultEventType")
        await subscription.subscribe_events(client.nodes.server, kind)
        linewatch = client.get_node(ua.NodeId("Linewatch", index))
        while True:
            try:
                async with asyncio.timeout(1.0):
                    event = await came.get()
            except TimeoutError:
                await client.check_connection()
                continue
            if event.Camera in CAMERAS:
                self.book.note(event.Camera, event.Seq, event.ResultId)
            await linewatch.call_method(f"{index}:Acknowledge", event.ResultId)


def peers_of(folder: Path) -> list[BridgePeer]:
    return [WebhookPeer(), ModbusPeer(), OpcUaPeer(), MqttPeer(folder)]


class Production:
    """Both cameras produce, `a_second` events each, until `stop`."""

    def __init__(self, line: BridgeLine, a_second: float) -> None:
        self._line, self._pause_s = line, 1 / a_second
        self.sent: list[Event] = []

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        task = asyncio.create_task(self._produce(), name="production")
        try:
            yield
        finally:
            await end([task])

    async def _produce(self) -> None:
        while True:
            self.sent += [self._line.verdict(f"A-{len(self.sent)}"), self._line.defect("side")]
            await asyncio.sleep(self._pause_s)


async def check(peer: BridgePeer, sent: list[Event]) -> None:
    """All of it came, in its order, and each under one id only."""
    wanted = {c: [peer.wanted(event) for event in sent if event.camera == c] for c in CAMERAS}
    await until(lambda: all(set(wanted[c]) <= set(peer.book.taken[c]) for c in CAMERAS))
    for camera in CAMERAS:
        assert peer.book.first_times(camera) == wanted[camera], f"{peer.name}, {camera}"


async def kill_now_and_then(line: BridgeLine, peer: BridgePeer, told: list[str], kills: int) -> None:
    """At any moment: while it starts, and while it delivers."""
    rng = random.Random(f"7 {peer.name}")
    for n in range(kills):
        async with bridge_process(line, peer.name, *told) as process:
            if n % 4 == 3:
                await asyncio.sleep(rng.uniform(0, 2.0))
            else:
                wanted = len(peer.book) + rng.randrange(1, 20)
                await until(lambda: len(peer.book) >= wanted)  # noqa: B023
                await asyncio.sleep(rng.uniform(0, 0.02))
            process.kill()


async def killed_all_together(line: BridgeLine, kills: int) -> None:
    peers, production = peers_of(line.folder), Production(line, a_second=10)
    told = [f"{peer.name}: {peer.options}" for peer in peers]
    async with contextlib.AsyncExitStack() as stack:
        for peer in peers:
            await stack.enter_async_context(peer.there())
        async with production.running():
            await asyncio.gather(*(kill_now_and_then(line, peer, told, kills) for peer in peers))
        for peer in peers:
            await stack.enter_async_context(bridge_process(line, peer.name, *told))
        await asyncio.gather(*(check(peer, production.sent) for peer in peers))
    for peer in peers:
        twice = len(peer.book) - len(production.sent)
        assert twice <= (2 if peer.name != "opcua" else 4) * (kills + 1), f"{peer.name}: {twice} came again"


async def away_all_together(line: BridgeLine, seconds: float) -> None:
    """There, away, and there again; the bridges run all the while."""
    peers, production = peers_of(line.folder), Production(line, a_second=2)
    told = [f"{peer.name}: {peer.options}" for peer in peers]
    async with contextlib.AsyncExitStack() as bridges:
        for peer in peers:
            await bridges.enter_async_context(bridge_process(line, peer.name, *told))
        async with production.running():
            async with contextlib.AsyncExitStack() as first:
                for peer in peers:
                    await first.enter_async_context(peer.there())
                await until(lambda: all(len(peer.book) > 4 for peer in peers))
            before = [len(peer.book) for peer in peers]
            await asyncio.sleep(seconds)
            assert [len(peer.book) for peer in peers] == before
        async with contextlib.AsyncExitStack() as again:
            for peer in peers:
                await again.enter_async_context(peer.there())
            await asyncio.gather(*(check(peer, production.sent) for peer in peers))


async def test_bridges_that_are_killed_lose_nothing(line: BridgeLine) -> None:
    await killed_all_together(line, 1)


async def test_peers_that_were_away_get_everything_then(line: BridgeLine) -> None:
    await away_all_together(line, 1.0)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_bridges_that_are_killed_a_hundred_times_lose_nothing(line: BridgeLine) -> None:
    await killed_all_together(line, 100)


@pytest.mark.soak
@pytest.mark.timeout(1800)
async def test_peers_that_were_away_for_ten_minutes_get_everything_then(line: BridgeLine) -> None:
    await away_all_together(line, 600.0)
