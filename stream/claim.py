"""Who speaks for a line, or is the reader of a bridge's group: one process, also where there are several
machines.

A second one on this machine is kept out by a file's lock. One elsewhere, made by copying a config file, would
share our consumer groups at the broker: each trigger would be answered by whichever reads it first, and that
may look at another belt. So a key that expires says who it is, and is renewed each second. Whoever comes
second ends. Of two that started while the broker was away, it is the one that, by its clock, started later.
"""

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from .heed import heed_cancellation
from .ids import new_id

log = logging.getLogger(__name__)

RENEW_EVERY_S, EXPIRES_S = 1.0, 3.0
_LOOK_EVERY_S = 0.2


class Taken(Exception):
    """Another process has it; one sentence for a person."""

    user_message = True


class Claim:
    """`key` at the broker. `what` says of another process that it has it, with a place for {where}, and
    `mend` what to do then. `lock` is a locked file of ours: it remembers who had it, so that a process
    which was killed is in nobody's way.
    """

    def __init__(
        self, make_client: Callable[..., Redis], key: str, lock: IO[bytes], *, what: str, mend: str
    ) -> None:
        self._make_client, self._key = make_client, key
        self._what, self._mend = what, mend
        self._run = new_id()
        self._before = ""
        with contextlib.suppress(OSError):  # then a killed one's claim is waited for until it expires
            self._before = Path(lock.name).read_text(errors="replace")
            lock.truncate(0)
            lock.write(self._run.encode())
            lock.flush()
        # What the other process wrote when we looked last: it may be dead.
        self._seen: bytes | str | None = None
        self._count = 0
        self._is_said = False

    async def take(self) -> None:
        """Before anything is read or written: raises Taken where another process is there. Takes up to
        EXPIRES_S where one was killed on another machine. A broker that is away keeps nobody from starting.
        """
        async with contextlib.aclosing(self._make_client(timeout_s=2.0)) as client:
            while not await self._turn(client, yields=True):
                heed_cancellation()
                await asyncio.sleep(_LOOK_EVERY_S)

    async def keep(self) -> None:
        """Renews it until cancelled. Raises Taken where one that was started before us turns up."""
        async with contextlib.aclosing(self._make_client(timeout_s=2.0)) as client:
            while True:
                await self._turn(client, yields=False)
                heed_cancellation()
                await asyncio.sleep(RENEW_EVERY_S)

    async def _turn(self, client: Redis, *, yields: bool) -> bool:
        """False while another process may be there: any (`yields`), or one that was started before us."""
        try:
            found = await client.get(self._key)
            told = _told(found)
            # Ids rise with the time: an order that both see alike.
            if told["run"] not in ("", self._run, self._before) and (yields or told["run"] < self._run):
                if self._seen not in (None, found):  # renewed meanwhile: it lives
                    where = f"on {told['host']:.64} (process {told['pid']:.16})"
                    raise Taken(f"{self._what.format(where=where)}; {self._mend}")
                self._seen = found
                return False
            self._seen = None
            self._count += 1
            said = {"run": self._run, "host": socket.gethostname(), "pid": os.getpid(), "n": self._count}
            await client.set(self._key, json.dumps(said), px=int(EXPIRES_S * 1000))
        except NoPermissionError as refused:
            if not self._is_said:
                log.warning("a second process would not be noticed: the broker's ACL forbids: %s", refused)
            self._is_said = True
        except (RedisError, OSError):
            pass
        return True


def _told(found: bytes | str | None) -> dict[str, str]:
    """Nobody, where it is no claim."""
    said: Any = None
    with contextlib.suppress(ValueError, RecursionError):
        said = json.loads(found or b"{}")
    told = said if isinstance(said, dict) else {}
    return {"run": str(told.get("run", ""))} | {key: str(told.get(key, "?")) for key in ("host", "pid")}
