"""The channels of a line as AsyncAPI 3.0: what `linewatch schema asyncapi` prints and stream/asyncapi.json
holds.
"""

from typing import Any

from .events import FLAT, json_schema

_CHANNELS: dict[str, tuple[str, str, str]] = {
    # name: (message, action of Linewatch, what it is for); the address ends in the name
    "events": ("event", "send", "stream: everything that was decided"),
    "verdicts": ("event", "send", "stream: one answer to each trigger"),
    "triggers": ("trigger", "receive", "stream: parts to look at"),
    "commands": ("command", "receive", "stream: what a recipe change or a person wants"),
    "answers": ("event", "send", "stream: one system.command to each command, done or refused in its detail"),
    "dead": ("event", "send", "stream: what a reader could not digest, with dead_reason"),
}

# Fields of what we read: (name, what it is, whether it must be there).
_READ: dict[str, tuple[tuple[str, str, bool], ...]] = {
    "trigger": (
        ("camera", "which camera sees the part", True),
        ("part_id", "1 to 128 printable characters; sent again within 10 s it is answered once", True),
        ("job_id", "goes into the verdict", False),
        ("recipe", "goes into the verdict", False),
        ("at", "UTC, RFC 3339 or seconds since 1970: the first picture from then on decides", False),
    ),
    "command": (
        ("command", "threshold, model, enable or disable", True),
        ("camera", "which camera", True),
        ("value", "an alarm level or default; NAME@7 or NAME@latest", False),
        ("id", "the sender's, for the answer", False),
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
            "messages": {"event": _message(), **{name: _read_message(name) for name in _READ}},
            "schemas": {"event": _relocated(schema), **{k: _relocated(v) for k, v in definitions.items()}},
        },
    }


def _channel(name: str, message: str, what: str) -> dict[str, Any]:
    return {
        "address": f"linewatch:{{site}}:{{line}}:{name}",
        "description": what,
        "parameters": {
            "site": {"description": "site of the config file"},
            "line": {"description": "line of the config file"},
        },
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


def _read_message(name: str) -> dict[str, Any]:
    fields = _READ[name]
    return {
        "name": name,
        "contentType": "application/vnd.redis.stream-entry",
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
