"""The wire form goes out and comes back."""

import json
import os
from pathlib import Path

import pytest

from stream.contract import asyncapi
from stream.drafts import Drafts, region
from stream.events import (
    Event,
    EventError,
    ForeignEntry,
    entry_fields,
    json_schema,
    parse,
    parse_entry,
    rfc3339,
    utc_seconds,
)
from stream.ids import Uuid7
from stream.keys import Keys
from stream.snapshot import LineFault, plc_status
from stream.web.view import CameraView
from tests.unit.test_incidents import defect

DRAFTS = Drafts("plant-a", "line-1", "c" * 64, lambda: 1_700_000_000.25)


def test_times_are_rfc_3339_with_microseconds_and_come_back() -> None:
    assert rfc3339(1_700_000_000.25) == "2023-11-14T22:13:20.250000Z"
    assert utc_seconds(rfc3339(1_700_000_000.25)) == 1_700_000_000.25


def test_ids_are_version_7_and_rise_when_the_clock_falls() -> None:
    clock = iter([2.0, 2.0, 1.0, 3.0])
    new_id = Uuid7(lambda: next(clock))
    ids = [new_id() for _ in range(4)]
    assert ids == sorted(set(ids))
    assert all(i[14] == "7" and i[19] in "89ab" for i in ids)


def test_an_entry_comes_back_as_the_event_it_was() -> None:
    event = DRAFTS.fact("camera", "down", "top", phase="open", reason="no route")
    fields = entry_fields(event.json_text(), 1_700_000_000.5)
    back = parse_entry({k.encode(): v.encode() for k, v in fields.items()})
    assert back.model_copy(update={"published_at": None, "latency_ms": {}}) == event
    assert back.published_at == "2023-11-14T22:13:20.500000Z"
    assert back.latency_ms == {"publish": 250.0}


def test_flat_fields_hold_what_a_gateway_filters_by_and_no_nulls() -> None:
    fields = entry_fields(DRAFTS.fact("system", "started").json_text(), 1_700_000_000.5)
    assert fields["schema"] == "defect/1"
    assert (fields["kind"], fields["type"], fields["camera"], fields["part_id"]) == (
        "system",
        "system.started",
        "-",
        "NA",
    )
    assert "score_ratio" not in fields
    assert json.loads(fields["data"])["score_ratio"] is None


def test_a_fact_without_duration_has_its_own_id_as_defect_id() -> None:
    event = DRAFTS.fact("system", "started")
    assert (event.phase, event.defect_id) == ("close", event.id)


def test_a_reason_that_names_a_file_of_another_encoding_can_be_sent() -> None:
    """It could not be stored: the camera's supervision died of it, and with it the line."""
    reason = f"{os.fsdecode(b'/share/bl' + bytes([0xE4]) + b'tt.png')} can't be read: Input/output error"
    down = DRAFTS.fact("camera", "down", "top", phase="open", reason=reason)
    for event in (down, DRAFTS.closed(down, reason)):
        fields = entry_fields(event.json_text(), 1_700_000_001.0)
        assert fields["reason"].encode() == rb"/share/bl\udce4tt.png can't be read: Input/output error"


def test_a_region_is_in_shares_and_in_pixels() -> None:
    told = region(defect(64, 48, 32), (640, 480))
    assert told.box == (0.1, 0.1, 0.15, 0.16667)
    assert told.box_px == (64, 48, 96, 80)
    assert told.centroid == (0.125, 0.13333)


@pytest.mark.parametrize(
    "fields", [{"x": "y"}, {b"data": b'{"schema": "defect/9"}'}, {"data": "[]"}, {"data": "{"}]
)
def test_what_we_did_not_write_is_foreign(fields: dict[object, object]) -> None:
    with pytest.raises(ForeignEntry):
        parse_entry(fields)


def test_a_broken_event_says_which_field() -> None:
    text = DRAFTS.fact("system", "started").json_text().replace('"system"', '"sytem"')
    with pytest.raises(EventError, match="kind"):
        parse(text)


def test_a_moment_that_does_not_exist_is_a_broken_event() -> None:
    """A bridge delivered it, ended by it, and delivered it again when it was started again."""
    text = DRAFTS.fact("system", "started").json_text()
    with pytest.raises(EventError, match=r"captured_at: .*month must be in 1\.\.12"):
        parse(json.dumps(json.loads(text) | {"captured_at": "2026-13-01T00:00:00.000000Z"}))


def test_a_reader_ignores_fields_of_a_later_version() -> None:
    event = DRAFTS.fact("system", "started")
    assert parse(json.dumps({**json.loads(event.json_text()), "later": 1})) == event


def test_the_schema_file_in_the_package_is_the_schema() -> None:
    written = json.loads((Path(__file__).parents[2] / "stream" / "event.schema.json").read_text())
    assert written == json_schema()


def test_an_event_never_changes() -> None:
    with pytest.raises(ValueError, match="frozen"):
        DRAFTS.fact("system", "started").seq = 2


def test_the_close_after_a_restart_is_unknown_and_keeps_the_incident() -> None:
    opened = DRAFTS.fact("camera", "down", "top", phase="open")
    closed: Event = DRAFTS.restarted(opened)
    assert (closed.phase, closed.verdict, closed.reason) == ("close", "unknown", "restarted")
    assert closed.defect_id == opened.defect_id
    assert closed.id != opened.id


def test_the_asyncapi_file_in_the_package_is_the_contract() -> None:
    written = json.loads((Path(__file__).parents[2] / "stream" / "asyncapi.json").read_text())
    assert written == asyncapi()


def test_the_contract_names_every_key_of_a_line() -> None:
    keys = Keys("linewatch:{site}:{line}:events")
    ours = {name for name, value in vars(Keys).items() if isinstance(value, property)} - {"base"}
    addresses = {keys.events, keys.status("{camera}")}
    addresses |= {keys.bridge_report("{bridge}"), keys.bridge_reader("{bridge}")}
    addresses |= {getattr(keys, name) for name in ours}
    assert {channel["address"] for channel in asyncapi()["channels"].values()} == addresses


def test_the_contract_names_the_fields_of_the_status_hash() -> None:
    camera = CameraView("top", "live", "", 0.0)
    told = plc_status(camera, {}, LineFault(), busy=False, config_checksum="c")
    assert list(asyncapi()["components"]["messages"]["status"]["payload"]["properties"]) == list(told)


def test_every_reference_of_the_asyncapi_document_leads_somewhere() -> None:
    document = asyncapi()

    def references(value: object) -> list[str]:
        if isinstance(value, dict):
            return [r for k, v in value.items() for r in ([v] if k == "$ref" else references(v))]
        return [r for item in value for r in references(item)] if isinstance(value, list) else []

    for reference in references(document):
        place = document
        for step in reference.removeprefix("#/").split("/"):
            place = place[step]
