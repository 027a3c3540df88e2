"""Disks: may we write where we must, is there room, does another Linewatch hold the folder?"""

import contextlib
import errno
import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from config.settings import Settings

from ..outbox_file import OutboxError, waiting
from .findings import Finding, failed, ok, warning

_TOO_FULL_MB, _NEARLY_FULL_MB = 64, 1024
# SQLite's locks and memory maps don't hold over a network.
_REMOTE = ("nfs", "nfs4", "cifs", "smb3", "smbfs", "9p", "fuse.sshfs", "ceph", "glusterfs", "lustre")
_WHY = {
    errno.EROFS: "the disk is mounted read-only; mount it writable, or name another folder in {key}",
    errno.ENOSPC: "the disk is full; free some room, or name another folder in {key}",
    errno.EDQUOT: "the disk quota is used up; free some room, or name another folder in {key}",
    errno.EACCES: "this user (uid {uid}) may not write here; `chown` it, or name another folder in {key}",
    errno.ENOTDIR: "there is a file in its way; name another folder in {key}",
}


@dataclass(frozen=True, slots=True)
class Place:
    """A folder that Linewatch writes; `needed`: without it nothing starts."""

    key: str
    path: Path
    needed: bool = True


def places(settings: Settings) -> list[Place]:
    """Every folder that the config names, the most important first."""
    found = [Place("events.outbox.path", settings.events.outbox.path.parent)]
    if settings.events.url == "embedded":
        found.append(Place("events.embedded.dir", settings.events.embedded.dir))
    return [
        *found,
        Place("evidence.dir", settings.evidence.dir),
        Place("pictures.dir", settings.pictures.dir, needed=False),
        Place("models.dir", settings.models.dir, needed=False),
        Place("engine.cache_dir", settings.engine.cache_dir, needed=False),
    ]


def folders(settings: Settings) -> Iterator[Finding]:
    """A line for each folder; nothing is made and nothing is left in them."""
    for place in places(settings):
        yield folder(place)
    outbox = settings.events.outbox.path
    if (kind := filesystem_of(outbox)) in _REMOTE:
        yield failed(
            "events.outbox.path",
            f"{outbox} lies on {kind}; SQLite needs a disk of this machine, so name another path",
        )
    with contextlib.suppress(OSError):  # the outbox's own line says why
        owner = outbox.stat().st_uid
        # What is our own and can't be written lies on a disk that said so above.
        if owner != os.getuid() and not os.access(outbox, os.R_OK | os.W_OK):
            yield failed(
                "events.outbox.path",
                f"{outbox} belongs to another user (uid {owner}); `chown` it to uid {os.getuid()}",
            )
    yield _backlog(outbox)


def folder(place: Place, free_mb: int | None = None) -> Finding:
    """One folder. `free_mb` None: the disk is asked."""
    bad = failed if place.needed else warning
    try:
        there = _nearest(place.path)
        _try_writing(there, made=there == place.path)
        free_mb = shutil.disk_usage(there).free >> 20 if free_mb is None else free_mb
    except OSError as error:
        why = _WHY.get(error.errno or 0, f"{error.strerror or error}; name another folder in {{key}}")
        return bad(place.key, f"{place.path}: {why.format(key=place.key, uid=os.getuid())}")
    if free_mb < _TOO_FULL_MB:
        return bad(place.key, f"{place.path}: only {free_mb} MB are free; free some room")
    if free_mb < _NEARLY_FULL_MB:
        return warning(place.key, f"{place.path}: {free_mb} MB are free; lower evidence.max_mb or free some")
    made = "" if there == place.path else ", made when needed"
    return ok(place.key, f"{place.path}: writable, {free_mb / 1024:.1f} GB free{made}")


def _backlog(outbox: Path) -> Finding:
    try:
        count, _ = waiting(outbox)
    except OutboxError as error:
        return failed("outbox", str(error))
    return ok("outbox", f"{count} events wait for the broker")


def filesystem_of(path: Path, mounts: Path = Path("/proc/mounts")) -> str:
    """The kind of file system that holds `path`, such as ext4; "" where the system does not say."""
    real, best, kind = os.path.realpath(path), "", ""
    with contextlib.suppress(OSError):
        for line in mounts.read_text(errors="replace").splitlines():
            _, point, found, *_ = line.split(" ")
            point = point.replace("\\040", " ")
            inside = real == point or real.startswith(point.rstrip("/") + "/")
            if inside and len(point) >= len(best):
                best, kind = point, found
    return kind


def _nearest(path: Path) -> Path:
    """The folder itself, or the one in which it would be made. Raises NotADirectoryError for a file there."""
    while not path.exists() and path != path.parent:
        path = path.parent
    if not path.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR))
    return path


def _try_writing(there: Path, *, made: bool) -> None:
    """Raises what the disk says. A folder that is not ours alone is only asked, not written to."""
    if made:
        with tempfile.TemporaryFile(dir=there) as file:
            file.write(bytes(4096))
            file.flush()
            os.fsync(file.fileno())
        return
    if os.statvfs(there).f_flag & os.ST_RDONLY:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
