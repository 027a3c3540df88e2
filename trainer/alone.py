"""One training of a model's name at a time: two would overwrite what the other keeps of itself."""

import fcntl
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TextIO

from .errors import DataError

_LOCK = ".training.lock"
_SAVED_WITHIN_S = 3600.0


@contextmanager
def alone(home: Path) -> Iterator[None]:
    """Hold the model's folder `home` for a training. It is made if need be, and goes again if it stays empty.

    What earlier trainings half wrote is cleared away. A process that dies, however it dies, holds nothing any
    more. Raises DataError where another training holds the folder, or where it can't be held.
    """
    made = [folder for folder in (home, *home.parents) if not folder.exists()]
    try:
        lock = _held(home)
        for left in home.glob(".training*.draft"):
            left.unlink(missing_ok=True)
        _clear_versions(home)
    except BlockingIOError as error:
        raise DataError(
            f"The model {home.name} is being trained already, by another `linewatch train`: wait until that "
            "is done, or end it."
        ) from error
    except OSError as error:
        raise DataError(f"The model's folder {home} can't be held: {error.strerror}.") from error
    try:
        yield
    finally:
        with suppress(OSError):
            (home / _LOCK).unlink()
        lock.close()
        with suppress(OSError):
            for folder in made:
                folder.rmdir()


def _clear_versions(home: Path) -> None:
    """Versions that a power cut left half saved; not those that a `calibrate` may be saving just now."""
    for left in home.glob(".draft-*"):
        with suppress(FileNotFoundError):  # it was saved meanwhile
            if time.time() - left.stat().st_mtime > _SAVED_WITHIN_S:
                shutil.rmtree(left, ignore_errors=True)


def _held(home: Path) -> TextIO:
    """The locked file, open. Raises OSError, BlockingIOError if another holds it."""
    while True:
        home.mkdir(parents=True, exist_ok=True)
        # The one before removes file and folder as it ends: then what was opened here is nobody's.
        with suppress(FileNotFoundError):
            lock = (home / _LOCK).open("a", encoding="ascii")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if os.path.samestat(os.fstat(lock.fileno()), (home / _LOCK).stat()):
                    return lock
            except BaseException:
                lock.close()
                raise
            lock.close()
