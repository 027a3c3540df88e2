"""The channels of a line as AsyncAPI 3.0: what `linewatch schema asyncapi` prints and stream/asyncapi.json
holds.
"""

from typing import Any

from .events import FLAT, json_schema

_CHANNELS: dict[str, tuple[str, str, str]] = {
    # name: (address, action of Linewatch, what it is for)
    "events": ("linewatch:{site}:{line}:events", "send", "stream: everything that was decided"),
    "verdicts": ("linewatch:{site}:{line}:verdicts", "send", "stream: one answer to each trigger"),
    "dead": (
        "linewatch:{site}:{line}:dead",
        "send",
        "stream: what a reader could not digest, with dead_reason",
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
        "channels": {name: _channel(address, what) for name, (address, _, what) in _CHANNELS.items()},
        "operations": {
            f"{action}_{name}": {"action": action, "channel": {"$ref": f"#/channels/{name}"}}
            for name, (_, action, _) in _CHANNELS.items()
        },
        "components": {
            "messages": {"event": _message()},
            "schemas": {"event": _relocated(schema), **{k: _relocated(v) for k, v in definitions.items()}},
        },
    }


def _channel(address: str, what: str) -> dict[str, Any]:
    return {
        "address": address,
        "description": what,
        "parameters": {
            "site": {"description": "site of the config file"},
            "line": {"description": "line of the config file"},
        },
        "messages": {"event": {"$ref": "#/components/messages/event"}},
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
