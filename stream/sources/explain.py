"""FFmpeg's and the system's errors as one sentence for a person.

The errors' own texts are never used: they can contain the URL with its password.
"""

import errno
import os
from pathlib import Path
from urllib.parse import urlsplit

import av.error

from .. import reach
from .base import Broken, Ended, Refused, SourceError, Stalled, Unreachable

_REFUSED: tuple[tuple[type[Exception], str], ...] = (
    (av.error.HTTPUnauthorizedError, "refuses this user or password (401); check username and password"),
    (av.error.HTTPForbiddenError, "does not allow this user to see it (403); check the user's rights"),
    (av.error.HTTPNotFoundError, "knows no such stream (404); check the path in url"),
    (av.error.HTTPBadRequestError, "does not understand the request (400); check url and transport"),
    (av.error.HTTPOtherClientError, "refuses the request (4xx); check url and transport"),
    (av.error.DecoderNotFoundError, "sends a codec that cannot be decoded here"),
    (av.error.ProtocolNotFoundError, "has an address of a kind that cannot be opened here"),
)

_BY_ERRNO = {
    errno.ECONNREFUSED: "nothing listens there (connection refused)",
    errno.EHOSTUNREACH: "no route to that host",
    errno.ENETUNREACH: "no route to that network",
    errno.ECONNRESET: "the connection was cut",
    errno.EPIPE: "the connection was cut",
    errno.ETIMEDOUT: "no answer in time",
    errno.EIO: "no connection; the camera hung up",
    errno.EPROTONOSUPPORT: "it does not send that way; give another transport (tcp or udp)",
    # FFmpeg's -1, too: the answer to PLAY did not come.
    errno.EPERM: "the camera hung up before the first picture, or a firewall of this machine is in the way",
}


def opening(error: Exception, where: str) -> SourceError:
    """Why `where` (an address without credentials, or a path) could not be opened."""
    for kind, text in _REFUSED:
        if isinstance(error, kind):
            return _refused(f"{where} {text}", quick=kind is av.error.HTTPNotFoundError)
    if isinstance(error, av.error.HTTPServerError):
        return Unreachable(f"{where} answered that it has a fault (5xx)")
    if isinstance(error, av.error.InvalidDataError):
        if "://" in where:  # FFmpeg says the same of both
            return Broken(f"{where}: it hung up, or what it answers is no video; has it too many viewers?")
        return Broken(f"{where}: what is there is no video")
    if isinstance(error, av.error.ExitError):
        return Unreachable(f"{where}: no answer in time")
    if isinstance(error, av.error.EOFError):
        return Unreachable(f"{where}: hung up before it sent anything")
    return Unreachable(f"{where}: {_system(error, where)}")


def reading(error: Exception, where: str) -> SourceError:
    """Why a stream that was open broke off."""
    if isinstance(error, av.error.ExitError | av.error.TimeoutError):
        return Stalled(f"{where}: no data in time")
    if isinstance(error, av.error.EOFError):
        return Ended(f"{where}: the camera closed the stream")
    if isinstance(error, av.error.InvalidDataError):
        return Broken(f"{where} sent data that cannot be decoded")
    return Unreachable(f"{where}: {_system(error, where)}")


def local(error: OSError, path: Path) -> SourceError:
    """Why a file or folder of this machine, or of a share, can't be looked at."""
    if isinstance(error, PermissionError):
        return Refused(f"{path}: no right to read it; let the user that Linewatch runs as read it")
    return Unreachable(f"{path} can't be read: {error.strerror or type(error).__name__}")


def _system(error: Exception, where: str) -> str:
    number = error.errno if isinstance(error, OSError) else None
    # FFmpeg says the same of a name that it can't look up and of a camera that hangs up.
    if number == errno.EIO and (host := _host(where)) and reach.host_is_unknown(host):
        return f"the host name {host} is not known here; check it in url, or write the address in numbers"
    if number == errno.EIO and where.startswith("rtsps:"):
        return "no secure connection; wrong host, no TLS there, or its certificate is not by tls_ca_file"
    if number in _BY_ERRNO:
        return _BY_ERRNO[number]
    if number is not None and number > 0:
        return os.strerror(number)
    return f"it could not be opened ({type(error).__name__})"


def _host(where: str) -> str | None:
    return urlsplit(where).hostname if "://" in where else None


def _refused(text: str, *, quick: bool) -> Refused:
    error = Refused(text)
    if quick:
        error.cap_s = (
            3.0  # media servers answer 404 until their own camera is there; nobody is locked out by it
        )
    return error
