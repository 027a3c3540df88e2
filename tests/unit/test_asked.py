"""What a trigger's entry says, and what is wrong with it."""

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from stream.asked import parse_trigger
from stream.inbox import Malformed

NOW = 1_764_000_000.0
ENTRY = "1764000000123-0"


@pytest.mark.parametrize(
    ("at", "expected"),
    [
        ("2025-11-24T16:00:00Z", NOW),
        ("2025-11-24T17:00:00.250000+01:00", NOW + 0.25),
        ("1764000000.5", NOW + 0.5),
        ("", NOW + 0.123),
    ],
)
def test_the_moment_of_a_trigger_is_read(at: str, expected: float) -> None:
    name, trigger = parse_trigger(ENTRY, {"camera": "top", "part_id": "p", "at": at}, NOW + 1)
    assert name == "top" and trigger.at == pytest.approx(expected, abs=1e-6)
    assert (trigger.part.job_id, trigger.part.recipe, trigger.entry) == ("NA", "NA", ENTRY)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"part_id": "p"}, "the field camera is missing"),
        ({"camera": "top", "part_id": ""}, "the field part_id is missing"),
        ({"camera": "top", "part_id": "p" * 129}, "part_id must be printable"),
        ({"camera": "top", "part_id": "p", "job_id": "a\nb"}, "job_id must be printable"),
        ({"camera": "top", "part_id": "p", "id": "i" * 129}, "id must be printable"),
        ({"camera": "top", "part_id": "p", "at": "2025-11-24T16:00:00"}, "with its zone"),
        ({"camera": "top", "part_id": "p", "at": "1764000000000"}, "at must be UTC seconds"),
        ({"camera": "top", "part_id": "p", "at": "nan"}, "at must be UTC seconds"),
    ],
)
def test_a_malformed_trigger_says_what_is_wrong(fields: dict[str, str], reason: str) -> None:
    with pytest.raises(Malformed, match=reason):
        parse_trigger(ENTRY, fields, NOW)


def test_an_entry_id_in_nanoseconds_is_no_moment() -> None:
    """It was one, of a year that no event can carry: the verdict on its picture ended the line."""
    entry, fields = "1764000000123456789-0", {"camera": "top", "part_id": "p"}
    with pytest.raises(Malformed, match="at is missing, and the entry's id is not in milliseconds"):
        parse_trigger(entry, fields, NOW)
    assert parse_trigger(entry, fields | {"at": str(NOW)}, NOW)[1].at == NOW


@pytest.mark.parametrize(
    ("read_at", "at"), [(NOW + 0.2, NOW + 0.123), (NOW - 0.5, NOW - 0.5), (NOW - 9, NOW + 0.123)]
)
def test_no_trigger_is_written_after_it_is_read(read_at: float, at: float) -> None:
    """A broker whose clock was set back went on from the id before, and the next part answered."""
    trigger = parse_trigger(ENTRY, {"camera": "top", "part_id": "p"}, read_at)[1]
    assert trigger.at == pytest.approx(at, abs=1e-6)


@settings(derandomize=True, max_examples=150, deadline=None)
@given(st.dictionaries(st.sampled_from(["camera", "part_id", "job_id", "at", "x"]), st.text(max_size=40)))
def test_no_text_breaks_the_reader(fields: dict[str, str]) -> None:
    with contextlib.suppress(Malformed):
        parse_trigger(ENTRY, fields, NOW)
