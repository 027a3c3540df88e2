"""Ports for servers that must be told one before they start."""

import contextlib
import itertools
import os
import socket

# Below those that the kernel gives to outgoing connections and to whoever asks for any, so that nobody comes
# between the choice and the server's start; each process of a run has a part of its own.
_FIRST, _EACH, _PARTS = 12_000, 5_000, 4
_PART = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw")) % _PARTS
_UDP = socket.SOCK_DGRAM
_turn = itertools.count(os.getpid() * 97)  # two runs on one machine begin at different places


def free_port() -> int:
    """A port of 127.0.0.1 that is free now for TCP and UDP; not given again soon."""
    for _ in range(_EACH):
        port = _FIRST + _PART * _EACH + next(_turn) % _EACH
        with contextlib.suppress(OSError), socket.create_server(("", port)), socket.socket(type=_UDP) as udp:
            udp.bind(("", port))
            return port
    raise AssertionError("no port is free")
