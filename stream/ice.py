"""The config's STUN and TURN servers as aiortc takes them, what a peer's description must have, and aiortc's
ways with one that cannot be read.
"""

import contextlib
import re
from collections.abc import Sequence

from aiortc import InvalidStateError, RTCIceServer, RTCPeerConnection

from config.ice import IceServer

# What aiortc raises for a description that contradicts itself: it depends on the nonsense. RuntimeError: a
# StopIteration inside it.
UNREADABLE = (
    ValueError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,
    InvalidStateError,
)


def rtc_servers(servers: Sequence[IceServer]) -> list[RTCIceServer]:
    """An empty list where there are none, and not None: by default aiortc would ask a public server."""
    return [
        RTCIceServer(
            urls=server.url,
            username=server.username,
            credential=None if server.credential is None else server.credential.get_secret_value(),
        )
        for server in servers
    ]


def lost_relay(servers: Sequence[IceServer], sdp: str) -> str | None:
    """What to say when a TURN server is configured and our description `sdp` has no address of it: aiortc
    goes on without one and tells nobody. None where all is well.
    """
    turn = [server.url for server in servers if server.url.startswith("turn")]
    if not turn or " typ relay" in sdp:
        return None
    return f"{turn[0]} gave no relay; look at its url, username and credential in ice_servers"


def has_fingerprint(sdp: str) -> bool:
    """Whether a peer's description says by which certificate it is known: without it aiortc fails in a task
    of its own, long after its answer.
    """
    return re.search(r"^a=fingerprint:", sdp, re.MULTILINE) is not None


async def close(peer: RTCPeerConnection) -> None:
    """aiortc's own close raises AttributeError for half a description; it opened nothing then."""
    with contextlib.suppress(AttributeError):
        await peer.close()
