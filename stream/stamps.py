"""Whether files were written anew: a config file that is edited, certificates that are renewed."""

from collections.abc import Iterable
from pathlib import Path

Stamps = list[tuple[int, int] | None]
"""For each file when it was written and which file it is (editors and renewals rename); None: none to see."""


def stamps(files: Iterable[Path]) -> Stamps:
    """As they are now; something else once one of them was written, renamed over, made or removed."""
    return [_stamp(file) for file in files]


def _stamp(file: Path) -> tuple[int, int] | None:
    try:
        found = file.stat()
    except OSError:
        return None
    return found.st_mtime_ns, found.st_ino
