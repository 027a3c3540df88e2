"""`linewatch status`: what the running line says of itself, from any shell of this machine."""

import argparse
import asyncio
import json
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..standing import Standing

HELP = "say how the running line does: each camera, its counts, and what waits in the outbox"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--config", dest="named", metavar="FILE", help="the same, as an option")
    asked = parser.add_mutually_exclusive_group()  # only the config says where the page is
    asked.add_argument("--run-file", type=Path, help="run file of a running Linewatch, instead of a config")
    asked.add_argument(
        "--probe",
        choices=("live", "ready", "startup"),
        help="ask this probe of the page instead: exit 0 or 1, for health checks",
    )
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    """0: the line runs and every camera is ready; 1: it does not, or one is not."""
    if args.probe is not None:
        return _probe(args.named or args.file, args.probe)
    standing = asyncio.run(_ask(args))
    print(json.dumps(standing.as_json(), ensure_ascii=False) if args.json else _text(standing))
    return 0 if standing.is_well else 1


async def _ask(args: argparse.Namespace) -> "Standing":
    """A line goes on with its settings when its file gets a mistake, which is a remark then."""
    from config.load import ConfigError, load

    from ..broker import RunFile
    from ..running import remains_of, where_despite
    from ..standing import ask, ask_at

    if args.run_file is not None:
        return await ask_at(RunFile.read(args.run_file))
    file = args.named or args.file
    try:
        settings = load(file)
    except ConfigError as error:
        remains = remains_of(file)
        told = await ask_at(where_despite(error, remains), remains.cameras)
        return replace(told, mistakes=error.lines)
    return await ask(settings)


def _probe(file: str | None, name: str) -> int:
    from config.load import ConfigError, load

    from ..running import remains_of
    from ..standing import probe

    try:
        web = load(file).web
    except ConfigError:
        remains = remains_of(file)
        if not remains.is_whole:
            raise
        web = remains.settings.web
    said = probe(web, name)
    print(said or f"{name}: yes")
    return int(bool(said))


def _text(standing: "Standing") -> str:
    oldest = "" if standing.oldest_s is None else f", the oldest for {standing.oldest_s:.0f} s"
    lines = [f"{standing.line}: {standing.text}"]
    if standing.pending is not None:
        lines.append(f"{standing.pending} events wait for the broker{oldest}")
    for name, camera in standing.cameras.items():
        counts = f"{camera.ok_count} ok, {camera.ng_count} ng, {camera.processing_ms:.0f} ms"
        lines.append(f"  {name:<16} {camera.state:<12} {counts}  {camera.model or 'no model'}")
    if standing.mistakes:
        lines.append("remark: the config file has mistakes, so a line that runs keeps the settings before:")
        lines += [f"  {mistake}" for mistake in standing.mistakes]
    return "\n".join(lines)
