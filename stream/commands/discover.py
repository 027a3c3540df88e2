"""`linewatch discover`: the ONVIF cameras on this network and the addresses of their streams."""

import argparse
import itertools
import json
import re
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .arguments import number

if TYPE_CHECKING:
    from ..discovery import Found
    from ..onvif import Device, Login, OnvifError, Stream

HELP = "list the cameras on this network with their stream addresses (ONVIF)"
_AT_ONCE = 16


class InputError(Exception):
    """What was asked for can't be done; the text is one sentence for a person."""

    user_message = True
    exit_code = 2


def configure(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("host", nargs="*", help="ask these addresses, HOST or HOST:PORT, instead of the network")
    add("--user", help="user on the cameras; most tell their streams only to one")
    add("--password-file", type=Path, metavar="FILE", help="and the password in this file")
    add("--seconds", type=_seconds, default=4.0, help="how long to wait for answers (4)")
    form = parser.add_mutually_exclusive_group()
    form.add_argument("--yaml", action="store_true", help="print a `cameras:` section for the config file")
    form.add_argument("--json", action="store_true", help="one JSON object a camera, one a line")


def main(args: argparse.Namespace) -> int:
    """Exit code 1 if no camera answered."""
    from concurrent.futures import ThreadPoolExecutor
    from functools import partial

    login = _login(args)
    found = _named(args.host) if args.host else _probed(args.seconds)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        answers = list(pool.map(partial(_ask, login=login), found))
    told = list(zip(found, answers, strict=True))
    if args.yaml:
        print(_section(told, args.user), end="")
    else:
        for camera, answer in told:
            print(_as_json(camera, answer) if args.json else _as_text(camera, answer), flush=True)
    if why := _nobody(args, answers):
        print(f"linewatch: {why}", file=sys.stderr)
        return 1
    return 0


def _nobody(args: argparse.Namespace, answers: "list[Device | OnvifError]") -> str | None:
    """That no camera was there; one that a search found has answered, whatever it said when it was asked."""
    from ..onvif import Device, NotAllowed

    if not args.host and not answers:
        return (
            f"no camera answered within {args.seconds:g} s; cameras behind a router are found by address "
            "(linewatch discover HOST), and many have ONVIF switched off"
        )
    if args.host and not any(isinstance(answer, Device | NotAllowed) for answer in answers):
        return (
            f"no camera answered at {', '.join(args.host)}; check the address, and whether ONVIF is switched "
            "on there"
        )
    return None


def _probed(seconds: float) -> "list[Found]":
    from ..discovery import probe

    try:
        return probe(seconds)
    except OSError as error:
        raise InputError(f"the network can't be asked: {error.strerror or error}") from None


def _named(hosts: list[str]) -> "list[Found]":
    from ..discovery import Found
    from ..onvif import split_url

    found = []
    for host in hosts:
        url = split_url(f"http://{host}/onvif/device_service")
        if url is None or not url.hostname or url.port == 0 or set(host) & set("@/?#\\ "):
            raise InputError("expected HOST or HOST:PORT, without user and password")
        found.append(Found(url.hostname, url.geturl()))
    return found


def _ask(camera: "Found", login: "Login | None") -> "Device | OnvifError":
    from ..onvif import OnvifError, describe

    try:
        return describe(camera.service, login)
    except OnvifError as error:
        return error


def _login(args: argparse.Namespace) -> "Login | None":
    from pydantic import SecretStr

    from ..onvif import Login

    if not args.user and not args.password_file:
        return None
    if not args.user or not args.password_file:
        raise InputError("--user and --password-file go together")
    try:
        password = args.password_file.read_text("utf-8-sig").rstrip("\r\n")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8 text"
        raise InputError(f"--password-file {args.password_file}: {why}") from None
    return Login(args.user, SecretStr(password))


def _as_json(camera: "Found", answer: "Device | OnvifError") -> str:
    from dataclasses import asdict

    from ..onvif import Device

    told: dict[str, Any] = {"address": camera.address, "service": camera.service}
    if isinstance(answer, Device):
        told |= asdict(answer) | {"error": None}
    else:
        told |= {"maker": "", "model": camera.hardware or camera.name, "firmware": "", "streams": []}
        told["error"] = str(answer)
    return json.dumps(told, ensure_ascii=False)


def _as_text(camera: "Found", answer: "Device | OnvifError") -> str:
    from ..onvif import Device, NoAnswer

    if not isinstance(answer, Device):
        unnamed = "nothing answered there" if isinstance(answer, NoAnswer) else "camera"
        return f"{camera.address}  {camera.hardware or camera.name or unnamed}  {answer}"
    streams = "; ".join(_described(stream) for stream in answer.streams) or "no streams"
    return f"{camera.address}  {answer.maker} {answer.model}  {streams}"


def _described(stream: "Stream") -> str:
    size = f" {stream.width}×{stream.height}" if stream.width else ""
    rate = f" {stream.fps:g} fps" if stream.fps else ""
    return f"{stream.url} ({stream.profile}{f', {stream.codec}' if stream.codec else ''}{size}{rate})"


def _section(told: "list[tuple[Found, Device | OnvifError]]", user: str | None) -> str:
    """The largest stream of each camera; the others stand beside it as comments."""
    from ..onvif import Device

    lines, names = list[str](), set[str]()
    for camera, answer in told:
        if not isinstance(answer, Device) or not answer.streams:
            why = "it names no streams" if isinstance(answer, Device) else answer
            lines.append(_comment(2, f"{camera.address}: {why}"))
            continue
        first, *others = answer.streams
        login = f"{{username: {json.dumps(user)}, password: {{file: PATH}}" if user else "{"
        rest = ", " if user else ""
        names.add(name := _new_name(camera.address, names))
        lines.append(f"  {name}:")
        lines.append(_comment(4, f"{answer.maker} {answer.model}, {_described(first)}"))
        lines.extend(_comment(4, f"or {_described(stream)}") for stream in others)
        lines.append(f"    source: {login}{rest}type: rtsp, url: {json.dumps(first.url)}}}")
    # A key with nothing but comments below is empty, which no config file takes.
    return "\n".join(["cameras:" if names else "cameras: {}", *lines]) + "\n"


def _new_name(address: str, names: "set[str]") -> str:
    """A camera's name as the config file takes it. Behind one address there may be several, at its ports."""
    base = re.sub(r"[^a-z0-9_-]", "-", f"camera-{address.lower()}")[:60]
    others = (f"{base}-{number}" for number in itertools.count(2))
    return base if base not in names else next(name for name in others if name not in names)


def _comment(indent: int, text: str) -> str:
    """What a camera says of itself, on one line whatever it says."""
    return " " * indent + "# " + "".join(char if char.isprintable() else " " for char in text)


def _seconds(text: str) -> float:
    seconds = number(text)
    if not 0.1 <= seconds <= 60:
        raise argparse.ArgumentTypeError(f"{text!r} is no number of seconds from 0.1 to 60")
    return seconds
