"""Why somebody can't be reached, in the system's words.

The errors' own texts are never repeated: they name classes and places in libraries, and may hold an address
with its password.
"""

import os
import re
import socket
import ssl

_UNKNOWN_HOST = "the host name is not known here"
_DEEPEST = 10
_NO_ANSWER = "no answer in time"
# What is left of the number where a library made a text of the system's error, or of several.
_NUMBER = re.compile(r"\bErr(?:no|or) (\d{1,3})\b")


def why(error: BaseException) -> str:
    """`connection refused`: what the system said, be it the cause of this error or the cause's cause."""
    found: BaseException | None = error
    for _ in range(_DEEPEST):  # an error that is raised again can be the cause of its own cause
        if found is None:
            break
        if (said := _said(found)) is not None:
            return said
        found = found.__cause__ or found.__context__
    numbers = _NUMBER.search(str(error))
    return _words(int(numbers[1])) if numbers else "the connection failed"


def host_is_unknown(host: str) -> bool:
    """Whether this machine can't tell a name's address. Asks the name servers: for a thread."""
    try:
        socket.getaddrinfo(host, None)
    except (socket.gaierror, UnicodeError):
        return True
    return False


def _said(error: BaseException) -> str | None:
    if isinstance(error, socket.gaierror):
        return _UNKNOWN_HOST
    if isinstance(error, ssl.SSLError):  # its number is none of the system's
        return "no secure connection (TLS); does the other side speak it there?"
    if isinstance(error, OSError) and error.errno:
        return _words(error.errno)
    # redis-py's is of another tree, and so are those of other libraries.
    return _NO_ANSWER if type(error).__name__ == "TimeoutError" else None


def _words(number: int) -> str:
    text = os.strerror(number)
    return text[:1].lower() + text[1:]
