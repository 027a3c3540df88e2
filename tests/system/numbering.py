"""A process that numbers what it decides, until its stdin ends: python -m tests.system.numbering RUN OUTBOX

It says `refused` when its disk refuses and events wait in memory, `stored` when nothing waits any more, and
at the end how many events it has decided.
"""

import asyncio
import contextlib
import sys
from pathlib import Path

from stream.broker import RunFile
from stream.keys import Keys
from stream.outbox import Outbox
from stream.publisher import Publisher
from stream.recorder import Recorder


async def main(run_file: Path, outbox_file: Path) -> None:
    where = RunFile.read(run_file)
    outbox = Outbox(outbox_file)
    publisher = Publisher(outbox, where.endpoint.client, Keys(where.stream), maxlen=100_000)
    recorder = Recorder(outbox, site="test", line="line-1", on_recorded=lambda events: publisher.wake())
    sending = asyncio.create_task(publisher.run())
    ending = asyncio.create_task(asyncio.to_thread(sys.stdin.read))
    said, number = "stored", 0
    while not ending.done():
        recorder.system("number", detail={"number": number})
        number += 1
        if number % 50 == 0:
            recorder.tick()
        now = "refused" if recorder.held > 20 else "stored" if recorder.held == 0 else said
        if now != said:
            said = now
            say(said)
        await asyncio.sleep(0.002)
    recorder.tick()
    assert recorder.held == 0
    assert await publisher.drained(30)
    say(str(number))
    sending.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await sending
    outbox.close()


def say(word: str) -> None:
    sys.stdout.write(word + "\n")
    sys.stdout.flush()


if __name__ == "__main__":
    asyncio.run(main(*(Path(name) for name in sys.argv[1:3])))
