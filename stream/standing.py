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
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from redis.exceptions import RedisError

from config.services import WebSettings
from config.settings import Settings

from .broker import BrokerError, Endpoint, RunFile, endpoint_of, run_file_of
from .keys import Keys
from .outbox_file import waiting
from .publisher import explain
from .snapshot import ERROR_WORDS

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
    """`running`: the heartbeat is there. `text` is that as a sentence, or why it can't be told."""

    line: str
    running: bool
    text: str
    pending: int
    oldest_s: float | None
    cameras: Mapping[str, CameraStanding] = field(default_factory=dict)

    @property
    def is_well(self) -> bool:
        return self.running and all(camera.ready for camera in self.cameras.values())

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


async def ask(settings: Settings) -> Standing:
    """Raises OutboxError for an outbox that can't be read; a broker that is away is part of the answer."""
    keys = Keys(settings.events.stream_key(settings.site, settings.line))
    count, since = waiting(settings.events.outbox.path)
    oldest_s = None if since is None else max(0.0, time.time() - since)
    try:
        alive, cameras = await _read(_endpoint(settings), keys, settings)
    except BrokerError as error:
        return Standing(keys.base, False, str(error), count, oldest_s)
    text = "runs" if alive else "does not run, or can't decide: there is no heartbeat"
    return Standing(keys.base, alive, text, count, oldest_s, cameras)


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
        with contextlib.suppress(ValueError, OSError):
            return " ".join(json.loads(error.read())["reasons"])
        return f"{url} answers {error.code}"
    except OSError as error:
        return f"{url} does not answer: {getattr(error, 'reason', error)}"


def _endpoint(settings: Settings) -> Endpoint:
    if settings.events.url == "embedded":
        return RunFile.read(run_file_of(settings.events)).endpoint
    return endpoint_of(settings.events)


async def _read(endpoint: Endpoint, keys: Keys, settings: Settings) -> tuple[bool, dict[str, CameraStanding]]:
    names = [name for name, camera in settings.cameras.items() if camera.enabled]
    client = endpoint.client(timeout_s=3.0)
    try:
        alive = bool(await client.exists(keys.heartbeat))
        hashes: list[Any] = [await client.hgetall(keys.status(name)) for name in names]
    except (RedisError, OSError) as error:
        raise BrokerError(f"{endpoint.url}: {explain(error)}") from None
    finally:
        with contextlib.suppress(RedisError, OSError):
            await client.aclose()
    return alive, {name: _camera(told) for name, told in zip(names, hashes, strict=True)}


def _camera(told: Mapping[bytes, bytes]) -> CameraStanding:
    said = {key.decode(): value.decode(errors="replace") for key, value in told.items()}
    code = int(said.get("error_code", "-1"))
    return CameraStanding(
        state=ERROR_WORDS.get(code, "unknown") if said else "never started",
        error_code=code,
        ready=said.get("ready") == "1",
        ok_count=int(said.get("ok_count", "0")),
        ng_count=int(said.get("ng_count", "0")),
        processing_ms=float(said.get("processing_ms", "0")),
        model=said.get("model_version", ""),
    )
