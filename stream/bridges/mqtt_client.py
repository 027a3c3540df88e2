"""The MQTT bridge's connection: announced, kept, and said goodbye to."""

import asyncio
import contextlib
import json
import logging
from pathlib import Path
from typing import Any

import aiomqtt
from paho.mqtt.reasoncodes import ReasonCode

from ..events import Event
from ..heed import heed_cancellation
from .http import ServerTrust
from .mqtt import Options
from .mqtt_topics import Topics
from .progress import write_json
from .sink import LONGEST_TEXT, Line, PeerAway, Status

log = logging.getLogger(__name__)

_ONLINE, _OFFLINE = b"online", b"offline"
_MOST_COMMANDS = 16
# Commands that came in one burst and wait to be looked at: the library drops what finds no place, unanswered.
_MOST_UNREAD = 1024
_LONGEST_COMMAND = 4096
_LONGEST_ID = 128


class MqttSink:
    """A Sink. An event is out when the MQTT broker has acknowledged it (PUBACK, or PUBCOMP with qos 2)."""

    def __init__(self, options: Options, line: Line) -> None:
        self._options, self._line = options, line
        self._cameras = options.among(line.cameras)
        self._topics = Topics(options.topics, options.prefix, line.site, line.line)
        self._trust = ServerTrust(options.tls) if options.url.startswith("mqtts:") else None
        self._client: aiomqtt.Client | None = None
        self._connected = asyncio.Event()
        self._commands = 0
        # What was said of each camera over this connection.
        self._said: dict[str, Status] = {}
        self._retained = line.state_dir / "retained.json"

    async def run(self) -> None:
        host, port = self._options.address
        try:
            async with self._make_client(host, port) as client:
                await self._greet(client)
                heed_cancellation()
                self._client = client
                self._connected.set()
                self._line.peer_is_there()
                async with asyncio.TaskGroup() as group:
                    group.create_task(self._keep_states(client), name="mqtt-states")
                    group.create_task(self._take_commands(client, group), name="mqtt-commands")
        except (aiomqtt.MqttError, OSError) as error:
            raise PeerAway(f"the MQTT broker {host}:{port} {_why(error)}") from None
        except ExceptionGroup as group_of:
            lost, bugs = group_of.split((aiomqtt.MqttError, OSError))
            if lost is None or bugs is not None:
                raise
            raise PeerAway(f"the MQTT broker {host}:{port} {_why(lost.exceptions[0])}") from None
        finally:
            self._connected.clear()
            self._client = None

    def _make_client(self, host: str, port: int) -> aiomqtt.Client:
        options = self._options
        _, death = self._topics.availability
        return aiomqtt.Client(
            host,
            port,
            username=options.username,
            password=None if options.password is None else options.password.get_secret_value(),
            identifier=options.client_id or f"linewatch-{self._line.site}-{self._line.line}",
            will=aiomqtt.Will(death, _OFFLINE, qos=1, retain=True),
            clean_session=True,
            keepalive=options.keepalive_s,
            timeout=options.timeout_s,
            tls_context=None if self._trust is None else self._trust.context(),
            max_queued_incoming_messages=_MOST_UNREAD,
            # Each camera's event waits for its own acknowledgement: more are never under way.
            max_inflight_messages=256,
        )

    async def _greet(self, client: aiomqtt.Client) -> None:
        birth, death = self._topics.availability
        if self._options.commands:
            # Commands for cameras that nobody has are refused; of named ones, another's are another bridge's.
            named = self._options.cameras
            for camera in ("+",) if named is None else named:
                await self._ask_for(client, self._topics.command(camera))
        # Before we are online: what stands there may be of a line that has gone since, and says ready.
        self._said.clear()
        await self._line.changed()
        await self._tell_states(client)
        await client.publish(birth, _ONLINE, qos=1, retain=True)
        if death != birth:
            await client.publish(death, b"", qos=1, retain=True)
        await self._clear(client)

    async def _ask_for(self, client: aiomqtt.Client, topic: str) -> None:
        granted = await client.subscribe(topic, qos=1)
        if any(isinstance(code, ReasonCode) and code.is_failure for code in granted):
            log.warning(
                "the MQTT broker refuses the subscription to %s: no command will come from there; let our "
                "user subscribe to it, or say commands: false",
                topic,
            )

    async def _clear(self, client: aiomqtt.Client) -> None:
        """Takes back the states of cameras that run no more: else they would stand as ready for ever."""
        ours = {self._topics.state(camera) for camera in self._cameras}
        before = _topics_in(self._retained)
        _note(self._retained, before | ours)
        for topic in before - ours:
            await client.publish(topic, b"", qos=1, retain=True)
        _note(self._retained, ours)

    async def _keep_states(self, client: aiomqtt.Client) -> None:
        """When something changed. Cancelled, it says goodbye: no will is sent then."""
        try:
            while True:
                await self._line.changed()
                await self._tell_states(client)
        except asyncio.CancelledError:
            await client.publish(self._topics.availability[1], _OFFLINE, qos=1, retain=True, timeout=2.0)
            raise

    async def _tell_states(self, client: aiomqtt.Client) -> None:
        """Retained; those that are not what was said last."""
        for camera in self._cameras:
            state = self._state(camera)
            if self._said.get(camera) != state:
                payload = json.dumps(state).encode()
                await client.publish(self._topics.state(camera), payload, qos=1, retain=True)
                self._said[camera] = state
                heed_cancellation()

    def _state(self, camera: str) -> Status:
        status = dict(self._line.status(camera))
        # Of a camera that the line has no more nothing is said, and it is not ready either.
        return status if self._line.alive and status else status | {"ready": "0", "busy": "0"}

    async def deliver(self, event: Event) -> None:
        await self._connected.wait()
        client = self._client
        if client is None:
            raise PeerAway("the MQTT broker has gone")
        topic = self._topics.event(event.camera, event.kind)
        try:
            await client.publish(topic, event.json_text().encode(), qos=self._options.qos)
        except (aiomqtt.MqttError, ValueError) as error:
            raise PeerAway(f"the MQTT broker does not take events: {_why(error)}") from None

    # -- commands ------------------------------------------------------------------------------------

    async def _take_commands(self, client: aiomqtt.Client, group: asyncio.TaskGroup) -> None:
        async for message in client.messages:
            camera = self._topics.camera_of(str(message.topic))
            command = _parse(message.payload)
            if len(camera) > LONGEST_TEXT:  # no camera's, and its answer's topic might be too long for MQTT
                log.warning("a command for a camera with a name of %d characters is ignored", len(camera))
            elif isinstance(command, str):
                log.warning("a command for camera %s is refused: %s", camera, command)
                await self._answer(client, camera, "", "refused", command)
            elif why := self._why_not_now(message.retain):
                log.warning("a command for camera %s is refused: %s", camera, why)
                await self._answer(client, camera, command["id"], "refused", why)
            else:
                self._commands += 1
                group.create_task(self._carry_out(client, camera, command), name="mqtt-command")
            heed_cancellation()

    def _why_not_now(self, retained: bool) -> str | None:
        if retained:
            return "a command must not be retained"
        return "too many commands wait" if self._commands >= _MOST_COMMANDS else None

    async def _carry_out(self, client: aiomqtt.Client, camera: str, command: dict[str, str]) -> None:
        try:
            told = await self._line.ask(command["command"], camera, command["value"])
        finally:
            self._commands -= 1
        await self._answer(client, camera, command["id"], told.answer, told.reason)

    async def _answer(
        self, client: aiomqtt.Client, camera: str, request: str, answer: str, reason: str
    ) -> None:
        payload = json.dumps({"id": request, "answer": answer, "reason": reason}).encode()
        await client.publish(self._topics.answer(camera), payload, qos=self._options.qos)


def _topics_in(file: Path) -> set[str]:
    """None where it can't be read."""
    try:
        return {str(topic) for topic in json.loads(file.read_text())}
    except (OSError, ValueError, TypeError):
        return set()


def _note(file: Path, topics: set[str]) -> None:
    """A disk that refuses must not keep events from anybody."""
    with contextlib.suppress(OSError):
        write_json(file, sorted(topics))


def _parse(payload: Any) -> dict[str, str] | str:
    """The command's fields, or why it is none."""
    if not isinstance(payload, bytes | bytearray) or len(payload) > _LONGEST_COMMAND:
        return f"a command is JSON of at most {_LONGEST_COMMAND} bytes"
    try:
        told = json.loads(payload)
    except (ValueError, RecursionError):
        told = None
    if not isinstance(told, dict) or not isinstance(told.get("command"), str):
        return 'a command is JSON such as {"command": "threshold", "value": 2.5, "id": "c1"}'
    fields = {key: told.get(key, "") for key in ("value", "id")}
    wrong = [key for key, value in fields.items() if isinstance(value, bool | dict | list | None)]
    if wrong or len(str(fields["id"])) > _LONGEST_ID:
        return f"{(wrong or ['id'])[0]} must be a short text or a number"
    return {"command": told["command"], **{key: str(value) for key, value in fields.items()}}


def _why(error: BaseException) -> str:
    """For a person; the libraries' texts hold no secret."""
    if isinstance(error, OSError):
        return f"can't be reached: {error.strerror or type(error).__name__}"
    return f"says: {error}" if str(error) else type(error).__name__
