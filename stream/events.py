"""The wire form of an event, both ways: flat string fields for cheap filtering, and `data`, the whole as
JSON.

An entry of the stream holds the fields of FLAT (those that have a value) and `data`. A reader who wants one
fact filters on a flat field; everybody else parses `data` and gets an `Event` back. Fields are only ever
added within one schema number, so a reader ignores what it does not know.

EventError
 └── ForeignEntry   the entry is not one of ours: no `data`, or another schema
"""

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError

SCHEMA: Literal["defect/1"] = "defect/1"
NOT_AVAILABLE = "NA"
NO_CAMERA = "-"

Kind = Literal["defect", "part", "camera", "system"]
Phase = Literal["open", "update", "close"]
Verdict = Literal["ng", "ok", "unknown"]
Severity = Literal["minor", "major", "critical"]
Clock = Literal["ntp", "camera", "host"]
Uuid = Annotated[str, Field(pattern=r"^[0-9a-f]{8}-[0-9a-f]{4}-7[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$")]


def _a_moment(text: str) -> str:
    datetime.fromisoformat(text)  # a 13th month has the form as well
    return text


Utc = Annotated[str, Field(pattern=r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z$"), AfterValidator(_a_moment)]

# What stands beside `data` as fields of its own: what a gateway routes and filters by.
FLAT = (
    "schema",
    "id",
    "seq",
    "kind",
    "type",
    "phase",
    "defect_id",
    "site",
    "line",
    "camera",
    "verdict",
    "severity",
    "score_ratio",
    "captured_at",
    "published_at",
    "part_id",
    "job_id",
    "recipe",
    "reason",
)


class EventError(Exception):
    """Base of what is wrong with an event; its text is one sentence for a person."""

    user_message = True


class ForeignEntry(EventError):
    """An entry of our stream that we did not write, or that a newer Linewatch wrote."""


class _Wire(BaseModel):
    model_config = ConfigDict(frozen=True, extra="ignore", populate_by_name=True)


class Region(_Wire):
    """One connected region of a defect, in the frame that decided."""

    box: tuple[float, float, float, float] = Field(
        description="x0, y0, x1, y1 as shares of the frame, 0 to 1"
    )
    box_px: tuple[int, int, int, int] = Field(
        description="x0, y0, x1, y1 in frame pixels, x1 and y1 exclusive"
    )
    area_px: int = Field(ge=0, description="pixels of the frame above the alarm level")
    peak: float = Field(description="highest score ratio in the region; 1.0 is the alarm level")
    centroid: tuple[float, float] = Field(description="x, y as shares of the frame")
    centroid_px: tuple[float, float] = Field(description="x, y in frame pixels")


class Model(_Wire):
    """Which model decided."""

    name: str
    version: int
    sha256: str


class Event(_Wire):
    """One event. Times are RFC 3339, UTC, microseconds; null where nothing measured it."""

    schema_: Literal["defect/1"] = Field(default=SCHEMA, alias="schema", description="schema and its version")
    id: Uuid = Field(description="UUIDv7; the same over every retry and replay: use it to be idempotent")
    seq: int = Field(ge=0, description="counts the events of one camera from 1 without gaps, over restarts")
    kind: Kind
    type: str = Field(description="kind and what happened, such as defect.open, camera.down, system.dropped")
    phase: Phase = Field(description="a fact without duration (a verdict, a system event) is a close")
    defect_id: Uuid = Field(description="the same from open to close; for a fact without duration its own id")
    site: str
    line: str
    camera: str = Field(description="- for kind system")
    verdict: Verdict = "unknown"
    severity: Severity = "minor"
    reason: str | None = Field(default=None, description="why it closed, why unknown, why a camera is down")
    score: float | None = Field(default=None, description="raw, of this model only; on close the worst")
    threshold: float | None = Field(default=None, description="raw alarm level of this model")
    score_ratio: float | None = Field(default=None, description="1.0 is the alarm level; on close the worst")
    captured_at: Utc = Field(description="when the deciding frame was taken")
    detected_at: Utc = Field(description="when it was decided")
    published_at: Utc | None = Field(default=None, description="when this entry was sent to the broker")
    opened_at: Utc | None = Field(
        default=None, description="captured_at of the frame that opened the incident"
    )
    clock: Clock = Field(default="host", description="whose clock captured_at is")
    frames: int | None = Field(default=None, description="frames in which the defect was seen so far")
    regions: tuple[Region, ...] = ()
    part_id: str = NOT_AVAILABLE
    job_id: str = NOT_AVAILABLE
    recipe: str = NOT_AVAILABLE
    model: Model | None = None
    config_sha256: str | None = None
    image: str | None = Field(default=None, description="relative URL of the picture")
    heatmap: str | None = Field(default=None, description="relative URL of the heat map")
    latency_ms: dict[str, float] = Field(default_factory=dict, description="milliseconds per stage")
    detail: dict[str, int | float | str] = Field(
        default_factory=dict, description="numbers of a system event; the trigger that a verdict answers"
    )

    def json_text(self) -> str:
        """The event as the JSON object that `data` holds."""
        return self.model_dump_json(by_alias=True)


def rfc3339(utc_s: float) -> str:
    """UTC seconds as RFC 3339 with microseconds, always 27 characters, so that text order is time order."""
    return datetime.fromtimestamp(utc_s, UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def utc_seconds(text: str) -> float:
    """The way back from `rfc3339`; raises ValueError."""
    return datetime.fromisoformat(text).timestamp()


def entry_fields(data: str, published_at_s: float) -> dict[str, str]:
    """A stored event as the fields of a stream entry, stamped with the moment it is sent.

    `published_at` is not stored: it is the truth about this entry, and a retry is another moment.
    """
    event = json.loads(data)
    event["published_at"] = rfc3339(published_at_s)
    event["latency_ms"]["publish"] = round((published_at_s - utc_seconds(event["detected_at"])) * 1000, 3)
    fields = {name: str(event[name]) for name in FLAT if event.get(name) is not None}
    fields["data"] = json.dumps(event, separators=(",", ":"), ensure_ascii=False)
    return fields


def parse_entry(fields: Mapping[Any, Any]) -> Event:
    """The event of an entry (names and values str or bytes); raises ForeignEntry or EventError."""
    data = fields.get("data", fields.get(b"data"))
    if data is None:
        raise ForeignEntry("the entry has no field `data`: another program wrote it")
    return parse(data)


def parse(data: str | bytes) -> Event:
    """The event of a JSON text; raises ForeignEntry for another schema, EventError for a broken one."""
    try:
        return Event.model_validate_json(data)
    except ValidationError as error:
        mistakes = error.errors(include_url=False, include_input=False)
        if any(m["loc"] in ((), ("schema",)) for m in mistakes):
            raise ForeignEntry(
                f"the entry is not an event of schema {SCHEMA}: another program or a newer one wrote it; "
                "update this reader"
            ) from None
        where = ", ".join(".".join(map(str, m["loc"])) + ": " + m["msg"] for m in mistakes)
        raise EventError(f"the event does not fit schema {SCHEMA}: {where}") from None


def json_schema() -> dict[str, Any]:
    """JSON Schema (2020-12) of `data`; stream/event.schema.json is this, written down."""
    schema = Event.model_json_schema(by_alias=True)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "$id": "https://linewatch.invalid/schema/defect-1.json",
        **schema,
        "title": "Linewatch event, schema defect/1",
    }
