"""Peers that vanish without a word: a PLC that lost its power, a cable that was pulled.

Their connections stay open for ever on our side. One for each restart of a machine, and one day no further
file can be opened and nobody is let in.
"""

import socket
from asyncio.trsock import TransportSocket
from collections.abc import Iterable

# Seconds of silence before the peer's kernel is asked, between two questions, and how many. None is asked
# while an answer of ours is under way, as it is to a PLC that polled and died: that one has milliseconds.
_ASKED = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 60_000}


def end_vanished(listening: Iterable[TransportSocket]) -> None:
    """Connections that are accepted on these sockets from now on end about a minute after their peer has
    vanished (on Linux they inherit this). A peer that is there and says nothing keeps its own, unless it
    leaves unread for a minute what we send.
    """
    for listener in listening:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in _ASKED.items():
            if (option := getattr(socket, name, None)) is not None:
                listener.setsockopt(socket.IPPROTO_TCP, option, value)
