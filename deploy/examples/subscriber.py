"""A subscriber in Python: `python subscriber.py redis://127.0.0.1:6379/0 linewatch:plant-a:line-1:events`

The password comes from the environment: BROKER_PASSWORD (and BROKER_USER). The broker that `linewatch
run` starts by itself keeps its password in run.json beside its data (var/broker/run.json). Needs linewatch
installed.
"""

import asyncio
import os
import sys

from redis.exceptions import AuthenticationError, NoPermissionError

from stream.broker import Endpoint
from stream.consumer import Consumer


async def main(url: str, stream: str) -> None:
    """Prints each event once; the group `example` remembers where it was."""
    endpoint = Endpoint(url, os.environ.get("BROKER_USER"), os.environ.get("BROKER_PASSWORD"))
    async with endpoint.client() as client:
        async for event in Consumer(client, stream, "example"):
            # Your side effect belongs here. The event is acknowledged when the loop asks for the next one.
            sys.stdout.write(f"{event.captured_at} {event.camera} {event.type} {event.verdict}\n")
            sys.stdout.flush()  # else a pipe's buffer may be lost with what is acknowledged by then


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("Say which broker and which stream: subscriber.py redis://127.0.0.1:6379/0 STREAM")
    try:
        asyncio.run(main(*sys.argv[1:3]))
    except AuthenticationError:
        sys.exit(f"The broker {sys.argv[1]} wants another password: set BROKER_PASSWORD (and BROKER_USER).")
    except (NoPermissionError, ValueError) as error:
        sys.exit(f"The broker {sys.argv[1]}: {error}")
