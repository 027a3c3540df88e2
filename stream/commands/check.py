"""`linewatch check CONFIG`: is the file right, and what do the cameras and the broker answer?"""

import argparse
import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from config.settings import Settings

    from ..probe import Answer

HELP = "check the config file; try each camera and the broker"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", nargs="?", help="the config file (LINEWATCH_CONFIG, else ./cameras.yaml)")
    parser.add_argument("--config", dest="named", metavar="FILE", help="the same, as an option")
    parser.add_argument("--offline", action="store_true", help="only read the file, try nothing")
    parser.add_argument("--strict", action="store_true", help="exit 1 if a camera or the broker fails")
    parser.add_argument("--json", action="store_true", help="one JSON object on the last line")


def main(args: argparse.Namespace) -> int:
    """Wrong settings: ConfigError, exit 2. What does not answer is told, and is no mistake in the file."""
    import asyncio

    from config.load import load

    settings = load(args.named or args.file)
    warnings = [*settings.warnings, *_look(settings)]
    for warning in warnings:
        print(f"warning: {warning}", file=sys.stderr)
    answers = {} if args.offline else asyncio.run(_ask(settings))
    _report(settings, warnings, answers, as_json=args.json)
    return 1 if args.strict and not all(answer.ok for answer in answers.values()) else 0


def _look(settings: "Settings") -> list[str]:
    """Warnings, each with its line. Raises ConfigError for what would keep the line from starting."""
    from config.load import ConfigError, placed

    from ..bridges.certificates import wrong_for_client
    from ..bridges.checks import wrong_bridges
    from ..reading import without_model, wrong_page

    file = Path(settings.file or "")
    wrong = [placed(file, key, text) for key, text in wrong_page(settings)]
    warnings: list[str] = []
    if settings.events.url.startswith("rediss"):
        for mistake in wrong_for_client(settings.events.tls):
            warnings.append(placed(file, ("events", *mistake.key), mistake.text))
    for name, mistake in wrong_bridges(settings):
        told = placed(file, ("bridges", name, *mistake.key), mistake.text)
        # One that `linewatch run` does not start may be run on another machine.
        (wrong if settings.bridges[name].autostart else warnings).append(told)
    if wrong:
        raise ConfigError(wrong)
    warnings += [placed(file, ("cameras", name, "model"), text) for name, text in without_model(settings)]
    return warnings


async def _ask(settings: "Settings") -> "dict[str, Answer]":
    """All at once: one that doesn't answer costs the others no time. The broker's key is ""."""
    import asyncio

    from ..probe import probe_broker

    cameras = {name: camera for name, camera in settings.cameras.items() if camera.enabled}
    asked = [_ask_camera(name, camera.source) for name, camera in cameras.items()]
    broker, *answers = await asyncio.gather(probe_broker(settings), *asked)
    return {"": broker, **dict(zip(cameras, answers, strict=True))}


async def _ask_camera(name: str, source: object) -> "Answer":
    import functools

    from ..probe import Answer, probe_camera
    from ..reading import is_sent_to
    from ..sources.base import build

    if is_sent_to(source):
        return Answer(True, "not tried: its pictures are sent to a running line only")
    return await probe_camera(name, functools.partial(build, name, source))


def _report(
    settings: "Settings", warnings: list[str], answers: "dict[str, Answer]", *, as_json: bool
) -> None:
    from ..reading import headline

    said = {name: {"ok": answer.ok, "answer": answer.text} for name, answer in answers.items()}
    broker = said.pop("", None)
    if as_json:
        told = {"file": str(settings.file), "cameras": said, "broker": broker}
        print(json.dumps(told | {"warnings": warnings}, ensure_ascii=False))
        return
    print(headline(settings))
    width = max(map(len, [*said, "broker"]))
    for name, answer in [*said.items(), *([("broker", broker)] if broker else [])]:
        print(f"  {name:<{width}}  {'ok     ' if answer['ok'] else 'FAILED '} {answer['answer']}")
