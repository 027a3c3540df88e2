"""Versions of models on disk: MODELS/NAME/1, 2, …, which one is `latest`, and the way back. Standard
library only.

`latest` is a text file with a number, replaced atomically: a reader sees the old version or the new one.
Every move is a line in `history.jsonl`, so that rollback knows where to go. Any thread, any process: movers
wait for each other on a lock file, readers wait for nobody.
"""

import errno
import fcntl
import json
import os
import re
import shutil
import tempfile
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from .errors import ArtifactError

MANIFEST = "manifest.json"
_NAME = re.compile(r"[a-z0-9_-]{1,64}")
_REF = re.compile(r"(?P<name>[^@]+)(@(?P<version>latest|[1-9][0-9]*))?")
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY, errno.ENOTDIR}


class VersionError(ArtifactError):
    """A model or version that was named doesn't exist, or there is no way back."""

    user_message = True
    exit_code = 2


@dataclass(frozen=True, slots=True)
class Move:
    """One line of a model's history: `latest` went to `version` by `action` (promote, rollback); UTC."""

    at: str
    action: str
    version: int


def check_name(name: str) -> str:
    """The name itself. Raises VersionError for one that can't be a model's (and so never leaves the
    folder).
    """
    if not _NAME.fullmatch(name):
        raise VersionError(f"{name!r} can't be a model's name: use a-z, 0-9, - and _, at most 64.")
    return name


def names(models: Path) -> list[str]:
    """Every model that has at least one complete version; [] where the folder doesn't exist. Raises
    OSError.
    """
    if not models.is_dir():
        return []
    return sorted(p.name for p in models.iterdir() if _NAME.fullmatch(p.name) and versions(models, p.name))


def versions(models: Path, name: str) -> list[int]:
    """Complete versions, ascending: folders with a number for a name and a manifest in them. Raises
    OSError.
    """
    folder = models / check_name(name)
    if not folder.is_dir():
        return []
    return sorted(int(p.name) for p in folder.iterdir() if _number(p.name) and _is_complete(p))


def latest(models: Path, name: str) -> int | None:
    """The promoted version, None before the first promotion. Raises VersionError for a pointer that can't be
    read or isn't a number.
    """
    pointer = models / check_name(name) / "latest"
    try:
        text = pointer.read_text(encoding="ascii", errors="replace").strip()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise VersionError(f"{pointer} can't be read: {error.strerror}.") from error
    if not _number(text):
        raise VersionError(f"{pointer} holds {text[:20]!r} instead of a version number: promote one again.")
    return int(text)


def resolve(models: Path, ref: str) -> Path:
    """The folder of "top@7", "top@latest" or "top" (the same as @latest). Raises VersionError, saying what
    there is.
    """
    found = _REF.fullmatch(ref)
    if found is None:
        raise VersionError(f"{ref!r} is not a model: write NAME, NAME@latest or NAME@7.")
    name, asked = check_name(found["name"]), found["version"] or "latest"
    with readable(models):
        number = _number_of(models, name, asked)
        return models.resolve() / name / str(number)


def _number_of(models: Path, name: str, asked: str) -> int:
    there = versions(models, name)
    if not there:
        known = ", ".join(names(models)) or "none at all"
        raise VersionError(f"There is no model {name} in {models} (there is: {known}): train it first.")
    number = latest(models, name) if asked == "latest" else int(asked)
    if number is None:
        raise VersionError(
            f"No version of model {name} is promoted yet: `linewatch promote {name}@{there[-1]}`."
        )
    _require(models, name, number)
    return number


def place(draft: Path, models: Path, name: str, label: Callable[[int], None]) -> Path:
    """Move the folder `draft` (on the same disk) to the next free version, and return the new folder.

    `label(number)` completes the draft, manifest last, and is called again should another trainer take the
    number meanwhile. One atomic rename: a version appears whole, and its number is never used again.
    """
    home = models / check_name(name)
    home.mkdir(parents=True, exist_ok=True)
    number = _last_used(models, name)
    while True:
        number += 1
        label(number)
        try:
            draft.rename(home / str(number))
        except OSError as error:
            if error.errno not in _TAKEN:
                raise
        else:
            _sync(home)
            return home / str(number)


def promote(models: Path, name: str, version: int) -> None:
    """Make `version` the latest. Raises VersionError if it isn't there."""
    with _moving(models, name):
        _require(models, name, version)
        _move(models, name, "promote", version)


def rollback(models: Path, name: str, seen: int | None = None) -> int:
    """Go back to the version that was the latest before this one, and return it.

    Versions deleted since are passed over. Raises VersionError where there is nothing to go back to, or where
    the latest is not `seen` any more.
    """
    with _moving(models, name):
        if seen is not None and latest(models, name) != seen:
            raise VersionError("Another version is in use meanwhile; look again, then go back.")
        version = earlier(models, name)
        if version is None:
            raise VersionError(f"Model {name} has no earlier promoted version to go back to.")
        _move(models, name, "rollback", version)
        return version


def earlier(models: Path, name: str) -> int | None:
    """The version that `rollback` would go to."""
    there = set(versions(models, name))
    return next((v for v in reversed(_way_here(models, name)[:-1]) if v in there), None)


def remove_old(models: Path, name: str, keep: int, in_use: Collection[int]) -> list[int]:
    """Remove all but the newest `keep` versions (1 or more), and return what went. Never removed: `in_use`,
    the latest, and what a rollback would go to.

    A version leaves whole (a rename first), and its number is never used again. Raises VersionError.
    """
    with _moving(models, name):
        there = versions(models, name)
        kept = {*in_use, latest(models, name), earlier(models, name), *there[-keep:]}
        gone = [version for version in there if version not in kept]
        for version in gone:
            draft = Path(tempfile.mkdtemp(prefix=".gone-", dir=models / name))
            (models / name / str(version)).rename(draft / str(version))
        for left in (models / name).glob(".gone-*"):  # also what an earlier removal could not finish
            shutil.rmtree(left, ignore_errors=True)
        return gone


def history(models: Path, name: str) -> list[Move]:
    """Every move of `latest`, oldest first; a line cut short by a power failure is passed over."""
    try:
        text = (models / check_name(name) / "history.jsonl").read_text(encoding="utf-8", errors="replace")
    except FileNotFoundError:
        return []
    moves = []
    for line in text.splitlines():
        try:
            found = json.loads(line)
            moves.append(Move(str(found["at"]), str(found["action"]), int(found["version"])))
        except (ValueError, KeyError, TypeError):
            continue
    return moves


def replace_file(path: Path, text: str) -> None:
    """Write beside, flush to the disk, rename: a reader or a crash sees the old text or the new one."""
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fchmod(file.fileno(), 0o644)
            os.fsync(file.fileno())
        Path(beside).replace(path)
    except BaseException:
        Path(beside).unlink(missing_ok=True)
        raise
    _sync(path.parent)


def _move(models: Path, name: str, action: str, version: int) -> None:
    """History first: should the power fail in between, the pointer still tells the truth, and rules."""
    at = datetime.now(UTC).isoformat(timespec="seconds")
    line = json.dumps({"at": at, "action": action, "version": version})
    with (models / name / "history.jsonl").open("a", encoding="utf-8") as file:
        file.write(line + "\n")
        file.flush()
        os.fsync(file.fileno())
    replace_file(models / name / "latest", f"{version}\n")


def _way_here(models: Path, name: str) -> list[int]:
    """The promotions that led to the present version, which is the last: a rollback takes its promotion
    back.
    """
    way: list[int] = []
    for move in history(models, name):
        if move.action == "rollback" and move.version in way:
            while way[-1] != move.version:
                way.pop()
        elif not way or way[-1] != move.version:
            way.append(move.version)
    now = latest(models, name)
    if now is not None and (not way or way[-1] != now):
        way = way[: way.index(now)] if now in way else way
        way.append(now)
    return way


@contextmanager
def readable(models: Path) -> Iterator[None]:
    """What the system won't read of the folder of models inside comes out as a VersionError."""
    try:
        yield
    except OSError as error:
        raise VersionError(
            f"The models in {models} can't be read ({error.filename}: {error.strerror}): let this user read "
            "them, or name another folder."
        ) from error


def _is_complete(folder: Path) -> bool:
    """Also of a folder that keeps others out: whoever loads it says so, and it hides no other version."""
    try:
        return (folder / MANIFEST).is_file()
    except OSError:
        return True


def _require(models: Path, name: str, version: int) -> None:
    there = versions(models, name)
    if version not in there:
        known = ", ".join(map(str, there)) or "none"
        raise VersionError(f"Model {name} has no version {version} in {models}; it has: {known}.")


def _last_used(models: Path, name: str) -> int:
    folder = models / name
    numbers = [int(p.name) for p in folder.iterdir() if _number(p.name)]
    return max([0, *numbers, *(m.version for m in history(models, name))])


def _number(text: str) -> bool:
    return re.fullmatch(r"[1-9][0-9]{0,8}", text) is not None


@contextmanager
def _moving(models: Path, name: str) -> Iterator[None]:
    folder = models / check_name(name)
    try:
        if not folder.is_dir():
            raise VersionError(f"There is no model {name} in {models}: train it first.")
        with (folder / ".lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
    except OSError as error:
        raise VersionError(
            f"The latest version of {name} could not be moved in {folder}: {error.strerror}. Check that the "
            "folder may be written to and the disk has room; the old one is still the latest."
        ) from error


def _sync(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
