"""The line as a bridge reaches it, through its broker: status and heartbeat are read, commands are asked.

Triggers and commands wait in their streams for a line that is down, about MOST_WAITING of each. Of more the
oldest go: they get no verdict and no answer. What the peer waits for is the newest.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import RedisError

from config.settings import Settings

from ..events import Event, EventError, parse_entry, rfc3339
from ..heed import heed_cancellation
from ..ids import new_id
from ..keys import Keys
from ..publisher import explain
from .sink import Answer, PeerAway, Status, unfit

log = logging.getLogger(__name__)

LOOK_EVERY_S = 0.5
ANSWER_WITHIN_S = 10.0
# A PLC may trigger on for days while the line is down. The line trims what it has settled far below this.
MOST_WAITING = 10_000
_MOST_ASKED = 64
# A trigger that could not be sent, and is asked for again so soon, is the same one: the broker may have it.
_ASKED_AGAIN_S = 10.0
_ANSWERS_AT_ONCE = 100


@dataclass(frozen=True, slots=True)
class Place:
    """Which line, as the config says."""

    site: str
    line: str
    cameras: tuple[str, ...]
    triggered: frozenset[str]
    verdict_within_ms: float
    state_dir: Path

    @classmethod
    def of(cls, settings: Settings, state_dir: Path = Path()) -> "Place":
        """What bridges need to know of the line that a config file describes."""
        running = {name: camera for name, camera in settings.cameras.items() if camera.enabled}
        return cls(
            settings.site,
            settings.line,
            tuple(running),
            frozenset(name for name, camera in running.items() if camera.frames == "every"),
            settings.parts.verdict_within_ms,
            state_dir,
        )


class LineLink:
    """A `Line` (sink.py). `run` is one task, until cancelled; it waits out a broker that is away."""

    def __init__(
        self,
        make_client: Callable[..., Redis],
        keys: Keys,
        place: Place,
        on_peer: Callable[[], None] = lambda: None,
        on_out: Callable[[Event], None] = lambda event: None,
    ) -> None:
        self.site, self.line = place.site, place.line
        self.cameras, self.triggered = place.cameras, place.triggered
        self.verdict_within_ms, self.state_dir = place.verdict_within_ms, place.state_dir
        self._keys, self._on_peer, self._on_out = keys, on_peer, on_out
        # A broker that hangs is a line that can't be relied on: it is told soon.
        self._client = make_client(timeout_s=1.0)
        self._alive = False
        self._status: dict[str, Status] = {}
        self._turn = asyncio.Event()
        self._asked: dict[str, asyncio.Future[Answer]] = {}
        # Triggers that the broker has not confirmed: camera, part, job → id, and when it was tried last.
        self._unsure: dict[tuple[str, str, str], tuple[str, float]] = {}

    @property
    def alive(self) -> bool:
        return self._alive

    def status(self, camera: str) -> Status:
        return self._status.get(camera, {})

    async def changed(self) -> None:
        await self._turn.wait()

    def peer_is_there(self) -> None:
        self._on_peer()

    def out(self, event: Event) -> None:
        self._on_out(event)

    async def run(self) -> None:
        """Look at the line, and hear answers."""
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._look_again_and_again(), name="bridge-status")
                group.create_task(self._hear(), name="bridge-answers")
        finally:
            with contextlib.suppress(RedisError, OSError):
                await self._client.aclose()

    async def _look_again_and_again(self) -> None:
        said = ""
        while True:
            try:
                await self._look()
            except (RedisError, OSError) as error:
                if (why := explain(error)) != said:
                    log.warning("the line can't be seen: %s", why)
                self._alive, said = False, why
            else:
                if said:
                    log.info("the line can be seen again")
                said = ""
            heed_cancellation()
            self._turn.set()
            self._turn = asyncio.Event()
            await asyncio.sleep(LOOK_EVERY_S)

    async def _look(self) -> None:
        async with self._client.pipeline(transaction=False) as pipe:
            pipe.get(self._keys.heartbeat)
            for camera in self.cameras:
                pipe.hgetall(self._keys.status(camera))
            beat, *hashes = await pipe.execute()
        for camera, fields in zip(self.cameras, hashes, strict=True):
            told = ((k.decode(errors="replace"), v.decode(errors="replace")) for k, v in fields.items())
            self._status[camera] = dict(told)
        self._alive = beat is not None

    # -- what is asked -------------------------------------------------------------------------------

    async def ask(self, command: str, camera: str, value: str) -> Answer:
        if why := unfit("command", command) or unfit("camera", camera) or unfit("value", value, needed=False):
            return Answer("refused", why)
        if len(self._asked) >= _MOST_ASKED:
            return Answer("refused", "too many commands wait for their answer; ask again later")
        request = new_id()
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._asked[request] = future
        fields: dict[Any, Any] = {"command": command, "camera": camera, "value": value, "id": request}
        try:
            await self._send(self._keys.commands, fields)
            async with asyncio.timeout(ANSWER_WITHIN_S):
                answer = await future
        except TimeoutError:
            answer = Answer("unanswered", f"the line did not answer within {ANSWER_WITHIN_S:g} s")
        except (RedisError, OSError) as error:
            answer = Answer("unanswered", explain(error))
        finally:
            self._asked.pop(request, None)
        log.info("command %s for camera %s: %s, %s", command, camera, answer.answer, answer.reason)
        return answer

    async def trigger(self, camera: str, part_id: str, job_id: str) -> None:
        asked, now = (camera, part_id, job_id), time.monotonic()
        self._unsure = {k: of for k, of in self._unsure.items() if now - of[1] < _ASKED_AGAIN_S}
        trigger_id, _ = self._unsure.get(asked, (new_id(), now))
        # When the peer asked. A broker that stalls, or whose clock was set back, gives an entry another time,
        # and a later part's picture would answer.
        at = rfc3339(time.time())
        fields: dict[Any, Any] = {"camera": camera, "part_id": part_id, "id": trigger_id, "at": at}
        if job_id:
            fields["job_id"] = job_id
        self._unsure[asked] = trigger_id, now
        try:
            await self._send(self._keys.triggers, fields)
        except (RedisError, OSError) as error:
            self._unsure[asked] = trigger_id, time.monotonic()
            raise PeerAway(f"the trigger can't be sent: {explain(error)}") from None
        self._unsure.pop(asked, None)

    async def _send(self, key: str, fields: dict[Any, Any]) -> None:
        await self._client.xadd(key, fields, maxlen=MOST_WAITING, approximate=True)

    async def _hear(self) -> None:
        last: Any = None
        while True:
            try:
                # From here on and not `$` at each question: what comes between two questions counts too.
                last = last or await self._newest()
                told: Any = await self._client.xread(
                    {self._keys.answers: last}, count=_ANSWERS_AT_ONCE, block=500
                )
                for entry_id, fields in told[0][1] if told else []:
                    last = entry_id
                    self._heard(fields)
            except (RedisError, OSError):
                await asyncio.sleep(LOOK_EVERY_S)
            heed_cancellation()

    async def _newest(self) -> bytes:
        newest: Any = await self._client.xrevrange(self._keys.answers, count=1)
        return bytes(newest[0][0]) if newest else b"0-0"

    def _heard(self, fields: Any) -> None:
        try:
            event = parse_entry(fields)
        except EventError:
            return
        future = self._asked.get(str(event.detail.get("id")))
        if future is not None and not future.done():
            done = event.detail.get("answer") == "done"
            future.set_result(Answer("done" if done else "refused", event.reason or ""))
