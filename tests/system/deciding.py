"""A process that decides without a pause and may be killed at any moment: python -m tests.system.deciding …

Journal: the id of each event, written when the outbox said that it has it. With `last` it stops in order.
"""

import asyncio
import contextlib
import os
import sys
from pathlib import Path

from stream.broker import RunFile
from stream.events import Event
from stream.keys import Keys
from stream.outbox import Outbox
from stream.publisher import Publisher
from stream.recorder import Recorder


async def main(run_file: Path, outbox_file: Path, journal_file: Path, last: bool) -> None:
    where = RunFile.read(run_file)
    journal = os.open(journal_file, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    outbox = Outbox(outbox_file, keep=2000)
    publisher = Publisher(outbox, where.endpoint.client, Keys(where.stream), maxlen=100_000)

    def recorded(events: list[Event]) -> None:
        os.write(journal, "".join(f"{event.id}\n" for event in events).encode())
        publisher.wake()

    recorder = Recorder(outbox, site="test", line="line-1", on_recorded=recorded)
    recorder.start()
    sending = asyncio.create_task(publisher.run())
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    while not last:
        recorder.camera_down("top", "killed next")
        recorder.camera_down("side", "killed next")
        recorder.camera_up("top")
        await asyncio.sleep(0.001)
        recorder.camera_up("side")
    recorder.stop()
    assert await publisher.drained(30)
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    outbox.close()


if __name__ == "__main__":
    asyncio.run(main(*(Path(name) for name in sys.argv[1:4]), last="last" in sys.argv))
