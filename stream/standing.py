"""How a running line does, asked from outside: its keys at the broker, its outbox file, its page's probes.

The page would say more and asks for a login; these need only what the config file and its owner's run file
hold.
"""

import contextlib
import json
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Collection, Mapping
from dataclasses import asdict, dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any

from redis.asyncio import Redis
from redis.exceptions import NoPermissionError, RedisError

from config.services import WebSettings
from config.settings import Settings

from . import error_codes
from .broker import BrokerError, RunFile
from .keys import Keys
from .outbox_file import is_held, waiting
from .publisher import explain
from .running import Starting, where

_PROBE_WITHIN_S = 5.0


@dataclass(frozen=True, slots=True)
class CameraStanding:
    """A camera's status hash; `state` is `error_code` in words."""

    state: str
    error_code: int
    ready: bool
    ok_count: int
    ng_count: int
    processing_ms: float
    model: str


@dataclass(frozen=True, slots=True)
class Standing:
    """`running`: the heartbeat is there. `text` is that as a sentence, or why it can't be told. `pending`
    None: nobody says where the outbox is. `mistakes`: what is wrong with the config file, so that a line that
    runs goes on with the settings before.
    """

    line: str
    running: bool
    text: str
    pending: int | None
    oldest_s: float | None
    cameras: Mapping[str, CameraStanding] = field(default_factory=dict)
    mistakes: tuple[str, ...] = ()

    @property
    def is_well(self) -> bool:
        return self.running and all(camera.ready for camera in self.cameras.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def ask(settings: Settings) -> Standing:
    """Raises OutboxError for an outbox that can't be read; a broker that is away is part of the answer."""
    names = [name for name, camera in settings.cameras.items() if camera.enabled]
    try:
        at = where(settings)
    except BrokerError as error:
        text = "starts: models are being loaded and warmed up" if isinstance(error, Starting) else str(error)
        keys = Keys(settings.events.stream_key(settings.site, settings.line))
        return Standing(keys.base, False, text, *_backlog(settings.events.outbox.path))
    return await ask_at(at, names, all_cameras=False)


async def ask_at(at: RunFile, names: Collection[str] = (), *, all_cameras: bool = True) -> Standing:
    """As `ask`, of the line at this place; `names` are its cameras. With `all_cameras` they are those whose
    status stands at the broker, whatever the config file says now, and `names` only where looking for them
    is not permitted.
    """
    keys, outbox = Keys(at.stream), Path(at.outbox) if at.outbox else None
    count, oldest_s = _backlog(outbox)
    try:
        alive, cameras = await _read(at, keys, names, all_cameras)
    except BrokerError as error:
        return Standing(keys.base, False, str(error), count, oldest_s)
    starts = "starts" if outbox is not None and is_held(outbox) else "does not run"
    text = "runs" if alive else f"{starts}, or can't decide or tell: there is no heartbeat"
    return Standing(keys.base, alive, text, count, oldest_s, cameras)


def _backlog(outbox: Path | None) -> tuple[int | None, float | None]:
    """How many events wait, and the oldest for how long (s)."""
    if outbox is None:
        return None, None
    count, since = waiting(outbox)
    return count, None if since is None else max(0.0, time.time() - since)


def probe(web: WebSettings, name: str) -> str:
    """Ask /live, /ready or /startup of the page on this machine; "" when it says yes, else why not."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(web.host, web.host)
    scheme = "https" if web.tls else "http"
    url = f"{scheme}://{f'[{host}]' if ':' in host else host}:{web.port}/{name}"
    # It is our own address, and the certificate is for the name that browsers use.
    trust = ssl._create_unverified_context() if web.tls else None
    # Nor is it a proxy's business, which a container may have in its environment.
    direct = urllib.request.build_opener(
        urllib.request.ProxyHandler({}), urllib.request.HTTPSHandler(context=trust)
    )
    try:
        with direct.open(url, timeout=_PROBE_WITHIN_S) as answer:
            answer.read()
        return ""
    except urllib.error.HTTPError as error:
        # Another program's page, perhaps, which has reasons of its own or none.
        with contextlib.suppress(ValueError, LookupError, TypeError, OSError, HTTPException):
            return " ".join(json.loads(error.read())["reasons"])
        return f"{url} answers {error.code}"
    except (OSError, HTTPException) as error:  # the latter: it is no page at all
        return f"{url} does not answer: {getattr(error, 'reason', error)}"


async def _read(
    at: RunFile, keys: Keys, names: Collection[str], all_cameras: bool
) -> tuple[bool, dict[str, CameraStanding]]:
    client = at.endpoint.client(timeout_s=3.0)
    try:
        alive = bool(await client.exists(keys.heartbeat))
        if all_cameras:
            names = await _cameras(client, keys, names)
        hashes: list[Any] = [await client.hgetall(keys.status(name)) for name in names]
    except (RedisError, OSError) as error:
        raise BrokerError(f"{at.endpoint.url}: {explain(error)}") from None
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()
    return alive, {name: _camera(told) for name, told in zip(names, hashes, strict=True)}


async def _cameras(client: Redis, keys: Keys, names: Collection[str]) -> Collection[str]:
    before, _, after = keys.status("*").partition("*")
    try:
        found = [key.decode() async for key in client.scan_iter(match=keys.status("*"), count=1000)]
    except NoPermissionError:
        return names
    return sorted(key.removeprefix(before).removesuffix(after) for key in found)


def _camera(told: Mapping[bytes, bytes]) -> CameraStanding:
    said = {key.decode(): value.decode(errors="replace") for key, value in told.items()}
    code = int(said.get("error_code", "-1"))
    return CameraStanding(
        state=error_codes.WORDS.get(code, "unknown") if said else "never started",
        error_code=code,
        ready=said.get("ready") == "1",
        ok_count=int(said.get("ok_count", "0")),
        ng_count=int(said.get("ng_count", "0")),
        processing_ms=float(said.get("processing_ms", "0")),
        model=said.get("model_version", ""),
    )
