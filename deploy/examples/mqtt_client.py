"""An MQTT client, with aiomqtt: `python mqtt_client.py 127.0.0.1 1883 linewatch/plant-a/line-1`

Prints availability, states and events as they come. Needs aiomqtt alone. MQTT_USER and MQTT_PASSWORD log in.
The MQTT broker keeps what comes while it is away, under its name (MQTT_CLIENT_ID; one client at a time).
With a camera and a level behind it, it sets that alarm level first: `... linewatch/plant-a/line-1 top 2.5`
"""

import asyncio
import json
import os
import sys

import aiomqtt


async def main(host: str, port: str, line: str, camera: str = "", level: str = "") -> None:
    """Until it is stopped."""
    user, password = os.environ.get("MQTT_USER"), os.environ.get("MQTT_PASSWORD")
    name = os.environ.get("MQTT_CLIENT_ID", "linewatch-example")
    session = aiomqtt.Client(
        host, int(port), username=user, password=password, identifier=name, clean_session=False
    )
    async with session as client:
        for topic in ("availability", "+/state", "+/events/#", "+/answer"):
            await client.subscribe(f"{line}/{topic}", qos=1)
        if level:
            command = {"command": "threshold", "value": float(level), "id": "example-1"}
            await client.publish(f"{line}/{camera}/command", json.dumps(command), qos=1)
        async for message in client.messages:
            # Your side effect belongs here; an event may come again: be idempotent by its `id`. A gap in the
            # `seq` of a camera is what the MQTT broker had no room for, or what died with this program.
            assert isinstance(message.payload, bytes)
            sys.stdout.write(f"{message.topic} {message.payload.decode()}\n")
            sys.stdout.flush()


if __name__ == "__main__":
    words = sys.argv[1:]
    if len(words) not in (3, 5) or not words[1].isdecimal():
        sys.exit(
            "Say which broker and which line: mqtt_client.py HOST PORT linewatch/SITE/LINE [CAMERA LEVEL]"
        )
    try:
        asyncio.run(main(*words))
    except (OSError, ValueError, aiomqtt.MqttError) as error:
        sys.exit(f"{words[0]}:{words[1]}: {error}")
    except KeyboardInterrupt:
        pass
