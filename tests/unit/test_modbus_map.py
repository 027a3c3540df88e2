"""Registers and handshake without a network."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from stream.bridges.modbus_map import (
    ACK,
    CAMERA_REGISTERS,
    DEFECT_OPEN,
    NEW,
    NG_COUNT,
    REJECT,
    RESULT_NO,
    STATUS,
    Refused,
    Station,
    overlapping,
    registers_text,
    text_registers,
)
from stream.drafts import Part
from stream.events import Event, Verdict
from tests.brokers import DRAFTS


def verdict(said: Verdict = "ng") -> Event:
    return DRAFTS.verdict("top", Part("A-1"), said, None, None)


def defect(phase: str, defect_id: str) -> Event:
    fact = DRAFTS.fact("defect", phase, "top", phase=phase)  # type: ignore[arg-type]
    return fact.model_copy(update={"defect_id": defect_id, "verdict": "ng"})


def bits(station: Station) -> int:
    return station.registers({}, alive=True)[STATUS]


def test_numbers_go_round_without_zero() -> None:
    station = Station(triggered=True)
    station.restore(
        {
            "shown": Station(triggered=True).state()["shown"] | {"number": 0xFFFF},
            "trigger_done": 0,
            "open": [],
        }
    )
    station.show(verdict("ok"), late=False)
    assert station.shown.number == 1
    assert not station.acknowledges(0xFFFF), "the one before"


def test_an_ok_result_waits_for_nobody_unless_every_result_shall() -> None:
    calm, strict = Station(triggered=True), Station(triggered=True, handshake="every")
    for station in (calm, strict):
        station.show(verdict("ok"), late=False)
    assert (bits(calm) & NEW, bits(strict) & (NEW | REJECT)) == (0, NEW)


def test_the_same_event_again_keeps_number_and_acknowledgement() -> None:
    station, event = Station(triggered=True), verdict()
    station.show(event, late=False)
    station.ack(1)
    station.show(event, late=True)
    assert (station.shown.number, station.shown.acked) == (1, True)


def test_a_number_that_is_not_shown_can_not_be_acknowledged() -> None:
    station = Station(triggered=True)
    station.show(verdict(), late=False)
    station.show(verdict(), late=False)
    assert [station.acknowledges(number) for number in (0, 1, 2)] == [False, False, True]
    assert bits(station) & REJECT
    with pytest.raises(Refused, match="result 9 is acknowledged, but 2 is shown"):
        station.acknowledges(9)


def test_a_number_that_may_stand_from_before_our_time_says_nothing_unless_it_is_shown() -> None:
    station = Station(triggered=True)
    station.show(verdict(), late=False)
    assert not station.acknowledges(9, may_stand=True)
    assert station.acknowledges(1, may_stand=True)


def test_no_result_takes_the_number_that_was_acknowledged_last() -> None:
    station = Station(triggered=True)
    station.show(verdict(), late=False)
    station.ack(1)
    station.restore({**station.state(), "shown": station.state()["shown"] | {"number": 0xFFFF}})
    station.show(verdict(), late=False, avoid=1)
    assert station.shown.number == 2 and bits(station) & REJECT


def test_a_camera_that_is_not_triggered_shows_its_incidents() -> None:
    station = Station(triggered=False)
    opened, closed = defect("open", "d"), defect("close", "d")
    assert station.is_result(opened) and not station.is_result(closed) and not station.is_result(verdict())
    assert station.notice(opened) and not station.notice(opened)
    assert bits(station) & DEFECT_OPEN
    assert station.notice(closed) and not station.notice(closed)
    assert not bits(station) & DEFECT_OPEN


def numbered(seq: int, event: Event) -> Event:
    return event.model_copy(update={"seq": seq})


@pytest.mark.parametrize("seq", [7, 1])
def test_a_defect_whose_close_was_lost_does_not_stay_open_for_ever(seq: int) -> None:
    """Trimmed while the PLC was away, or gone with an outbox (numbers begin anew): nothing cleared it."""
    before = Station(triggered=False)
    before.notice(numbered(3, defect("open", "lost")))
    assert before.notice(numbered(4, defect("open", "still there"))), "its number is to be kept"
    station = Station(triggered=False)
    station.restore(before.state())
    station.notice(numbered(seq, verdict("ok")))
    assert not bits(station) & DEFECT_OPEN
    station.notice(numbered(seq + 1, defect("update", "still there")))
    assert bits(station) & DEFECT_OPEN
    station.notice(numbered(seq + 2, defect("close", "still there")))
    assert not bits(station) & DEFECT_OPEN


def test_where_kinds_are_kept_from_it_a_gap_is_no_loss() -> None:
    station = Station(triggered=False, sees_all=False)
    station.notice(numbered(3, defect("open", "d")))
    station.notice(numbered(7, defect("open", "e")))
    station.notice(numbered(9, defect("close", "e")))
    assert bits(station) & DEFECT_OPEN


def test_a_state_that_was_kept_is_the_same_again() -> None:
    station, other = Station(triggered=True), Station(triggered=True)
    station.notice(defect("open", "d"))
    station.show(verdict(), late=True)
    other.restore(station.state())
    assert other.state() == station.state()


@given(
    st.dictionaries(
        st.sampled_from(["ready", "ok_count", "ng_count", "error_code", "model_version"]), st.text()
    )
)
def test_whatever_stands_in_the_status_fits_into_registers(status: dict[str, str]) -> None:
    told = Station(triggered=True).registers(status, alive=True)
    assert all(0 <= value <= 0xFFFF for value in told.values())
    assert max(told) < ACK and RESULT_NO in told and NG_COUNT + 1 in told


@given(st.text(max_size=40))
def test_a_text_fits_into_its_registers(text: str) -> None:
    assert all(0 <= register <= 0xFFFF for register in text_registers(text, 16))
    assert len(text_registers(text, 16)) == 16


@given(st.text(alphabet=st.characters(min_codepoint=33, max_codepoint=126), max_size=32))
def test_a_part_id_comes_back_as_it_was(text: str) -> None:
    assert registers_text(text_registers(text, 16)) == text


def test_a_text_of_other_bytes_is_refused() -> None:
    with pytest.raises(Refused, match="not printable"):
        registers_text([0xFF41])


def test_blocks_that_share_a_register_are_found() -> None:
    blocks = {"a": range(100, 100 + CAMERA_REGISTERS), "b": range(163, 227), "c": range(300, 364)}
    assert overlapping(blocks) == ("a", "b")
    assert overlapping({"a": range(0, 64), "b": range(64, 128)}) is None
