"""`linewatch NAME …`: finds its commands through the entry-point group `linewatch.commands`, imports nobody.

An entry point is a module with `HELP: str`, `configure(parser)` and `main(arguments) -> int`; only the module
of the command that was asked for is imported. Exit codes: 0 done, 1 the work failed, 2 the input was wrong,
130 interrupted. What an operator did wrong is one sentence on stderr; a traceback is always a bug of ours.
"""

import argparse
import difflib
import errno
import os
import sys
from collections.abc import Sequence
from importlib.metadata import EntryPoint, entry_points, version
from typing import Protocol

GROUP = "linewatch.commands"
DISTRIBUTION = "linewatch"

# No bug of ours, wherever it happens.
_FULL = (errno.ENOSPC, errno.EDQUOT)

DONE, FAILED, WRONG_INPUT, INTERRUPTED = 0, 1, 2, 130


class Command(Protocol):
    """What a command's module holds."""

    HELP: str
    """One line for the list of commands."""

    def configure(self, parser: argparse.ArgumentParser) -> None:
        """Add the command's arguments."""

    def main(self, arguments: argparse.Namespace) -> int:
        """Do the work; the exit code."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit code. The console script's entry."""
    _open_what_was_closed()
    words = list(sys.argv[1:] if argv is None else argv)
    commands = {point.name: point for point in entry_points(group=GROUP)}
    match words:
        case []:
            sys.stderr.write(_overview(commands))
            return WRONG_INPUT
        case ["-h" | "--help" | "help", *_]:
            sys.stdout.write(_overview(commands))
            return DONE
        case ["--version", *_]:
            sys.stdout.write(f"linewatch {version(DISTRIBUTION)}\n")
            return DONE
        case [name, *rest] if name in commands:
            return _guarded(name, commands[name], rest)
    return _refuse(_unknown(words[0], list(commands)), WRONG_INPUT)


def _open_what_was_closed() -> None:
    """Whoever started us may have closed input or outputs: the file that we open next would get the number
    of one, and with it whatever a library prints.
    """
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            # The lowest number that is free; for the programs that we start, too.
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)
    sys.stdin, sys.stdout, sys.stderr = (
        os.fdopen(number, mode) if stream is None else stream
        for number, mode, stream in ((0, "r", sys.stdin), (1, "w", sys.stdout), (2, "w", sys.stderr))
    )


def _guarded(name: str, point: EntryPoint, rest: list[str]) -> int:
    """Run the command and turn what a person did wrong into a sentence and a code."""
    try:
        return _run(name, point, rest)
    except KeyboardInterrupt:
        return _refuse("interrupted", INTERRUPTED)
    except BrokenPipeError:
        _let_output_go()  # the reader has gone (`linewatch events | head`)
        return FAILED
    except Exception as error:  # the outermost line: what is not for a person goes on, as a bug
        if isinstance(error, OSError) and error.errno in _FULL:
            return _refuse(f"linewatch {name}: {_full(error)}", FAILED)
        if not _is_for_a_person(error):
            raise
        return _refuse(str(error), int(getattr(error, "exit_code", FAILED)))


def _run(name: str, point: EntryPoint, rest: list[str]) -> int:
    command: Command = point.load()
    parser = argparse.ArgumentParser(prog=f"linewatch {name}", description=command.HELP, allow_abbrev=False)
    command.configure(parser)
    try:
        arguments = parser.parse_args(rest)
    except SystemExit as left:  # argparse has printed its help (0) or what was wrong (2)
        return left.code if isinstance(left.code, int) else WRONG_INPUT
    code = command.main(arguments)
    sys.stdout.flush()
    return code


def _full(error: OSError) -> str:
    """Which disk is full. Without a file's name it is mostly where the output is redirected to."""
    try:
        sys.stdout.flush()
    except OSError:
        _let_output_go()
    where = f"no room for {error.filename}" if error.filename else "no room for what it writes or prints"
    return f"{where} ({error.strerror}): free some on that disk"


def _let_output_go() -> None:
    """What is left in the buffer would fail again at the interpreter's own last flush, with a traceback."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _is_for_a_person(error: Exception) -> bool:
    """Our error trees say so themselves; the engine's knows nothing of us and is known by its name."""
    return bool(getattr(error, "user_message", False)) or any(
        (kind.__module__, kind.__name__) == ("engine.errors", "EngineError") for kind in type(error).__mro__
    )


def _refuse(text: str, code: int) -> int:
    sys.stderr.write(f"{text}\n")
    return code


def _unknown(word: str, known: list[str]) -> str:
    close = difflib.get_close_matches(word, known, 1)
    what = "option" if word.startswith("-") else "command"
    wish = f"did you mean {close[0]}?" if close else f"expected one of {', '.join(sorted(known))}"
    return f"linewatch: unknown {what} {word!r}, {wish}"


def _overview(commands: dict[str, EntryPoint]) -> str:
    width = max(map(len, commands), default=0)
    lines = [f"  {name:<{width}}  {_help(commands[name])}" for name in sorted(commands)]
    return "\n".join(
        [
            "usage: linewatch COMMAND [OPTIONS]",
            "",
            "Cameras on a production line in, defect events out.",
            "",
            "commands:",
            *lines,
            "",
            "linewatch COMMAND --help says more. Also: --version, --help.",
            "",
        ]
    )


def _help(point: EntryPoint) -> str:
    try:
        command: Command = point.load()
    except ImportError as error:  # an optional part of it is not installed: the others still get their line
        return f"(not usable here: {error})"
    return command.HELP
