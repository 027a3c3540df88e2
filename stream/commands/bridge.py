"""`linewatch bridge NAME`: one bridge of the config file, until SIGINT or SIGTERM."""

import argparse
import asyncio
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

HELP = "run one bridge of the config file: events to a system that doesn't read Redis"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", help="the bridge's name in the section `bridges`")
    parser.add_argument("--config", help="the config file (default: LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument(
        "--until-eof", action="store_true", help="also stop when standard input ends: with who started it"
    )


def main(args: argparse.Namespace) -> int:
    from config import logs
    from config.load import load
    from config.settings import secrets_of

    from ..bridges.process import known

    settings = load(args.config)
    known(args.name, settings)  # first of all: whether a line runs here doesn't matter then
    logs.configure(settings.logs.level, settings.logs.as_json, secrets=secrets_of(settings))
    asyncio.run(_run(args.name, settings, args.until_eof))
    return 0


async def _run(name: str, settings: "Settings", until_eof: bool) -> None:
    from redis.exceptions import RedisError

    from ..bridges.edits import tell_edits
    from ..bridges.process import Bridge, explained
    from ..endings import end
    from ..running import where

    at = where(settings)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, stop.set)
    if until_eof:
        loop.add_reader(sys.stdin.fileno(), stop.set)
    bridge = Bridge(name, settings, at.endpoint, at.stream)
    # The line starts its own bridges again after an edit.
    telling = [] if until_eof else [asyncio.create_task(tell_edits(name, settings), name="bridge-edits")]
    try:
        await bridge.run(stop)
    except RedisError as refused:
        raise explained(refused) from None
    finally:
        await end(telling)
