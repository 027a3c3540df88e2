"""An OPC UA client, with asyncua: `python opcua_client.py opc.tcp://127.0.0.1:4840/linewatch top`

Prints the camera's state, then each result as it comes; with `acknowledge` as third word it acknowledges each
(for a bridge with `handshake: client`). Needs asyncua alone. OPCUA_USER and OPCUA_PASSWORD log in; OPCUA_CERT
and OPCUA_KEY (files) encrypt.
"""

import asyncio
import os
import sys
from typing import Any

from asyncua import Client, ua
from asyncua.crypto.security_policies import SecurityPolicyBasic256Sha256


class Results:
    """Called for each event; asyncua wants it to return at once."""

    def __init__(self) -> None:
        self.came: asyncio.Queue[Any] = asyncio.Queue()

    def event_notification(self, event: Any) -> None:
        """It waits its turn."""
        self.came.put_nowait(event)


async def main(url: str, camera: str, acknowledge: str = "") -> None:
    """Until it is stopped."""
    client = Client(url)
    if certificate := os.environ.get("OPCUA_CERT"):
        await client.set_security(SecurityPolicyBasic256Sha256, certificate, os.environ["OPCUA_KEY"])
    if user := os.environ.get("OPCUA_USER"):
        client.set_user(user)
        client.set_password(os.environ["OPCUA_PASSWORD"])
    async with client:
        index = await client.get_namespace_index("urn:linewatch:bridge")
        for name in ("Ready", "ErrorCode", "OkCount", "NgCount", "ModelVersion"):
            value = await client.get_node(ua.NodeId(f"{camera}.{name}", index)).read_value()
            sys.stdout.write(f"{camera}.{name} = {value}\n")
        sys.stdout.flush()
        results = Results()
        subscription = await client.create_subscription(50, results)
        kind = await client.nodes.base_event_type.get_child(f"{index}:LinewatchResultEventType")
        await subscription.subscribe_events(client.nodes.server, kind)
        linewatch = client.get_node(ua.NodeId("Linewatch", index))
        while True:
            # Be idempotent by ResultId; a gap in Seq is an event that was missed.
            event = await results.came.get()
            sys.stdout.write(f"{event.Camera} #{event.Seq} {event.Kind} {event.Verdict} {event.PartId}\n")
            sys.stdout.flush()
            if acknowledge:
                await linewatch.call_method(f"{index}:Acknowledge", event.ResultId)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:4]))
