"""`linewatch camera-sim`: cameras that aren't there, as real RTSP, until stopped."""

import argparse
import asyncio
import contextlib
import json
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .arguments import seconds

if TYPE_CHECKING:
    import ssl

    from stream.sim.camera import SimCamera
    from stream.sim.server import SimServer
    from stream.sim.session import Door
    from stream.sim.shown import Show

HELP = "serve a pattern production line or a folder of pictures as RTSP cameras"
LOOK_NAMES = ("machined", "label")
_DEFAULT_NAMES = ("top", "side")


class InputError(ValueError):
    """What the command line says can't be served."""

    user_message = True
    exit_code = 2


def configure(parser: argparse.ArgumentParser) -> None:
    """The options."""
    add = parser.add_argument
    add("--host", type=_host, default="127.0.0.1", help="address to listen on (default: this machine only)")
    add("--port", type=_port, default=8554, help="TCP port, 0 for any free one (default 8554)")
    add(
        "--look",
        action="append",
        default=[],
        choices=LOOK_NAMES,
        help="a camera at a pattern line; repeatable",
    )
    add(
        "--data",
        action="append",
        default=[],
        type=Path,
        metavar="DIR",
        help="a camera that shows a folder; repeatable",
    )
    add("--name", action="append", default=[], help="names of the cameras (paths), looks first; repeatable")
    add("--fps", type=float, default=10.0, help="frames per second (default 10)")
    add("--size", default="640x480", help="width x height of pattern lines (default 640x480)")
    add("--seed", type=_seed, default=1, help="another seed, another sequence (default 1)")
    add("--phase", default="live", choices=("learn", "live"), help="learn: good ones only (default live)")
    add(
        "--dwell",
        type=seconds,
        default=1.0,
        metavar="S",
        help="seconds a folder's picture stands while live",
    )
    add("--learn-dwell", type=seconds, default=0.5, metavar="S", help="the same while learning")
    add("--user", help="ask for this user")
    add("--password-file", type=Path, metavar="FILE", help="and the password in this file")
    add("--auth", default="digest,basic", help="schemes to offer (default digest,basic)")
    add("--tls-cert", type=Path, metavar="FILE", help="certificate (PEM): serve rtsps, with --tls-key")
    add("--tls-key", type=Path, metavar="FILE", help="its private key (PEM)")
    add("--schedule", type=Path, metavar="DIR", help="write what was shown when to DIR/NAME.jsonl")
    add(
        "--fault",
        action="append",
        default=[],
        metavar="NAME:FAULT=VALUE@S",
        help="e.g. top:stall=5@20; repeatable",
    )
    add("--json", action="store_true", help="print one JSON line when ready")


def _host(text: str) -> str:
    try:
        text.encode("idna")
    except UnicodeError:
        raise argparse.ArgumentTypeError(f"there can be no host of the name {text!r}") from None
    return text


def _port(text: str) -> int:
    if not text.isdecimal() or int(text) > 65535:
        raise argparse.ArgumentTypeError(f"{text!r} is no port from 0 to 65535")
    return int(text)


def _seed(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is no whole number of 0 or more")
    return int(text)


def main(args: argparse.Namespace) -> int:
    """Serve until SIGINT or SIGTERM; 0."""
    asyncio.run(_serve(args))
    return 0


async def _serve(args: argparse.Namespace) -> None:
    import cv2

    from stream.sim.server import serving

    cv2.setNumThreads(1)  # pictures are small: more threads would only take time from the line that is tested

    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    cameras, door = build_cameras(args), _door(args)
    faults = [asyncio.create_task(_fail_later(cameras, *fault)) for fault in _faults(args, cameras)]
    async with serving(cameras, host=args.host, port=args.port, door=door, tls=_tls(args)) as server:
        _say(server, cameras, args)
        await server.until(stop)
    for fault in faults:
        fault.cancel()
    await asyncio.gather(*faults, return_exceptions=True)


def build_cameras(args: argparse.Namespace) -> "list[SimCamera]":
    """One camera for each --look and --data; two pattern lines when there is neither. Raises InputError."""
    from stream.sim.camera import SimCamera
    from stream.sim.schedule import ScheduleWriter

    if not 0.2 <= args.fps <= 120:
        raise InputError(f"--fps {args.fps:g}: want 0.2 to 120")
    cameras = []
    for name, show in _shows(args):
        try:
            schedule = ScheduleWriter(args.schedule / f"{name}.jsonl") if args.schedule else None
        except OSError as error:
            raise InputError(f"--schedule {args.schedule}: can't be written: {error.strerror}") from error
        camera = SimCamera(name, show, args.fps, schedule)
        camera.set("phase", args.phase)
        cameras.append(camera)
    return cameras


def _shows(args: argparse.Namespace) -> "list[tuple[str, Show]]":
    from stream.sim.folder import FolderShow, Pace
    from stream.sim.shows import PatternShow

    looks = args.look or ([] if args.data else list(LOOK_NAMES))
    pace, size = Pace(args.dwell, args.learn_dwell), _size(args.size)
    shows: list[Show] = [PatternShow(look, args.seed + i, size) for i, look in enumerate(looks)]
    shows += [FolderShow(folder, args.seed, pace) for folder in args.data]
    names = _names(args.name, len(looks), args.data)
    return list(zip(names, shows, strict=True))


def _names(said: Sequence[str], looks: int, folders: Sequence[Path]) -> list[str]:
    by_look = [_DEFAULT_NAMES[i] if i < len(_DEFAULT_NAMES) else f"cam{i + 1}" for i in range(looks)]
    names = [*by_look, *(_slug(folder.resolve().name) for folder in folders)]
    if len(said) > len(names):
        raise InputError(f"{len(said)} names for {len(names)} cameras")
    names[: len(said)] = said
    if len(set(names)) < len(names) or any(name != _slug(name) for name in names):
        raise InputError(
            f"cameras {', '.join(names)}: want different names of a-z, 0-9, _ and -; give --name"
        )
    return names


def _slug(text: str) -> str:
    return (
        "".join(c if c.isascii() and (c.isalnum() or c in "_-") else "-" for c in text.lower())[:64] or "cam"
    )


def _size(text: str) -> tuple[int, int]:
    from stream.sim.faults import BadFault, parse_size

    try:
        return parse_size(text)
    except BadFault as error:
        raise InputError(f"--size: {error}") from error


def _door(args: argparse.Namespace) -> "Door":
    from stream.sim.auth import Credentials
    from stream.sim.session import Door

    schemes = tuple(scheme.strip() for scheme in args.auth.lower().split(","))
    if not set(schemes) <= {"digest", "basic"}:
        raise InputError(f"--auth {args.auth}: want digest, basic or both")
    if not args.user and not args.password_file:
        return Door()
    if not args.user or not args.password_file:
        raise InputError("--user and --password-file go together")
    try:
        password = args.password_file.read_text("utf-8").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"--password-file {args.password_file}: {why}") from None
    return Door(Credentials(args.user, password), schemes)


def _tls(args: argparse.Namespace) -> "ssl.SSLContext | None":
    import ssl

    if not args.tls_cert and not args.tls_key:
        return None
    if not args.tls_cert or not args.tls_key:
        raise InputError("--tls-cert and --tls-key go together")
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    try:
        context.load_cert_chain(args.tls_cert, args.tls_key, password="")  # else OpenSSL asks for one
    except (OSError, ssl.SSLError) as error:
        raise InputError(f"--tls-cert {args.tls_cert}, --tls-key {args.tls_key}: {error}") from error
    return context


def _faults(args: argparse.Namespace, cameras: "list[SimCamera]") -> list[tuple[str, str, str, float]]:
    """`top:stall=5@20` → (camera, fault, value, seconds after the start). Raises InputError."""
    from stream.sim.faults import BadFault, Faults

    known, planned = {camera.name for camera in cameras}, []
    for text in args.fault:
        name, _, rest = text.partition(":")
        what, _, when = rest.partition("@")
        fault, _, value = what.partition("=")
        try:
            Faults().set(fault, value or "1", 0.0)
            at_s = float(when or "0")
        except (BadFault, ValueError) as error:
            raise InputError(f"--fault {text}: want NAME:FAULT=VALUE@SECONDS ({error})") from error
        if name not in known:
            raise InputError(f"--fault {text}: no camera {name}, there are {', '.join(sorted(known))}")
        planned.append((name, fault, value or "1", at_s))
    return planned


async def _fail_later(cameras: "list[SimCamera]", name: str, fault: str, value: str, at_s: float) -> None:
    with contextlib.suppress(asyncio.CancelledError):
        await asyncio.sleep(at_s)
        next(camera for camera in cameras if camera.name == name).set(fault, value)


def _say(server: "SimServer", cameras: "list[SimCamera]", args: argparse.Namespace) -> None:
    if args.json:
        streams = [
            {
                "name": camera.name,
                "url": server.url(camera.name),
                "size": list(camera.show.size),
                "fps": args.fps,
                "schedule": str((args.schedule / f"{camera.name}.jsonl").resolve())
                if args.schedule
                else None,
            }
            for camera in cameras
        ]
        print(json.dumps({"ready": True, "port": server.port, "streams": streams}), flush=True)
        return
    for camera in cameras:
        print(server.url(camera.name), flush=True)
