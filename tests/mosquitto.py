"""Debian's MQTT broker for tests, with a user and an ACL, and someone who listens to all of it."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiomqtt

from tests.certificates import Certificate
from tests.ports import free_port

USER, PASSWORD = "linewatch", "mosquitto-password"


class Mosquitto:
    """Start and stop it as often as you like: it keeps its port. It forgets what was retained and who had
    subscribed, unless it `remembers`. With `refuses` nobody may subscribe.
    """

    def __init__(
        self,
        folder: Path,
        certificate: Certificate | None = None,
        *,
        remembers: bool = False,
        refuses: bool = False,
    ) -> None:
        self.port = free_port()
        self._file = folder / "mosquitto.conf"
        passwords = folder / "passwords"
        subprocess.run(
            [_binary("mosquitto_passwd"), "-b", "-c", passwords, USER, PASSWORD],
            check=True,
            capture_output=True,
        )
        lines = [f"listener {self.port} 127.0.0.1", "allow_anonymous false", f"password_file {passwords}"]
        self._last_word = signal.SIGTERM if remembers else signal.SIGKILL
        if remembers:
            lines += ["persistence true", f"persistence_location {folder}/", "max_queued_messages 0"]
        if refuses:
            allowed = {"publishClientSend": True, "publishClientReceive": True, "unsubscribe": True}
            security = folder / "security.json"
            user = {"username": USER}
            security.write_text(json.dumps({"defaultACLAccess": allowed, "clients": [user]}))
            lines += [f"plugin {_plugin()}", f"plugin_opt_config_file {security}"]
        if certificate is not None:
            lines += [f"certfile {certificate.cert_file}", f"keyfile {certificate.key_file}"]
        if os.geteuid() == 0:
            lines.append("user root")  # else it gives up its rights and can't read its own files
        self._file.write_text("\n".join(lines) + "\n")
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        self.process = await asyncio.create_subprocess_exec(
            _binary("mosquitto"), "-c", str(self._file), stderr=asyncio.subprocess.DEVNULL
        )
        while True:
            with contextlib.suppress(OSError):
                _, writer = await asyncio.open_connection("127.0.0.1", self.port)
                writer.close()
                await writer.wait_closed()
                return
            assert self.process.returncode is None, "mosquitto ended"
            await asyncio.sleep(0.01)

    async def stop(self) -> None:
        assert self.process is not None
        if self.process.returncode is None:
            self.process.send_signal(self._last_word)
        await self.process.wait()

    async def __aenter__(self) -> "Mosquitto":
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.stop()


def _binary(name: str) -> str:
    """Debian puts the server where only root's PATH looks."""
    found = shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin")
    assert found, f"{name} is missing: apt-get install mosquitto"
    return found


def _plugin() -> Path:
    """Debian's folder of libraries is named after the machine."""
    return next(Path("/usr/lib").glob("*/mosquitto_dynamic_security.so"))


class Listener:
    """Everything that was published, by topic, newest last."""

    def __init__(self, client: aiomqtt.Client) -> None:
        self.client = client
        self.heard: list[tuple[str, bytes]] = []

    def of(self, topic: str) -> list[bytes]:
        return [payload for name, payload in self.heard if name == topic]

    def json_of(self, topic: str) -> list[dict[str, Any]]:
        return [json.loads(payload) for payload in self.of(topic)]


@contextlib.asynccontextmanager
async def listening(port: int, topic: str = "#") -> AsyncIterator[Listener]:
    """A client of its own, subscribed with QoS 1."""
    async with aiomqtt.Client("127.0.0.1", port, username=USER, password=PASSWORD) as client:
        listener = Listener(client)
        await client.subscribe(topic, qos=1)

        async def hear() -> None:
            async for message in client.messages:
                assert isinstance(message.payload, bytes)
                listener.heard.append((str(message.topic), message.payload))

        task = asyncio.create_task(hear())
        try:
            yield listener
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError, aiomqtt.MqttError):
                await task
