"""HTTP/1.1 POSTs to one address: h11 says what the bytes mean, asyncio moves them.

Every attempt has one deadline over connecting, sending and reading: a peer that hangs, or drips one byte a
second, costs no more than that. No redirect, proxy, cookie or compression: a webhook has none.
"""

import asyncio
import contextlib
import logging
import ssl
from dataclasses import dataclass
from urllib.parse import urlsplit

import h11

from config.services import TlsClientSettings

from ..stamps import stamps
from .sink import PeerAway

log = logging.getLogger(__name__)

_MOST_IDLE = 8
_MOST_BODY_BYTES = 64 * 1024
_READ_BYTES = 16 * 1024


@dataclass(frozen=True, slots=True)
class Reply:
    """What the peer answered; `retry_after_s` is 0 where it named none."""

    status: int
    retry_after_s: float = 0.0


@dataclass(eq=False, slots=True)
class _Connection:
    reader: asyncio.StreamReader
    writer: asyncio.StreamWriter
    http: h11.Connection

    def close(self) -> None:
        self.writer.close()

    async def is_stale(self) -> bool:
        """Closed, or the peer has said something unasked: a server that ends an idle connection may send 408
        or 400 first, and that would be taken for the answer to the next event.
        """
        if self.writer.is_closing() or self.http.trailing_data[0]:
            return True
        try:
            async with asyncio.timeout(0):
                await self.reader.read(1)
        except TimeoutError:
            return False
        except OSError:
            pass
        return True


class _Stale(Exception):
    """A kept connection was closed before it answered: nothing is known to be wrong."""


class Poster:
    """`post` may be called several times at once; each has a connection, and a few idle ones are kept.

    Raises PeerAway when a certificate or key can't be read.
    """

    def __init__(self, url: str, tls: TlsClientSettings, timeout_s: float) -> None:
        parts = urlsplit(url)
        self.host = parts.hostname or ""
        self._port = parts.port or (443 if parts.scheme == "https" else 80)
        self._target = (parts.path or "/") + (f"?{parts.query}" if parts.query else "")
        self._authority = parts.netloc
        self._timeout_s = timeout_s
        self._trust = ServerTrust(tls) if parts.scheme == "https" else None
        self._idle: list[_Connection] = []

    async def run(self) -> None:
        """Until cancelled; then what is idle is closed."""
        try:
            await asyncio.Event().wait()
        finally:
            while self._idle:
                self._idle.pop().close()

    async def post(self, body: bytes, headers: dict[str, str]) -> Reply:
        """One POST; raises PeerAway when no whole answer came in time."""
        try:
            async with asyncio.timeout(self._timeout_s):
                with contextlib.suppress(_Stale):
                    return await self._attempt(body, headers, await self._kept())
                return await self._attempt(body, headers, None)
        except TimeoutError:
            raise PeerAway(f"{self.host} does not answer within {self._timeout_s:g} s") from None
        except ssl.SSLCertVerificationError as error:
            raise PeerAway(f"the certificate of {self.host} is refused: {error.verify_message}") from None
        except ssl.SSLError as error:
            raise PeerAway(f"TLS with {self.host} fails: {error.reason or 'unknown reason'}") from None
        except OSError as error:
            why = error.strerror or type(error).__name__
            raise PeerAway(f"{self.host}:{self._port} can't be reached: {why}") from None
        except h11.RemoteProtocolError:
            raise PeerAway(f"{self.host} answers something that is not HTTP") from None

    async def _kept(self) -> _Connection | None:
        while self._idle:
            kept, is_stale = self._idle.pop(), True
            try:
                is_stale = await kept.is_stale()
            finally:
                if is_stale:
                    kept.close()
            if not is_stale:
                return kept
        return None

    async def _attempt(self, body: bytes, headers: dict[str, str], kept: _Connection | None) -> Reply:
        connection = kept or await self._connect()
        whole = False
        try:
            await self._send(connection, body, headers)
            reply = await self._receive(connection, kept is not None)
            whole = True
            return reply
        except ConnectionError:
            if kept is not None:
                raise _Stale from None
            raise
        finally:
            self._keep_or_close(connection, whole)

    async def _connect(self) -> _Connection:
        # No ssl_handshake_timeout: the deadline of the whole attempt holds.
        tls = None if self._trust is None else self._trust.context()
        reader, writer = await asyncio.open_connection(self.host, self._port, ssl=tls)
        return _Connection(reader, writer, h11.Connection(h11.CLIENT))

    async def _send(self, connection: _Connection, body: bytes, headers: dict[str, str]) -> None:
        http = connection.http
        all_headers = {"host": self._authority, "content-length": str(len(body)), **headers}
        request = h11.Request(method="POST", target=self._target, headers=list(all_headers.items()))
        for event in (request, h11.Data(data=body), h11.EndOfMessage()):
            connection.writer.write(http.send(event) or b"")
        await connection.writer.drain()

    async def _receive(self, connection: _Connection, is_kept: bool) -> Reply:
        reply, read = Reply(0), 0
        while True:
            match connection.http.next_event():
                case h11.NEED_DATA:
                    data = await connection.reader.read(_READ_BYTES)
                    if not data and is_kept and not reply.status:
                        raise _Stale
                    connection.http.receive_data(data)
                case h11.Response() as response:
                    reply = Reply(response.status_code, _retry_after_s(response))
                case h11.Data() as data_event:
                    read += len(data_event.data)
                    if read > _MOST_BODY_BYTES:  # the status is all we came for
                        return reply
                case h11.EndOfMessage():
                    return reply
                case h11.ConnectionClosed():
                    raise ConnectionResetError(None, "closed without an answer")

    def _keep_or_close(self, connection: _Connection, whole: bool) -> None:
        done = connection.http.our_state is h11.DONE and connection.http.their_state is h11.DONE
        if whole and done and len(self._idle) < _MOST_IDLE:
            connection.http.start_next_cycle()
            self._idle.append(connection)
        else:
            connection.close()


def _retry_after_s(response: h11.Response) -> float:
    """Only seconds: a date in it would trust the peer's clock."""
    text = next((value for name, value in response.headers if name == b"retry-after"), b"")
    return float(text) if text.isdigit() and len(text) < 9 else 0.0


class ServerTrust:
    """How a server is checked, and what we show it. Raises PeerAway for files that can't be read; those that
    are written anew later count from the next connection on.
    """

    def __init__(self, tls: TlsClientSettings) -> None:
        self._tls = tls
        self._files = [file for file in (tls.ca_file, tls.cert_file, tls.key_file) if file is not None]
        self._read = stamps(self._files)
        self._context = _context(tls)

    def context(self) -> ssl.SSLContext:
        """For the next connection. What can't be read now is said, and what was read before is used on."""
        if (now := stamps(self._files)) != self._read:
            self._read = now
            try:
                self._context = _context(self._tls)
            except PeerAway as away:
                log.warning("%s; those that were read before are used on", away)
        return self._context


def _context(tls: TlsClientSettings) -> ssl.SSLContext:
    try:
        context = ssl.create_default_context(cafile=tls.ca_file)
        if tls.cert_file is not None:
            # A passphrase, though a wrong one: else OpenSSL asks for it at the terminal, and all waits.
            context.load_cert_chain(tls.cert_file, tls.key_file, password="")
    except OSError as error:  # an SSLError is one
        from .certificates import wrong_for_client  # slow to import, and not needed else

        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or "can't be read"
        files = ", ".join(str(f) for f in (tls.ca_file, tls.cert_file, tls.key_file) if f is not None)
        told = next((wrong.text for wrong in wrong_for_client(tls)), None)
        raise PeerAway(told or f"the certificate files ({files}) can't be used: {why}") from None
    if not tls.verify:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context
