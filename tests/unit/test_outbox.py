"""What was put is there until the broker has it, and a while after."""

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest

from stream.drafts import Drafts
from stream.events import Event
from stream.outbox import Outbox, Row
from stream.outbox_file import OutboxError

DRAFTS = Drafts("plant-a", "line-1", None, lambda: 1_700_000_000.0)


def facts(n: int, camera: str = "top") -> list[Event]:
    return [DRAFTS.fact("camera", "flicker", camera) for _ in range(n)]


def opened(phase: str = "open") -> Event:
    return DRAFTS.fact("camera", "down", "top", phase=phase)  # type: ignore[arg-type]


def send(outbox: Outbox, n: int = 1000, stream: str = "events") -> list[Row]:
    """Acknowledges what waits, as a publisher would, under rising ids."""
    rows = outbox.take(stream, n)
    outbox.assign([(row.n, (1, row.n)) for row in rows])
    rows = outbox.take(stream, n)
    outbox.acknowledge(rows)
    return rows


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    box = Outbox(tmp_path / "outbox.db", keep=100)
    yield box
    box.close()


def test_seq_counts_each_camera_from_one(outbox: Outbox) -> None:
    put = outbox.put([*facts(2, "a"), *facts(1, "b"), *facts(1, "a")])
    assert [(e.camera, e.seq) for e in put] == [("a", 1), ("a", 2), ("b", 1), ("a", 3)]


def test_seq_outlives_a_restart(tmp_path: Path) -> None:
    for expected in (1, 2):
        outbox = Outbox(tmp_path / "o.db")
        assert outbox.put(facts(1))[0].seq == expected
        outbox.close()


def test_what_waits_outlives_a_restart(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db")
    put = outbox.put(facts(3))
    outbox.close()
    outbox = Outbox(tmp_path / "o.db")
    assert outbox.pending == 3
    assert [row.event_id for row in outbox.take("events", 10)] == [e.id for e in put]
    outbox.close()


def test_a_second_process_is_kept_out(outbox: Outbox) -> None:
    with pytest.raises(OutboxError, match="in use by another Linewatch"):
        Outbox(outbox.path)


def test_a_file_that_is_no_database_is_refused_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "o.db").write_text("not a database, but long enough to be taken for one" * 30)
    with pytest.raises(OutboxError, match="move it away"):
        Outbox(tmp_path / "o.db")


def test_a_file_that_is_broken_further_inside_is_refused_with_a_sentence(tmp_path: Path) -> None:
    """Its first page is well, so it opens: what is wrong shows when the events are counted."""
    box = Outbox(tmp_path / "o.db")
    box.put(facts(200))
    box.close()
    data = bytearray((tmp_path / "o.db").read_bytes())
    for page in range(8192, len(data), 4096):
        data[page : page + 16] = b"\xff" * 16
    (tmp_path / "o.db").write_bytes(data)
    for _ in range(2):  # the second time it is not "in use by another Linewatch"
        with pytest.raises(OutboxError, match="malformed; move it away"):
            Outbox(tmp_path / "o.db")


def test_a_file_that_another_program_holds_is_not_to_be_moved_away(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    Outbox(tmp_path / "o.db").close()
    connect = sqlite3.connect
    other = connect(tmp_path / "o.db")
    other.executescript("PRAGMA locking_mode = EXCLUSIVE; BEGIN EXCLUSIVE;")
    monkeypatch.setattr(sqlite3, "connect", lambda path, **more: connect(path, **more | {"timeout": 0.0}))
    with pytest.raises(OutboxError, match=r"locked; check .* who else has the file open"):
        Outbox(tmp_path / "o.db")
    other.close()


def test_a_file_that_can_not_be_opened_is_not_to_be_moved_away(tmp_path: Path) -> None:
    """Only a broken file is: in a whole one events may wait, and it has the numbers."""
    (tmp_path / "outbox.db").mkdir()
    with pytest.raises(OutboxError, match=r"let this user write there .* or move the file"):
        Outbox(tmp_path / "outbox.db")
    (tmp_path / "outbox.db.lock").unlink()
    (tmp_path / "outbox.db.lock").mkdir()
    with pytest.raises(OutboxError, match=r"Is a directory; let this user write there .* or move the file"):
        Outbox(tmp_path / "outbox.db")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    with sqlite3.connect(tmp_path / "o.db") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutboxError, match="another version"):
        Outbox(tmp_path / "o.db")


def test_each_camera_gets_its_turn_and_keeps_its_order(outbox: Outbox) -> None:
    outbox.put(facts(50, "busy"))
    outbox.put(facts(2, "calm"))
    rows = outbox.take("events", 10)
    assert [r.camera for r in rows] == ["busy"] * 5 + ["calm"] * 2
    assert [r.n for r in rows] == sorted(r.n for r in rows)


def test_what_has_an_entry_id_comes_before_everything_else(outbox: Outbox) -> None:
    outbox.put(facts(3))
    first, second, _ = outbox.take("events", 10)
    outbox.assign([(second.n, (5, 0)), (first.n, (4, 0))])
    assert [(r.n, r.entry_id) for r in outbox.take("events", 10)] == [(first.n, (4, 0)), (second.n, (5, 0))]


def test_acknowledged_entries_stay_for_a_window(outbox: Outbox) -> None:
    outbox.put(facts(300))
    send(outbox)
    assert outbox.pending == 0
    assert 100 <= outbox.kept_count("events") <= 164
    newest, *_ = outbox.kept("events", 0, 5)
    assert newest.entry_id == (1, 300)


def test_recalled_entries_wait_again(outbox: Outbox) -> None:
    outbox.put(facts(5))
    rows = send(outbox)
    lost = rows[3].entry_id
    assert lost is not None and [outbox.recall("events", lost, 1) for _ in range(3)] == [1, 1, 0]
    assert [r.entry_id for r in outbox.take("events", 10)] == [rows[3].entry_id, rows[4].entry_id]
    assert (outbox.pending, outbox.kept_count("events")) == (2, 3)


def test_entry_ids_are_taken_away_from_the_highest_down(outbox: Outbox) -> None:
    outbox.put(facts(5))
    outbox.assign([(row.n, (1, row.n)) for row in outbox.take("events", 10)])
    assert outbox.unassign("events", (1, 2), 3) == 3
    assert [r.entry_id for r in outbox.take("events", 10)] == [(1, 1), (1, 2)]
    assert [outbox.unassign("events", (1, 2), 3) for _ in range(2)] == [1, 0]
    assert [r.entry_id for r in outbox.take("events", 1)] == [(1, 1)]


def test_a_line_of_another_name_does_not_send_again_what_the_old_one_sent(outbox: Outbox) -> None:
    outbox.belong_to("linewatch:plant:trial")
    outbox.put(facts(3))
    send(outbox)
    (waits,) = outbox.put(facts(1))
    outbox.belong_to("linewatch:plant:trial")
    assert outbox.kept_count("events") == 3
    outbox.belong_to("linewatch:plant:line-1")
    assert outbox.kept_count("events") == 0 and outbox.kept("events", 0, 9) == []
    assert [r.event_id for r in outbox.take("events", 9)] == [waits.id]


def test_a_window_of_before_names_were_kept_belongs_to_the_name_of_now(outbox: Outbox) -> None:
    outbox.put(facts(3))
    send(outbox)
    outbox.belong_to("linewatch:plant:line-1")
    assert outbox.kept_count("events") == 3


def test_one_transaction_puts_a_verdict_into_both_streams(outbox: Outbox) -> None:
    (event,) = outbox.put(facts(1), ("events", "verdicts"))
    assert [r.event_id for s in outbox.streams() for r in outbox.take(s, 9)] == [event.id, event.id]


def test_an_open_incident_is_known_until_it_closes(outbox: Outbox) -> None:
    (event,) = outbox.put([opened()])
    assert [e.defect_id for e in outbox.open_incidents()] == [event.defect_id]
    outbox.put([DRAFTS.restarted(event)])
    assert outbox.open_incidents() == []


def test_the_age_of_the_oldest_that_waits_is_known(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", now_s=lambda: 100.0)
    assert outbox.oldest_s(107.0) == 0.0
    outbox.put(facts(1))
    assert outbox.oldest_s(107.0) == 7.0
    outbox.close()


def test_a_full_outbox_gives_up_its_window_first(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", max_bytes=300_000)
    outbox.put(facts(100))
    send(outbox)
    while outbox.kept_count("events"):
        outbox.put(facts(20))
    assert outbox.dropped() == {}
    outbox.close()


def test_a_full_outbox_drops_updates_then_the_oldest_and_counts_them(tmp_path: Path) -> None:
    outbox = Outbox(tmp_path / "o.db", max_bytes=300_000)
    put: list[Event] = []
    for _ in range(300):
        put += outbox.put([opened("open"), opened("update"), opened("close")])
    left = outbox.take("events", 10_000)
    dropped = outbox.dropped()
    assert sum(dropped.values()) + len(left) == len(put)
    assert outbox.size_bytes < 330_000
    assert left[-1].event_id == put[-1].id
    outbox.told_dropped(dropped)
    assert outbox.dropped() == {}
    outbox.close()


def test_a_full_outbox_of_what_the_broker_lost_keeps_the_newest(tmp_path: Path) -> None:
    """What is recalled has its entry id already; once only what had none was dropped: the newest."""
    outbox = Outbox(tmp_path / "o.db", max_bytes=300_000)
    put = outbox.put(facts(300))
    send(outbox)
    outbox.recall("events", (0, 0), 1000)
    for _ in range(300):
        put += outbox.put(facts(1))
    left = outbox._rows("acked = 0 ORDER BY n", ())
    assert [row.event_id for row in left] == [event.id for event in put[-len(left) :]]
    assert outbox.dropped() == {"close": len(put) - len(left)}
    assert outbox.pending == len(left)
    assert outbox.size_bytes < 330_000
    outbox.close()


def test_a_disk_that_refuses_says_so_and_stores_nothing(outbox: Outbox) -> None:
    outbox._db.execute("PRAGMA max_page_count = 20")
    with pytest.raises(OutboxError, match="full"):
        outbox.put(facts(500))
    outbox._db.execute("PRAGMA max_page_count = 100000")
    assert outbox.pending == 0
    assert outbox.put(facts(1))[0].seq == 1


def refuse(outbox: Outbox, *actions: int) -> None:
    """SQLite itself refuses these actions from now on; none: it works again."""
    outbox._db.set_authorizer(
        (lambda action, *_: sqlite3.SQLITE_DENY if action in actions else sqlite3.SQLITE_OK)
        if actions
        else None
    )


def test_whatever_call_the_disk_refuses_it_is_one_kind_of_error(outbox: Outbox) -> None:
    """Only `put` once guarded what it writes: a failed look at the file's size went past everybody."""
    outbox.put([opened(), *facts(1)])
    refuse(outbox, sqlite3.SQLITE_PRAGMA, sqlite3.SQLITE_SELECT)
    for call in (
        lambda: outbox.put(facts(1)),
        lambda: outbox.take("events", 1),
        lambda: outbox.kept("events", 0, 1),
        lambda: outbox.oldest_s(0.0),
        outbox.open_incidents,
        outbox.dropped,
    ):
        with pytest.raises(OutboxError, match="check the disk"):
            call()
    refuse(outbox)
    assert outbox.put(facts(1))[0].seq == 3
    assert outbox.pending == 3


def test_a_transaction_that_could_not_be_undone_does_not_block_the_next(outbox: Outbox) -> None:
    outbox._db.execute("BEGIN IMMEDIATE")
    assert outbox.put(facts(1))[0].seq == 1
