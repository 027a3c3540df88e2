"""`linewatch users`: who may use the page.

Passwords come from the terminal or stdin, never from the command line.
"""

import argparse
import getpass
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..web.users import UsersFile

HELP = "add, list and remove users of the page, and tokens for machines"


def configure(parser: argparse.ArgumentParser) -> None:
    """The options; `--config` and `--file` are taken before and behind what is to be done."""
    _which_file(parser, default=None)
    what = parser.add_subparsers(dest="what", required=True)
    for name, text in (
        ("add", "add a user, or set a password"),
        ("token", "add a machine and print its token"),
    ):
        adds = what.add_parser(name, help=text)
        adds.add_argument("name")
        adds.add_argument("--role", choices=("viewer", "operator", "admin"), required=True)
        _which_file(adds)
    removes = what.add_parser("remove", help="remove a user or a machine")
    removes.add_argument("name")
    _which_file(removes)
    _which_file(what.add_parser("list", help="names and roles"))


def _which_file(parser: argparse.ArgumentParser, default: object = argparse.SUPPRESS) -> None:
    """SUPPRESS: what was not said behind the word must not take away what was said before it."""
    parser.add_argument(
        "--config", type=Path, default=default, help="config file whose web.users_file is meant"
    )
    parser.add_argument("--file", type=Path, default=default, help="users file, instead of the config's")


def main(args: argparse.Namespace) -> int:
    from ..web import users

    path = _path(args)
    content = _content(path) if args.what in ("add", "token") else users.read(path)
    if args.what == "list":
        return _list(content)
    token = None
    if args.what == "add":
        content = users.with_user(content, args.name, args.role, _password())
    elif args.what == "remove":
        content = users.without(content, args.name)
    else:
        content, token = users.with_token(content, args.name, args.role)
    users.write(path, content)
    if token is not None:
        print(token)
        print("Keep it now: it is not stored and can't be shown again.", file=sys.stderr)
    return 0


def _content(path: Path) -> "UsersFile":
    """Nobody, where there is no file yet: who adds the first makes it. Raises UsersError."""
    from ..web import users

    try:
        is_there = path.exists()
    except OSError as error:  # a folder that keeps this user out
        raise users.UsersError(f"The users file {path} can't be read: {error.strerror}.") from error
    return users.read(path) if is_there else users.UsersFile()


def _path(args: argparse.Namespace) -> Path:
    """The file that is meant. Raises UsersError when neither the call nor the config names one."""
    from config.load import load

    from ..web.users import UsersError

    if args.file is not None:
        return Path(args.file)
    path = load(args.config).web.users_file
    if path is None:
        raise UsersError("The config names no web.users_file: set it, or name a file with --file.")
    return path


def _password() -> str:
    """Raises UsersError."""
    from ..web.users import UsersError

    try:
        password = _asked_twice() if sys.stdin.isatty() else sys.stdin.readline().rstrip("\n")
        password.encode()  # in some locales what is no UTF-8 comes through as halves of characters
    except EOFError:
        raise UsersError("No password was given; nothing was changed.") from None
    except UnicodeError:
        raise UsersError(
            "The password is not UTF-8, so no browser could say it; nothing was changed."
        ) from None
    return password


def _asked_twice() -> str:
    """Raises EOFError and UsersError."""
    from ..web.users import UsersError

    first = getpass.getpass("Password: ")
    if first != getpass.getpass("Again: "):
        raise UsersError("The two passwords differ; nothing was changed.")
    return first


def _list(content: "UsersFile") -> int:
    for name, user in sorted(content.users.items()):
        print(f"{name}  {user.role}")
    for name, token in sorted(content.tokens.items()):
        print(f"{name}  {token.role}  (machine)")
    return 0
