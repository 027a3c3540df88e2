"""An OPC UA client, with asyncua: `python opcua_client.py opc.tcp://127.0.0.1:4840/linewatch top`

Prints the camera's state, then each result as it comes; with `acknowledge` as third word it acknowledges each
(for a bridge with `handshake: client`). Needs asyncua alone. OPCUA_USER and OPCUA_PASSWORD log in; OPCUA_CERT
and OPCUA_KEY (files) encrypt. It ends when the server goes away, which an edit of the line's file may make it
do: let a service manager start it again.
"""

import asyncio
import logging
import os
import sys
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256


class Results:
    """Called for each event, and for the end; asyncua wants it to return at once."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        """It waits its turn."""
        self.came.put_nowait(event)

    async def lost(self, error: Exception) -> None:
        """Nobody else would say it: no further event comes."""
        self.came.put_nowait(ConnectionError(str(error) or "the server went away"))


async def main(url: str, camera: str, acknowledge: str = "") -> None:
    """Until it is stopped, or the server goes away."""
    logging.disable()  # asyncua has its own words for what we say
    client = Client(url)
    if certificate := os.environ.get("OPCUA_CERT"):
        await client.set_security(SecurityPolicyBasic256Sha256, certificate, os.environ["OPCUA_KEY"])
    if user := os.environ.get("OPCUA_USER"):
        client.set_user(user)
        client.set_password(os.environ.get("OPCUA_PASSWORD", ""))
    async with client:
        index = await client.get_namespace_index("urn:linewatch:bridge")
        for name in ("Ready", "ErrorCode", "OkCount", "NgCount", "ModelVersion"):
            value = await client.get_node(ua.NodeId(f"{camera}.{name}", index)).read_value()
            sys.stdout.write(f"{camera}.{name} = {value}\n")
        sys.stdout.flush()
        results = Results()
        client.connection_lost_callback = results.lost
        subscription = await client.create_subscription(50, results)
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinewatchResultEventType")
        await subscription.subscribe_events(client.nodes.server, kind)
        linewatch = client.get_node(ua.NodeId("Linewatch", index))
        while True:
            # Be idempotent by ResultId; a gap in Seq is an event that was missed.
            event = await results.came.get()
            if isinstance(event, Exception):
                raise event
            sys.stdout.write(f"{event.Camera} #{event.Seq} {event.Kind} {event.Verdict} {event.PartId}\n")
            sys.stdout.flush()
            if acknowledge:
                await linewatch.call_method(f"{index}:Acknowledge", event.ResultId)


if __name__ == "__main__":
    if len(sys.argv) < 3 or not sys.argv[1].startswith("opc.tcp://"):
        sys.exit(
            "Say where and which camera: opcua_client.py opc.tcp://HOST:PORT/linewatch CAMERA [acknowledge]"
        )
    try:
        asyncio.run(main(*sys.argv[1:4]))
    except (OSError, ua.UaError, ValueError) as error:
        sys.exit(f"{sys.argv[1]}, camera {sys.argv[2]}: {error or type(error).__name__}")
    except KeyboardInterrupt:
        pass
