"""The channels of a line as AsyncAPI 3.0: what `linewatch schema asyncapi` prints and stream/asyncapi.json
holds.
"""

from typing import Any

from .events import FLAT, json_schema

_CHANNELS: dict[str, tuple[str, str, str]] = {
    # name: (message, action of Linewatch, what it is for); the key ends in the name
    "events": ("event", "send", "stream: everything that was decided"),
    "verdicts": ("event", "send", "stream: one answer to each trigger"),
    "triggers": ("trigger", "receive", "stream: parts to look at"),
    "commands": ("command", "receive", "stream: what a recipe change or a person wants"),
    "answers": ("event", "send", "stream: one system.command to each command, done or refused in its detail"),
    "dead": ("letter", "send", "stream: what a reader could not digest, and why"),
    "status": ("status", "send", "hash of one camera, written each second: HGETALL, the present only"),
    "heartbeat": ("heartbeat", "send", "key that expires: while it is absent, do not rely on the line"),
    "owner": ("claim", "send", "key that expires: which process speaks for the line, for a second one"),
    "cameras": ("cameras", "send", "key: which cameras have a status"),
    "report": (
        "report",
        "send",
        "key that expires: what a bridge tells its line, for the line's own metrics",
    ),
    "reader": ("claim", "send", "key that expires: which process is the bridge, for a second one"),
}
# What stands between the line and the name in the key.
_BETWEEN = {"status": ["{camera}"], "report": ["bridge", "{bridge}"], "reader": ["bridge", "{bridge}"]}
_PLAIN: dict[str, dict[str, Any]] = {
    "heartbeat": {"contentType": "text/plain", "payload": {"type": "string", "const": "1"}},
    "claim": {"contentType": "application/json", "payload": {"type": "object"}},
    "cameras": {
        "contentType": "application/json",
        "payload": {"type": "array", "items": {"type": "string"}, "uniqueItems": True},
    },
    "report": {"contentType": "application/json", "payload": {"type": "object"}},
}

# Fields of what is no event: (name, what it is, whether it must be there).
_FIELDS: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "trigger": (
        ("camera", "which camera sees the part", True),
        ("part_id", "1 to 128 printable characters; sent again within 10 s it is answered once", True),
        ("id", "the sender's; sent again with the same part_id it is answered once, however late", False),
        ("job_id", "goes into the verdict", False),
        ("recipe", "goes into the verdict", False),
        ("picture", "PNG or JPEG, 16x16 to 100 megapixels, 32 MiB at most: decides, not the camera's", False),
        ("at", "UTC, RFC 3339 or seconds since 1970: the first picture from then on decides", False),
    ),
    "command": (
        ("command", "threshold, model, recipe, enable or disable", True),
        ("camera", "which camera", True),
        ("value", "an alarm level or default; NAME@7 or NAME@latest; for a recipe NAME is enough", False),
        ("id", "the sender's, for the answer", False),
    ),
    # The fields of the entry itself stand beside these.
    "letter": (
        ("dead_reason", "why, for people", True),
        ("dead_stream", "key of the stream that held the entry", True),
        ("dead_group", "consumer group that gave it up", True),
        ("dead_entry", "its entry id there", True),
    ),
    "status": (
        ("ready", "1: what this camera sees is inspected and told; 0: do not rely on it", True),
        ("busy", "1: something is being inspected, or a trigger waits", True),
        ("result_no", "results since start: verdicts of a triggered camera, pictures of another", True),
        ("ok_count", "of these ok", True),
        ("ng_count", "of these ng", True),
        (
            "error_code",
            "0 well, 1 connecting, 2 down, 3 frozen, 4 refused, 10 no model, 11 disabled, 12 events can't be "
            "stored, 13 device stuck, 14 pictures come and none is inspected, 15 triggers can't be read",
            True,
        ),
        ("processing_ms", "time of the last inspection", True),
        ("config_checksum", "SHA-256 of the settings", True),
        ("model_version", "NAME@7, or nothing", True),
    ),
}


def asyncapi() -> dict[str, Any]:
    """The document; messages point to the event's JSON Schema, which stands in it whole."""
    schema = json_schema()
    definitions = schema.pop("$defs")
    return {
        "asyncapi": "3.0.0",
        "info": {
            "title": "Linewatch events",
            "version": "1.0.0",
            "description": "Entries of Redis streams: flat string fields to filter by, and `data`, all "
            "as JSON. At least once, in order for each camera; be idempotent by `id`, find loss by `seq`.",
        },
        "servers": {"broker": {"host": "127.0.0.1:6379", "protocol": "redis"}},
        "channels": {name: _channel(name, message, what) for name, (message, _, what) in _CHANNELS.items()},
        "operations": {
            f"{action}_{name}": {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
            for name, (_, action, _) in _CHANNELS.items()
        },
        "components": {
            "messages": {
                "event": _message(),
                **{name: _plain_message(name) for name in _FIELDS},
                **{name: {"name": name, **said} for name, said in _PLAIN.items()},
            },
            "schemas": {"event": _relocated(schema), **{k: _relocated(v) for k, v in definitions.items()}},
        },
    }


def _channel(name: str, message: str, what: str) -> dict[str, Any]:
    parts = ["linewatch", "{site}", "{line}", *_BETWEEN.get(name, []), name]
    places = [part.strip("{}") for part in parts if part.startswith("{")]
    return {
        "address": ":".join(parts),
        "description": what,
        "parameters": {place: {"description": f"{place} of the config file"} for place in places},
        "messages": {message: {"$ref": f"#/components/messages/{message}"}},
    }


def _message() -> dict[str, Any]:
    flat = {name: {"type": "string"} for name in FLAT}
    data = {"type": "string", "contentMediaType": "application/json", "contentSchema": _ref("event")}
    return {
        "name": "event",
        "contentType": "application/vnd.redis.stream-entry",
        "payload": {
            "type": "object",
            "required": ["schema", "id", "seq", "data"],
            "properties": flat | {"data": data},
        },
    }


def _plain_message(name: str) -> dict[str, Any]:
    fields = _FIELDS[name]
    return {
        "name": name,
        "contentType": "application/vnd.redis." + ("hash" if name == "status" else "stream-entry"),
        "payload": {
            "type": "object",
            "required": [field for field, _, needed in fields if needed],
            "properties": {field: {"type": "string", "description": what} for field, what, _ in fields},
        },
    }


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _relocated(schema: Any) -> Any:
    """The same schema with its references pointing to where it stands in this document."""
    if isinstance(schema, dict):
        return {
            key: _ref(value.removeprefix("#/$defs/"))["$ref"] if key == "$ref" else _relocated(value)
            for key, value in schema.items()
            if key not in ("$schema", "$id")
        }
    return [_relocated(item) for item in schema] if isinstance(schema, list) else schema
