"""`linewatch run CONFIG`: the line, until SIGINT or SIGTERM."""

import argparse
import asyncio
import json
import os
import signal
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

    from ..app import App

_THREADS_END_WITHIN_S = 5.0
HELP = "run the line: cameras in, defect events out"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "config", nargs="?", help="the config file (default: LINEWATCH_CONFIG, else ./cameras.yaml)"
    )
    parser.add_argument("--config", dest="named", metavar="CONFIG", help="the same, as an option")
    parser.add_argument("--json", action="store_true", help="print one JSON line when ready")


def main(args: argparse.Namespace) -> int:
    from config import logs
    from config.load import load
    from config.settings import secrets_of

    from ..heap import use_few_arenas
    from ..reading import refuse_wrong_page

    use_few_arenas()
    settings = load(args.named or args.config)
    refuse_wrong_page(settings)
    logs.configure(settings.logs.level, settings.logs.as_json, secrets=secrets_of(settings))
    asyncio.run(_run(settings, args.json))
    return 0


async def _run(settings: "Settings", as_json: bool) -> None:
    import logging

    from .. import systemd
    from ..app import App
    from ..endings import end, end_process_within

    for warning in settings.warnings:
        logging.getLogger(__name__).warning("%s", warning)
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for signum in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(signum, _stop_or_give_up, stop)
    app = App(settings, _take_up_logs)
    watched = asyncio.create_task(systemd.keep_watched(), name="watchdog")
    try:
        if await _started(app, stop):
            _announce(app, as_json)
            systemd.notify("READY=1", f"STATUS=The page is {app.page.url}")
            await app.serve(stop)
    finally:
        systemd.notify("STOPPING=1")
        await app.shutdown()
        await end([watched])
        end_process_within(_THREADS_END_WITHIN_S, sys.exception())


def _take_up_logs(in_force: "Settings", file: "Settings") -> None:
    """What is in flight may still hold a password that was just changed."""
    from config import logs
    from config.settings import secrets_of

    logs.configure(file.logs.level, file.logs.as_json, secrets=[*secrets_of(in_force), *secrets_of(file)])


def _stop_or_give_up(stop: asyncio.Event) -> None:
    """The first signal ends the line in order; a second one, when that hangs, ends it at once."""
    if stop.is_set():
        os._exit(1)
    stop.set()


async def _started(app: "App", stop: asyncio.Event) -> bool:
    """Start the line; False if a signal came first."""
    starting = asyncio.create_task(app.startup(), name="startup")
    signalled = asyncio.create_task(stop.wait(), name="signal")
    await asyncio.wait([starting, signalled], return_when=asyncio.FIRST_COMPLETED)
    signalled.cancel()
    if not starting.done():
        starting.cancel()
        await asyncio.gather(starting, return_exceptions=True)
        return False
    starting.result()
    return True


def _announce(app: "App", as_json: bool) -> None:
    from ..broker import run_file_of

    endpoint = app.delivery.endpoint
    assert endpoint is not None
    said = {"page": app.page.url, "broker": endpoint.url, "stream": app.delivery.keys.events}
    if as_json:
        print(json.dumps({"ready": True, **said}), flush=True)
        return
    if app.settings.events.url == "embedded":
        said["password"] = f"the broker's is in {run_file_of(app.settings.events)}"
    for name, value in said.items():
        print(f"{name:<8} {value}", flush=True)
