"""uvicorn inside the app's event loop: start, address, stop. No signal handler is touched.

Streams never end by themselves, so `stop` ends them first, gives slow readers a moment, and cuts the rest.
"""

import asyncio
import contextlib
import logging
import socket
import ssl
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import uvicorn
from starlette.types import ASGIApp

from ..stamps import stamps
from .errors import ListenError

log = logging.getLogger(__name__)

# Beside a slow reader wait at most this many bytes in the kernel (Linux doubles it): else seconds of old
# pictures would stand between it and the newest. Inherited by accepted sockets.
_SEND_BUFFER_BYTES = 128 * 1024
_LINGER_S = 0.3
# Beyond these a request is answered with 503 at once; viewers have seats of their own, far fewer.
_MAX_CONNECTIONS = 512
# Whoever connects and says nothing, or begins a request and doesn't end it, takes a place for so long at
# most; and so long whoever takes nothing of an answer.
_SILENT_S, _UNREAD_S, _SWEEP_S = 20.0, 60.0, 5.0
_KEEP_ALIVE_S = 30
# The grid's address names every camera: 256 of 64 letters are 18 kB.
_MAX_HEAD_BYTES = 32 * 1024
_LOOPBACK = ("127.0.0.1", "::1", "localhost")


def parse_listen(listen: str) -> tuple[str, int]:
    """`127.0.0.1:8080` or `[::1]:8080` → host, port. Raises ListenError."""
    host, colon, port = listen.rpartition(":")
    if not colon or not port.isdigit() or int(port) > 65535:
        raise ListenError(f"web.listen {listen!r} is not ADDRESS:PORT, e.g. 127.0.0.1:8080.")
    return host.removeprefix("[").removesuffix("]"), int(port)


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach the address."""
    return host in _LOOPBACK or host.startswith("127.")


def check_listen(listen: str, users_file: Path | None, insecure: bool = False) -> None:
    """Raises ListenError for a broken address, and for one that others reach while there are no users."""
    host, _ = parse_listen(listen)
    if not is_loopback(host) and users_file is None and not insecure:
        raise ListenError(
            f"web.listen {listen} can be reached by others, and there are no users: name a web.users_file, "
            "or listen on 127.0.0.1."
        )


def check_tls(cert_file: Path, key_file: Path) -> None:
    """Raises ListenError for files that are no certificate and its key."""
    try:
        # A passphrase, though a wrong one: else OpenSSL asks for it at the terminal, and the line waits.
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(cert_file, key_file, password="")
    except OSError as error:  # ssl.SSLError is one
        raise ListenError(f"web.tls: {_what_is_wrong(cert_file, key_file, error)}.") from error


def _what_is_wrong(cert_file: Path, key_file: Path, error: OSError) -> str:
    from ..bridges.certificates import wrong_pair  # slow to import, and not needed else

    told = "; ".join(wrong.text for wrong in wrong_pair("tls", cert_file, key_file))
    return told or f"{cert_file} and {key_file} are no certificate and key: {error}"


class _Quiet(uvicorn.Server):
    """The app owns the signals; uvicorn only serves, and says when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        yield


class WebServer:
    """Serves one ASGI app on one address; `close_streams` must end all endless answers. `tls` is (certificate
    chain, key): who connects after they were written anew gets the new ones.
    """

    def __init__(
        self,
        app: ASGIApp,
        host: str,
        port: int,
        close_streams: Callable[[], None],
        tls: tuple[Path, Path] | None = None,
    ) -> None:
        self._scheme = "http" if tls is None else "https"
        self._host = host
        self._port = port
        self._close_streams = close_streams
        # log_config=None: what uvicorn says goes through the program's own logging.
        config = uvicorn.Config(
            app,
            log_config=None,
            access_log=False,
            lifespan="off",
            ws="none",
            server_header=False,
            timeout_keep_alive=_KEEP_ALIVE_S,
            limit_concurrency=_MAX_CONNECTIONS,
            timeout_graceful_shutdown=5,
            h11_max_incomplete_event_size=_MAX_HEAD_BYTES,
            ssl_certfile=None if tls is None else tls[0],
            ssl_keyfile=None if tls is None else tls[1],
        )
        self._tls = tls or ()
        self._seen = self._read = stamps(self._tls)
        if tls is not None:
            check_tls(*tls)
        config.load()
        self._server = _Quiet(config)
        self._serving: asyncio.Task[None] | None = None
        self._sweeping: asyncio.Task[None] | None = None

    @property
    def port(self) -> int:
        """The real port, also when 0 was asked for; known after `start`."""
        return self._port

    @property
    def url(self) -> str:
        """For a person on this machine."""
        host = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}.get(self._host, self._host)
        return f"{self._scheme}://{f'[{host}]' if ':' in host else host}:{self._port}/"

    async def start(self) -> None:
        """Listening when it returns. Raises ListenError."""
        listener = _listen(self._host, self._port)
        self._port = listener.getsockname()[1]
        self._serving = asyncio.create_task(self._server.serve(sockets=[listener]), name="web")
        listening = asyncio.create_task(self._server.listening.wait(), name="web listens")
        try:
            await asyncio.wait([listening, self._serving], return_when=asyncio.FIRST_COMPLETED)
        finally:
            listening.cancel()
        if not self._server.listening.is_set():
            failed, self._serving = self._serving.exception(), None
            listener.close()
            raise ListenError(f"The page can't start on {self._host}:{self._port}: {failed}.") from failed
        self._sweeping = asyncio.create_task(self._sweep(), name="web sweeps")

    async def stop(self) -> None:
        """Answers in flight end, streams at once; returns when every connection is closed."""
        if self._serving is None:
            return
        if self._sweeping is not None:
            self._sweeping.cancel()
        self._close_streams()
        self._server.should_exit = True
        await asyncio.wait([self._serving], timeout=_LINGER_S)
        for connection in list(self._server.server_state.connections):
            transport = getattr(connection, "transport", None)
            if transport is not None:
                transport.abort()
        await self._serving
        self._serving = None

    async def _sweep(self) -> None:
        """Closes connections that wait for their client too long, which uvicorn does after an answer only."""
        waiting: dict[Any, tuple[object, float]] = {}
        while True:
            await asyncio.sleep(_SWEEP_S)
            self._renew()
            before, waiting, now = waiting, {}, time.monotonic()
            for connection in list(self._server.server_state.connections):
                wait = _wait(connection)
                if wait is None:
                    continue
                what, at_most_s = wait
                of, since = before.get(connection, (None, now))
                since = since if of == what else now
                waiting[connection] = (what, since)
                if now - since > at_most_s:
                    # Closing waits until the rest is read, which may never be.
                    transport = connection.transport
                    transport.abort() if transport.is_closing() else transport.close()

    def _renew(self) -> None:
        """Two looks must find the same: of a new pair one file is there before the other."""
        before, self._seen = self._seen, stamps(self._tls)
        if self._seen == self._read or self._seen != before:
            return
        self._read = self._seen
        try:
            check_tls(*self._tls)
        except ListenError as error:
            log.error("%s The certificate from before goes on.", error)
            return
        context = self._server.config.ssl
        assert context is not None
        context.load_cert_chain(*self._tls)
        log.info("the certificate of web.tls was read again")


def _wait(connection: Any) -> tuple[object, float] | None:
    """What a connection waits for, the same as long as its client does nothing, and for how long at most;
    None: its client waits for us.
    """
    cycle, transport = getattr(connection, "cycle", None), connection.transport
    if cycle is None or cycle.response_complete or cycle.more_body or transport.is_closing():
        kept_s = _KEEP_ALIVE_S if cycle is not None and cycle.response_complete else 0.0
        return (cycle, None), kept_s + _SILENT_S
    if connection.flow.write_paused:
        return (cycle, transport.get_write_buffer_size()), _UNREAD_S
    return None


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    # With the protocol named, asyncio switches Nagle's waiting off; without it small answers take 40 ms.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        listener.bind((host, port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        why = error.strerror or str(error)
        raise ListenError(
            f"The page can't listen on {host}:{port}: {why}; choose another web.listen."
        ) from error
    return listener
