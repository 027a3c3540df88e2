"""`linewatch events`: the events of a line, one on a line; what a person or a script subscribes with."""

import argparse
import asyncio
import contextlib
import os
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import count

if TYPE_CHECKING:
    from redis.asyncio import Redis

    from ..broker import RunFile
    from ..events import Event

_AGAIN_S = 0.5
HELP = "print the events of a line, and follow them"


class OutputError(Exception):
    """What was to be printed can't be written; one sentence for a person."""

    user_message = True


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--config", type=Path, help="config file (else LINEWATCH_CONFIG, else ./cameras.yaml)"
    )
    parser.add_argument("--run-file", type=Path, help="run file of a running Linewatch, instead of a config")
    parser.add_argument("--follow", action="store_true", help="go on with what comes, until interrupted")
    begin = parser.add_mutually_exclusive_group()
    begin.add_argument("--group", help="read as this consumer group: from its last acknowledged event on")
    begin.add_argument("--last", type=count, default=None, metavar="N", help="begin with the last N events")
    parser.add_argument("--json", action="store_true", help="one JSON object a line")


def main(args: argparse.Namespace) -> int:
    return asyncio.run(_print(_where(args), args))


def _where(args: argparse.Namespace) -> "RunFile":
    from config.load import ConfigError, load

    from ..broker import RunFile
    from ..running import remains_of, where, where_despite

    if args.run_file is not None:
        return RunFile.read(args.run_file)
    try:
        settings = load(args.config)
    except ConfigError as error:
        found = where_despite(error, remains_of(args.config))
        for mistake in error.lines:
            sys.stderr.write(f"remark: {mistake}\n")
        return found
    return where(settings)


async def _print(where: "RunFile", args: argparse.Namespace) -> int:
    async with contextlib.aclosing(_told(where, args)) as told:
        async for event in told:
            _write(event.json_text() if args.json else _line(event))
    return 0


async def _told(where: "RunFile", args: argparse.Namespace) -> AsyncGenerator["Event", None]:
    """The events; raises BrokerError. Who prints them stands outside: their errors are not the broker's."""
    from redis.exceptions import RedisError

    from ..broker import BrokerError
    from ..publisher import explain

    try:
        # Not the client's own `async with`: a cluster's connects there, and may be away.
        async with contextlib.aclosing(where.endpoint.client()) as client:
            async for event in _events(client, where.stream, args):
                yield event
    except (RedisError, OSError) as error:
        raise BrokerError(f"{explain(error)}: {where.endpoint.url}") from None


def _write(line: str) -> None:
    """A reader that has gone is left to config/cli.py."""
    try:
        sys.stdout.write(f"{line}\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise
    except OSError as error:
        # What is left in the buffer would fail once more at the interpreter's end, with a traceback.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise OutputError(f"the output can't be written: {error.strerror}") from None


def _events(client: "Redis", stream: str, args: argparse.Namespace) -> AsyncIterator["Event"]:
    if args.group is None:
        return _plain(client, stream, args)
    from ..consumer import Consumer
    from ..publisher import explain

    consumer = Consumer(
        client,
        stream,
        args.group,
        until_idle=not args.follow,
        on_waiting=lambda error: _say_waiting(explain(error)),
    )
    return aiter(consumer)


async def _plain(client: "Redis", stream: str, args: argparse.Namespace) -> AsyncIterator["Event"]:
    """Without a group: everything (or the last N), then, following, what comes. Nobody else notices."""
    last: Any = b"0-0"
    if args.last is not None:
        for entry_id, event in reversed(_ours(await client.xrevrange(stream, count=args.last))):
            last = entry_id
            if event is not None:
                yield event
    while args.last is None or args.follow:
        after: dict[Any, Any] = {stream: last}
        block_ms = 1000 if args.follow else None
        told: Any = await _patient(lambda: client.xread(after, count=500, block=block_ms), args.follow)  # noqa: B023
        if not told and not args.follow:
            return
        for entry_id, event in _ours(told[0][1] if told else []):
            if event is not None:
                yield event
            last = entry_id


async def _patient(ask: "Callable[[], Awaitable[Any]]", follow: bool) -> Any:
    """Who follows outlives a broker that goes away, and is told; who only looks gets the error."""
    from redis.exceptions import AuthenticationError, NoPermissionError, RedisError

    from ..publisher import explain

    said = ""
    while True:
        try:
            return await ask()
        except (AuthenticationError, NoPermissionError):
            raise
        except (RedisError, OSError) as error:
            if not follow:
                raise
            if said != (said := explain(error)):
                _say_waiting(said)
            await asyncio.sleep(_AGAIN_S)


def _say_waiting(why: str) -> None:
    sys.stderr.write(f"waiting: {why}\n")


def _ours(entries: Any) -> list[tuple[bytes, Any]]:
    from ..events import EventError, parse_entry

    found: list[tuple[bytes, Any]] = []
    for entry_id, fields in entries:
        try:
            found.append((entry_id, parse_entry(fields)))
        except EventError as error:
            sys.stderr.write(f"entry {entry_id.decode()} is skipped: {error}\n")
            found.append((entry_id, None))
    return found


def _line(event: "Event") -> str:
    ratio = "" if event.score_ratio is None else f" ratio {event.score_ratio:.2f}"
    reason = "" if event.reason is None else f" ({event.reason})"
    part = "" if event.part_id == "NA" else f" part {event.part_id}"
    return (
        f"{event.captured_at} {event.camera} #{event.seq} {event.type} {event.verdict} {event.severity}"
        f"{ratio}{part} {event.defect_id[-12:]}{reason}"
    )
