"""The schedule beside a stream, and how incidents are judged by it."""

from pathlib import Path

import pytest

from stream.sim.line import ProductionLine, defect_times
from stream.sim.schedule import (
    Entry,
    ScheduleWriter,
    Sighting,
    Truth,
    entry_line,
    judge,
    parse,
    read,
    to_text,
)
from stream.sim.shown import Box

BOX = (100, 100, 140, 130)
TRUTH = Truth("d1", "scratch", BOX, (0, 100, 640, 130), 10.0, 12.0, 10.25, 11.75)
ENTRIES = [Entry("top", 1, 10.0, "part-1", "live", (TRUTH,)), Entry("top", 2, 12.0, "part-2", "live", ())]


def saw(at_s: float, box: Box = BOX, incident: str = "i1") -> Sighting:
    return Sighting(incident, at_s, (box,))


def test_an_incident_on_the_defect_finds_it() -> None:
    score = judge(ENTRIES, [saw(10.8)], 0, 100)
    assert (score.shown, score.found, score.missed, score.false_alarms) == (("d1",), ("d1",), (), ())


def test_a_defect_that_nothing_saw_is_missed() -> None:
    score = judge(ENTRIES, [], 0, 100)
    assert (score.found, score.missed) == ((), ("d1",))


def test_an_incident_elsewhere_in_the_picture_is_a_false_alarm() -> None:
    score = judge(ENTRIES, [saw(10.8, (300, 300, 340, 330))], 0, 100)
    assert (score.missed, score.false_alarms, score.on_good) == (("d1",), ("i1",), ())


def test_a_false_alarm_while_no_defect_is_in_the_picture_is_one_on_a_good_part() -> None:
    elsewhere = (300, 300, 340, 330)
    score = judge(ENTRIES, [saw(20.0, elsewhere), saw(11.0, elsewhere, "i2")], 0, 100)
    assert (score.false_alarms, score.on_good) == (("i1", "i2"), ("i1",))


@pytest.mark.parametrize(("at_s", "found"), [(9.1, True), (8.9, False), (12.9, True), (13.1, False)])
def test_a_match_is_within_a_second(at_s: float, found: bool) -> None:
    assert bool(judge(ENTRIES, [saw(at_s)], 0, 100).found) is found


def test_on_its_way_out_a_defect_is_found_wherever_it_is() -> None:
    assert judge(ENTRIES, [saw(11.9, (10, 105, 50, 128))], 0, 100).found == ("d1",)
    assert not judge(ENTRIES, [saw(11.0, (10, 105, 50, 128))], 0, 100).found


def test_one_event_on_the_defect_explains_the_whole_incident() -> None:
    events = [saw(10.5), saw(11.0, (300, 300, 340, 330))]
    assert judge(ENTRIES, events, 0, 100).false_alarms == ()


def test_touching_boxes_do_not_overlap() -> None:
    assert judge(ENTRIES, [saw(11.0, (140, 100, 160, 130))], 0, 100).false_alarms == ("i1",)


def test_a_defect_at_the_edge_of_the_run_counts_if_it_could_be_seen() -> None:
    assert judge(ENTRIES, [], 0, 10.6).shown == ()
    assert judge(ENTRIES, [], 0, 10.8).shown == ("d1",)
    assert judge(ENTRIES, [], 11.5, 100).shown == ()


def test_a_defect_found_that_does_not_count_as_shown_is_no_false_alarm() -> None:
    score = judge(ENTRIES, [saw(11.6)], 11.5, 100)
    assert (score.shown, score.found, score.false_alarms) == ((), (), ())


def test_what_is_written_is_read_back(tmp_path: Path) -> None:
    line = ProductionLine("machined", 3, (320, 240))
    at_s = defect_times(line, 30)[0]
    shot = line.shot(at_s)
    writer = ScheduleWriter(tmp_path / "s" / "top.jsonl")
    writer.write(entry_line("top", 77, 1_700_000_000.0, at_s, shot))
    (entry,) = read(writer.path)  # before it is closed: each line is flushed
    writer.close()
    (truth,) = entry.defects
    assert (entry.rtp, entry.name, entry.phase, truth.box) == (77, shot.name, "live", shot.defects[0].box)
    assert entry.captured_at_s == pytest.approx(1_700_000_000.0 + at_s, abs=2e-6)
    assert truth.still_to_s == pytest.approx(1_700_000_000.0 + shot.defects[0].still_to_s, abs=2e-6)


def test_the_same_defect_of_another_run_is_another_one() -> None:
    line = ProductionLine("machined", 3, (320, 240))
    at_s = defect_times(line, 30)[0]
    entries = [parse(entry_line("top", 1, begin, at_s, line.shot(at_s))) for begin in (1000.0, 2000.0)]
    assert len(judge(entries, [], 0, 9000).shown) == 2


def test_the_file_is_bounded_and_a_torn_line_is_left_out(tmp_path: Path) -> None:
    shot = ProductionLine("machined", 3, (320, 240)).shot(0.0)
    writer = ScheduleWriter(tmp_path / "top.jsonl", max_bytes=1000)
    for i in range(50):
        writer.write(entry_line("top", i, 0.0, float(i), shot))
    writer.close()
    sizes = [p.stat().st_size for p in tmp_path.iterdir()]
    assert len(sizes) == 2 and max(sizes) <= 1000
    with writer.path.open("a") as file:
        file.write('{"schema":"camera-sch')
    assert read(writer.path)[-1].rtp == 49


def test_times_are_utc_with_microseconds() -> None:
    assert to_text(0.25) == "1970-01-01T00:00:00.250000Z"


def test_a_line_that_is_none_is_refused() -> None:
    with pytest.raises((ValueError, KeyError)):
        parse("{}")
