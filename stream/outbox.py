"""What is decided, on disk until the broker has it, and for a while after.

    put(events)          seq for each event, the event itself and the table of open incidents: one transaction
    take(stream, n)      what the publisher sends next, in order for each camera
    assign(...)          the entry ids that it will use, before it uses them
    unassign(...)        somebody else used them
    acknowledge(...)     the broker has them: they move into the window that is kept for a replay
    recall(...)          the broker lost what it had acknowledged

WAL with synchronous=NORMAL: a transaction survives `kill -9` of this process at any moment. A power cut may
take what was decided since the last checkpoint; the publisher's housekeeping makes one each second, off the
event loop.

One connection, one thread (the event loop's): calls take about 0.1 ms and a lock on the file keeps a second
process out, because a stream has one ordered writer.

OutboxError: the file can't be opened, is locked by another Linewatch, or the disk refuses to write or read.
Every call may raise it, and nothing else; what needs no disk (`pending`, `streams`) never does.
"""

import contextlib
import logging
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .events import Event
from .outbox_file import OutboxError, lock, mend, open_database

log = logging.getLogger(__name__)

EntryId = tuple[int, int]

# SQLite holds no larger number; an entry id's may be twice that.
_LARGEST = (1 << 63) - 1


@dataclass(frozen=True, slots=True)
class Row:
    """One stored event on its way to one stream; `entry_id` is what was, or is to be, used at the broker."""

    n: int
    stream: str
    camera: str
    event_id: str
    entry_id: EntryId | None
    body: str


_COLUMNS = "n, stream, camera, event_id, ms, sub, body"


class Outbox:
    """The store. `streams` are suffixes such as "events" and "verdicts"; the broker's keys are the
    publisher's.

    `keep` is how many acknowledged entries of each stream stay for a replay; `max_bytes` bounds the file.
    """

    def __init__(
        self,
        path: Path,
        *,
        keep: int = 100_000,
        max_bytes: int = 512 << 20,
        now_s: Callable[[], float] = time.time,
    ) -> None:
        self.path = path
        self.keep = keep
        self.max_bytes = max_bytes
        self._now_s = now_s
        self._waiting: dict[tuple[str, str], int] = {}
        self._kept: dict[str, int] = {}
        self.lock = lock(path)
        try:
            self._db = open_database(path)
            self._count()
        except OutboxError:
            self.lock.close()
            raise

    def belong_to(self, base: str) -> None:
        """What is kept for a replay was acknowledged under this stream's name; under another one it is let
        go, or a line that was renamed would send all of it anew. What waits stays.
        """
        with self._transaction():
            before = self._db.execute("SELECT base FROM belongs").fetchone()
            if before == (base,):
                return
            self._db.execute("DELETE FROM belongs")
            self._db.execute("INSERT INTO belongs VALUES (?)", (base,))
            if before is not None:
                self._db.execute("DELETE FROM event WHERE acked = 1")
                self._kept.clear()
                log.warning(
                    "events go to %s now, no more to %s: what was sent is not sent again", base, *before
                )

    def close(self) -> None:
        """Writes everything into the one file and lets it go."""
        self._db.close()
        self.lock.close()

    # -- putting ---------------------------------------------------------------------------------------------

    def put(self, events: Sequence[Event], streams: Sequence[str] = ("events",)) -> list[Event]:
        """Gives each event its seq and stores all of them for each of the streams, in one transaction.

        Raises OutboxError when the disk refuses; then nothing of it was stored.
        """
        self._make_room()
        with self._transaction():
            numbered = [self._number(event) for event in events]
            for event in numbered:
                self._remember_open(event)
                self._store(event, streams)
        for event in numbered:
            for stream in streams:
                self._wait(stream, event.camera, 1)
        return numbered

    def _number(self, event: Event) -> Event:
        row = self._db.execute(
            "INSERT INTO seq VALUES (?, 1) ON CONFLICT DO UPDATE SET seq = seq + 1 RETURNING seq",
            (event.camera,),
        ).fetchone()
        return event.model_copy(update={"seq": row[0]})

    def _remember_open(self, event: Event) -> None:
        if event.phase == "open":
            self._db.execute(
                "INSERT OR REPLACE INTO incident VALUES (?, ?)", (event.defect_id, event.json_text())
            )
        elif event.phase == "close":
            self._db.execute("DELETE FROM incident WHERE defect_id = ?", (event.defect_id,))

    def _store(self, event: Event, streams: Sequence[str]) -> None:
        body, now_s = event.json_text(), self._now_s()
        self._db.executemany(
            "INSERT INTO event (stream, camera, event_id, phase, put_at, body) VALUES (?, ?, ?, ?, ?, ?)",
            [(stream, event.camera, event.id, event.phase, now_s, body) for stream in streams],
        )

    # -- sending ---------------------------------------------------------------------------------------------

    def take(self, stream: str, limit: int) -> list[Row]:
        """What to send next. First what has an entry id already, by id; then, in turn for each camera, the
        oldest.

        So a camera with a long queue behind it delays no other, and each camera's order is kept.
        """
        known = self._rows(
            "stream = ? AND acked = 0 AND ms IS NOT NULL ORDER BY ms, sub LIMIT ?", (stream, limit)
        )
        if known:
            return known
        cameras = [camera for (of, camera), n in self._waiting.items() if of == stream and n > 0]
        share = max(1, limit // max(1, len(cameras)))
        rows: list[Row] = []
        for camera in cameras:
            rows += self._rows(
                "stream = ? AND camera = ? AND acked = 0 ORDER BY n LIMIT ?", (stream, camera, share)
            )
        rows.sort(key=lambda row: row.n)
        return rows

    def assign(self, ids: Iterable[tuple[int, EntryId]]) -> None:
        """Writes down (row number, entry id) before the id is used."""
        with self._transaction():
            self._db.executemany(
                "UPDATE event SET ms = ?, sub = ? WHERE n = ?", [(ms, sub, n) for n, (ms, sub) in ids]
            )

    def assigned(self, stream: str, top: EntryId, limit: int) -> list[Row]:
        """What waits under an entry id up to `top`: perhaps the broker has it and the answer got lost."""
        return self._rows(
            "stream = ? AND acked = 0 AND ms IS NOT NULL AND (ms, sub) <= (?, ?) ORDER BY ms, sub LIMIT ?",
            (stream, *top, limit),
        )

    def unassign(self, stream: str, first: EntryId, most: int) -> int:
        """Takes the entry ids from `first` on away from what waits: they are used by somebody else.

        The highest `most` of them; how many there were. So a large window never holds up the event loop, and
        whatever ends it half-way leaves the order as it is.
        """
        with self._transaction():
            return self._db.execute(
                "UPDATE event SET ms = NULL, sub = NULL WHERE n IN (SELECT n FROM event "
                "WHERE stream = ? AND acked = 0 AND ms IS NOT NULL AND (ms, sub) >= (?, ?) "
                "ORDER BY ms DESC, sub DESC LIMIT ?)",
                (stream, *first, most),
            ).rowcount

    def acknowledge(self, rows: Sequence[Row]) -> None:
        """The broker holds them. Drops the oldest of the window beyond `keep`."""
        with self._transaction():
            done = self._set_acked(rows)
        for row in done:
            self._wait(row.stream, row.camera, -1)
            self._kept[row.stream] = self._kept.get(row.stream, 0) + 1
        for stream in {row.stream for row in done}:
            # In lumps: trimming a few hundred at once costs as much as trimming one.
            if self._kept[stream] > self.keep + max(64, self.keep // 100):
                self._trim(stream, self._kept[stream] - self.keep)

    def recall(self, stream: str, first: EntryId, most: int) -> int:
        """The broker lost its entries from `first` on: they wait again, under their entry ids.

        The highest `most` of them, as `unassign`; how many there were.
        """
        with self._transaction():
            back = self._db.execute(
                "UPDATE event SET acked = 0 WHERE n IN (SELECT n FROM event "
                "WHERE stream = ? AND acked = 1 AND (ms, sub) >= (?, ?) ORDER BY ms DESC, sub DESC LIMIT ?) "
                "RETURNING camera",
                (stream, *first, most),
            ).fetchall()
        for (camera,) in back:
            self._wait(stream, camera, 1)
        self._kept[stream] = self._kept.get(stream, 0) - len(back)
        return len(back)

    def kept(self, stream: str, skip: int, limit: int) -> list[Row]:
        """Acknowledged entries, newest entry id first."""
        return self._rows(
            "stream = ? AND acked = 1 ORDER BY ms DESC, sub DESC LIMIT ? OFFSET ?", (stream, limit, skip)
        )

    def acknowledged(self, stream: str, entry_id: EntryId) -> Row | None:
        """What the broker acknowledged under this entry id, as far as the window reaches."""
        found = self._rows("stream = ? AND acked = 1 AND ms = ? AND sub = ?", (stream, *entry_id))
        return found[0] if found else None

    def kept_after(self, stream: str, entry_id: EntryId) -> int:
        """How many entries the broker acknowledged under higher ids, as far as the window reaches."""
        ((count,),) = self._ask(
            "SELECT COUNT(*) FROM event WHERE stream = ? AND acked = 1 AND (ms, sub) > (?, ?)",
            (stream, *(min(part, _LARGEST) for part in entry_id)),
        )
        return int(count)

    def newest(self, stream: str, limit: int) -> list[Event]:
        """What was put last, newest first, whether the broker has it or not."""
        rows = self._rows("stream = ? ORDER BY n DESC LIMIT ?", (stream, limit))
        return [Event.model_validate_json(row.body) for row in rows]

    def kept_count(self, stream: str) -> int:
        return self._kept.get(stream, 0)

    # -- knowing ---------------------------------------------------------------------------------------------

    def open_incidents(self) -> list[Event]:
        """The `open` events that no `close` has followed yet, oldest first."""
        rows = self._ask("SELECT body FROM incident ORDER BY defect_id")
        return [Event.model_validate_json(body) for (body,) in rows]

    def streams(self) -> list[str]:
        """Streams that have something waiting or in their window."""
        return sorted({stream for stream, _ in self._waiting} | set(self._kept))

    @property
    def pending(self) -> int:
        """Entries that the broker has not acknowledged."""
        return sum(self._waiting.values())

    def oldest_s(self, now_s: float) -> float:
        """Age of the oldest entry that waits; 0 when none does."""
        # The first of each camera's by the index: the least of all would be looked for among all that wait.
        first = "SELECT put_at FROM event WHERE stream = ? AND camera = ? AND acked = 0 ORDER BY n LIMIT 1"
        put_at = [float(row[0]) for key in self._waiting for row in self._ask(first, key)]
        return max(0.0, now_s - min(put_at, default=now_s))

    @property
    def size_bytes(self) -> int:
        """Bytes of the file that are in use."""
        names = ("page_count", "freelist_count", "page_size")
        pages, free, page_bytes = (int(self._ask(f"PRAGMA {name}")[0][0]) for name in names)
        return (pages - free) * page_bytes

    def dropped(self) -> dict[str, int]:
        """What a full outbox has thrown away and not yet told, by phase."""
        return dict(self._ask("SELECT what, n FROM dropped ORDER BY what"))

    def told_dropped(self, counts: dict[str, int]) -> None:
        """These counts stand in an event now."""
        with self._transaction():
            self._db.executemany(
                "UPDATE dropped SET n = n - ? WHERE what = ?", [(n, w) for w, n in counts.items()]
            )
            self._db.execute("DELETE FROM dropped WHERE n <= 0")

    # -- room ------------------------------------------------------------------------------------------------

    def _make_room(self) -> None:
        """Full: first the replay window goes, then waiting updates, then the oldest of the rest, counted.

        The oldest goes also where it has an entry id: what was recalled has one, and may be all there is, so
        that else the newest would go. One that is just under way may arrive although it is counted.
        """
        while self.size_bytes > self.max_bytes:
            unsent = "ms IS NULL AND phase = 'update'"
            if not (self._shrink_window() or self._drop(unsent) or self._drop("1")):
                return

    def _shrink_window(self) -> bool:
        stream = max(self._kept, key=lambda s: self._kept[s], default=None)
        if stream is None or self._kept[stream] == 0:
            return False
        self._trim(stream, max(64, self._kept[stream] // 10))
        return True

    def _trim(self, stream: str, excess: int) -> None:
        with self._transaction():
            gone = self._db.execute(
                "DELETE FROM event WHERE n IN (SELECT n FROM event WHERE stream = ? AND acked = 1 "
                "ORDER BY ms, sub LIMIT ?)",
                (stream, excess),
            ).rowcount
        self._kept[stream] -= gone

    def _drop(self, which: str) -> bool:
        with self._transaction():
            gone = self._db.execute(
                "DELETE FROM event WHERE n IN (SELECT n FROM event "
                f"WHERE acked = 0 AND {which} ORDER BY n LIMIT 256) "
                "RETURNING stream, camera, phase"
            ).fetchall()
            self._db.executemany(
                "INSERT INTO dropped VALUES (?, 1) ON CONFLICT DO UPDATE SET n = n + 1",
                [(phase,) for _, _, phase in gone],
            )
        for stream, camera, _ in gone:
            self._wait(stream, camera, -1)
        return bool(gone)

    # -- SQLite ----------------------------------------------------------------------------------------------

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """What SQLite raises becomes an OutboxError."""
        try:
            yield
        except sqlite3.Error as error:
            raise OutboxError(f"outbox {self.path}: {error}; {mend(error)}") from error
        except OverflowError as error:
            raise OutboxError(
                "an entry id in our stream is too large to go on from: another program wrote it; delete that "
                "stream's key at the broker"
            ) from error

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        with self._told():
            if self._db.in_transaction:  # an earlier one could not even be rolled back
                self._db.execute("ROLLBACK")
            self._db.execute("BEGIN IMMEDIATE")
            try:
                yield
                self._db.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself when the disk was full; where we can't, the next one does.
                if self._db.in_transaction:
                    with contextlib.suppress(sqlite3.Error):
                        self._db.execute("ROLLBACK")
                raise

    def _ask(self, query: str, values: tuple[object, ...] = ()) -> list[tuple[Any, ...]]:
        with self._told():
            return self._db.execute(query, values).fetchall()

    def _set_acked(self, rows: Sequence[Row]) -> list[Row]:
        """Those that changed; one that was dropped or acknowledged meanwhile changes nothing."""
        query = "UPDATE event SET acked = 1 WHERE n = ? AND acked = 0"
        return [row for row in rows if self._db.execute(query, (row.n,)).rowcount]

    def _rows(self, where: str, values: tuple[object, ...]) -> list[Row]:
        found = self._ask(f"SELECT {_COLUMNS} FROM event WHERE {where}", values)
        return [
            Row(n, stream, camera, event_id, None if ms is None else (ms, sub), body)
            for n, stream, camera, event_id, ms, sub, body in found
        ]

    def _wait(self, stream: str, camera: str, change: int) -> None:
        left = self._waiting.get((stream, camera), 0) + change
        if left > 0:
            self._waiting[stream, camera] = left
        else:
            self._waiting.pop((stream, camera), None)

    def _count(self) -> None:
        waiting = self._ask(
            "SELECT stream, camera, COUNT(*) FROM event WHERE acked = 0 GROUP BY stream, camera"
        )
        self._waiting = {(stream, camera): n for stream, camera, n in waiting}
        self._kept = dict(self._ask("SELECT stream, COUNT(*) FROM event WHERE acked = 1 GROUP BY stream"))
