"""The outbox's file: a SQLite database in WAL mode that one process at a time may use."""

import contextlib
import fcntl
import os
import sqlite3
from pathlib import Path
from typing import IO

_SCHEMA = """
CREATE TABLE IF NOT EXISTS seq (camera TEXT PRIMARY KEY, seq INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS incident (defect_id TEXT PRIMARY KEY, body TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS dropped (what TEXT PRIMARY KEY, n INTEGER NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS belongs (base TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS event (
    n INTEGER PRIMARY KEY AUTOINCREMENT,
    stream TEXT NOT NULL,
    camera TEXT NOT NULL,
    event_id TEXT NOT NULL,
    phase TEXT NOT NULL,
    put_at REAL NOT NULL,
    ms INTEGER, sub INTEGER,
    acked INTEGER NOT NULL DEFAULT 0,
    body TEXT NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting ON event (stream, camera, n) WHERE acked = 0;
CREATE INDEX IF NOT EXISTS assigned ON event (stream, ms, sub) WHERE acked = 0 AND ms IS NOT NULL;
CREATE INDEX IF NOT EXISTS kept ON event (stream, ms, sub) WHERE acked = 1;
"""
_VERSION = 1
_MOST_LOG_BYTES = 32 << 20
# Another, empty file would begin the numbers anew, and what waits in this one would never be sent.
_MOVE = "move the file and name its new place in events.outbox.path"


class OutboxError(Exception):
    """Base of what the outbox raises on purpose; its text is one sentence for a person."""

    user_message = True


def lock(path: Path) -> IO[bytes]:
    """An advisory lock that the kernel lets go when we die, however we die."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle = path.with_name(path.name + ".lock").open("ab")
    except OSError as error:
        mend = "name another folder in events.outbox.path"
        if os.access(path, os.F_OK):
            mend = f"let this user write there (`chown`), or {_MOVE}"
        raise OutboxError(f"outbox {path}: {error.strerror}; {mend}") from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.close()
        raise OutboxError(
            f"outbox {path} is in use by another Linewatch; stop that one or name another file"
        ) from None
    return handle


def is_held(path: Path) -> bool:
    """Whether a Linewatch runs on this outbox now; its lock is tried and let go at once. False where that
    can't be told.
    """
    with contextlib.suppress(OSError), path.with_name(path.name + ".lock").open("rb") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except OSError:
            return True
    return False


def open_database(path: Path) -> sqlite3.Connection:
    try:
        db = sqlite3.connect(path, isolation_level=None, check_same_thread=False, timeout=5.0)
        db.execute("PRAGMA journal_mode=WAL")
        db.execute("PRAGMA synchronous=NORMAL")
        # Checkpoints wait for the disk, so they are made by `checkpoint`, in a thread, and not inside a put.
        db.execute("PRAGMA wal_autocheckpoint=0")
        # What a burst made of the log is given back when it begins anew.
        db.execute(f"PRAGMA journal_size_limit={_MOST_LOG_BYTES}")
        version = db.execute("PRAGMA user_version").fetchone()[0]
        if version not in (0, _VERSION):
            raise _other_version(path, version)
        db.executescript(_SCHEMA)
        db.execute(f"PRAGMA user_version={_VERSION}")
    except sqlite3.Error as error:
        raise OutboxError(f"outbox {path} can't be used: {error}; {mend(error)}") from error
    return db


def mend(error: sqlite3.Error) -> str:
    """What to do about it. Only a broken file is moved away: in a whole one events may wait."""
    name = getattr(error, "sqlite_errorname", "")
    if name.startswith(("SQLITE_CORRUPT", "SQLITE_NOTADB")):
        return "move it away to start with an empty one"
    if name.startswith(("SQLITE_FULL", "SQLITE_IOERR")):
        return f"free some room on that disk, or {_MOVE}"
    if name.startswith(("SQLITE_READONLY", "SQLITE_CANTOPEN", "SQLITE_PERM")):
        return f"let this user write there (`chown`), or {_MOVE}"
    return "check the disk's space and rights, and who else has the file open"


def _other_version(path: Path, version: int) -> OutboxError:
    return OutboxError(
        f"outbox {path} was written by another version of Linewatch (form {version}, this program has "
        f"{_VERSION}); start that version once so that it sends what waits, then move the file away"
    )


def checkpoint(path: Path) -> None:
    """Moves what is in the write-ahead log into the file and syncs it; waits for the disk, so call it in a
    thread.

    With a connection of its own: it holds up no put. Does nothing useful, and no harm, when the file is busy.
    """
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(path, timeout=0.1)) as db:
        db.execute("PRAGMA wal_checkpoint(PASSIVE)")


def waiting(path: Path) -> tuple[int, float | None]:
    """How many events the broker has not acknowledged, and when the oldest was put (UTC s); from any process.

    (0, None) where there is no outbox yet. Raises OutboxError for a file that is none, that is of another
    version, or that this user may not read.
    """
    if not _is_there(path):
        return 0, None
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            version = db.execute("PRAGMA user_version").fetchone()[0]
            if version == 0:  # a start that failed made it and put nothing in
                return 0, None
            if version != _VERSION:
                raise _other_version(path, version)
            count, oldest = db.execute("SELECT count(*), min(put_at) FROM event WHERE acked = 0").fetchone()
            return int(count), oldest
    except sqlite3.Error as error:
        raise OutboxError(f"outbox {path} can't be read: {error}") from error


def _is_there(path: Path) -> bool:
    try:
        return path.exists()
    except OSError as error:  # a folder that keeps this user out
        raise OutboxError(
            f"outbox {path} can't be read: {error.strerror}; ask as the user that Linewatch runs as"
        ) from error


def last_seqs(path: Path) -> dict[str, int]:
    """The last number that each camera gave; from any process, also beside the one that owns the outbox.

    Empty where there is no outbox yet. Raises OutboxError for a file that is none, or not ours to read.
    """
    if not _is_there(path):
        return {}
    try:
        with contextlib.closing(sqlite3.connect(path, timeout=5.0)) as db:
            return dict(db.execute("SELECT camera, seq FROM seq").fetchall())
    except sqlite3.Error as error:
        raise OutboxError(f"outbox {path} can't be read: {error}") from error
