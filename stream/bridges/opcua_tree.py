"""The OPC UA address space of one line: what is where, and how it is kept true.

Linewatch                Site, Line, Alive, Heartbeat; Acknowledge
└── Cameras
    └── CAMERA           Ready, Busy, ErrorCode, … of the status; Verdict, ScoreRatio, … of the last result
        └── Result       the last result in the shape of OPC 40100-1 (Machine Vision), ResultDataType
"""

import functools
import math
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any

from asyncua import Node, Server, ua

from ..events import NOT_AVAILABLE, Event
from .sink import Line, Status

NAMESPACE = "urn:linewatch:bridge"
_V = ua.VariantType

# Variables of a camera that say what the status hash says: name, type, key.
_OF_STATUS: tuple[tuple[str, Any, str], ...] = (
    ("Ready", _V.Boolean, "ready"),
    ("Busy", _V.Boolean, "busy"),
    ("ErrorCode", _V.UInt16, "error_code"),
    ("ResultNo", _V.UInt32, "result_no"),
    ("OkCount", _V.UInt32, "ok_count"),
    ("NgCount", _V.UInt32, "ng_count"),
    ("ProcessingMs", _V.Double, "processing_ms"),
    ("ModelVersion", _V.String, "model_version"),
    ("ConfigChecksum", _V.String, "config_checksum"),
)
_OF_RESULT: dict[str, Any] = {
    "Verdict": _V.String,
    "ScoreRatio": _V.Double,
    "Severity": _V.String,
    "Reason": _V.String,
    "PartId": _V.String,
    "CapturedAt": _V.DateTime,
    "Late": _V.Boolean,
}
# OPC 40100-1, ResultDataType; its optional fields that we have nothing for are left out.
_RESULT: dict[str, Any] = {
    "ResultId": _V.String,
    "HasTransferableDataOnFile": _V.Boolean,
    "IsPartial": _V.Boolean,
    "IsSimulated": _V.Boolean,
    "ResultState": _V.Int32,
    "PartId": _V.String,
    "InternalRecipeId": _V.String,
    "InternalConfigurationId": _V.String,
    "JobId": _V.String,
    "CreationTime": _V.DateTime,
    "ResultContent": _V.String,
}
_OF_EVENT: dict[str, Any] = {
    "Camera": _V.String,
    "Kind": _V.String,
    "Phase": _V.String,
    "Verdict": _V.String,
    "Seq": _V.UInt32,
    **_RESULT,
}
_COMPLETED, _PROCESSING = 1, 2
_UA_SEVERITY = {"minor": 300, "major": 600, "critical": 900}


def result_fields(event: Event) -> dict[str, Any]:
    """An event as OPC 40100-1 has a result. `ResultContent` is the whole event as JSON."""
    model = event.model
    return {
        "ResultId": event.id,
        "HasTransferableDataOnFile": event.image is not None,
        "IsPartial": event.phase != "close",
        "IsSimulated": False,
        "ResultState": _COMPLETED if event.phase == "close" else _PROCESSING,
        "PartId": _known(event.part_id),
        "InternalRecipeId": f"{model.name}@{model.version}" if model else _known(event.recipe),
        "InternalConfigurationId": event.config_sha256 or "",
        "JobId": _known(event.job_id),
        "CreationTime": datetime.fromisoformat(event.captured_at),
        "ResultContent": event.json_text(),
    }


class Variables:
    """Named variables of one object; only what changes is written, so that subscriptions stay quiet."""

    def __init__(self, server: Server, types: Mapping[str, Any], nodes: Mapping[str, Node]) -> None:
        self._server, self._types, self._nodes = server, types, nodes
        self._last: dict[str, Any] = {}

    @classmethod
    async def make(
        cls, server: Server, index: int, parent: Node, prefix: str, types: Mapping[str, Any]
    ) -> "Variables":
        """Below `parent`, with the node ids PREFIX.NAME."""
        nodes = {}
        for name, kind in types.items():
            node_id = ua.NodeId(f"{prefix}.{name}", index)
            nodes[name] = await parent.add_variable(
                node_id, ua.QualifiedName(name, index), _empty(kind), kind
            )
        return cls(server, types, nodes)

    async def show(self, values: Mapping[str, Any]) -> None:
        """Write those that differ from what they were."""
        for name, value in values.items():
            if self._last.get(name) != value or name not in self._last:
                data = ua.DataValue(ua.Variant(value, self._types[name]))
                await self._server.write_attribute_value(self._nodes[name].nodeid, data)
                self._last[name] = value


class LineNodes:
    """The line's own variables, and the folder of its cameras."""

    def __init__(self, node: Node, variables: Variables, cameras: Node) -> None:
        self.node, self._variables, self.cameras = node, variables, cameras
        self._beats = 0

    @classmethod
    async def make(cls, server: Server, index: int, line: Line) -> "LineNodes":
        root = await server.nodes.objects.add_object(ua.NodeId("Linewatch", index), f"{index}:Linewatch")
        types = {"Site": _V.String, "Line": _V.String, "Alive": _V.Boolean, "Heartbeat": _V.UInt32}
        variables = await Variables.make(server, index, root, "Linewatch", types)
        await variables.show({"Site": line.site, "Line": line.line, "Alive": False})
        cameras = await root.add_folder(ua.NodeId("Cameras", index), f"{index}:Cameras")
        return cls(root, variables, cameras)

    async def show(self, alive: bool) -> None:
        """The heartbeat counts on while the line can be relied on."""
        self._beats = (self._beats + alive) & 0xFFFFFFFF
        await self._variables.show({"Alive": alive, "Heartbeat": self._beats})


class CameraNodes:
    """One camera's object."""

    def __init__(self, node: Node, status: Variables, last: Variables, result: Variables) -> None:
        self.node = node
        self._status, self._last, self._result = status, last, result
        self._beats = 0

    @classmethod
    async def make(cls, server: Server, index: int, folder: Node, camera: str) -> "CameraNodes":
        node = await folder.add_object(ua.NodeId(camera, index), ua.QualifiedName(camera, index))
        of_status = {name: kind for name, kind, _ in _OF_STATUS} | {"Heartbeat": _V.UInt32}
        status = await Variables.make(server, index, node, camera, of_status)
        last = await Variables.make(server, index, node, camera, _OF_RESULT)
        result_node = await node.add_object(ua.NodeId(f"{camera}.Result", index), f"{index}:Result")
        result = await Variables.make(server, index, result_node, f"{camera}.Result", _RESULT)
        return cls(node, status, last, result)

    async def status(self, status: Status, alive: bool) -> None:
        """While the line can't be relied on nobody is ready, and the rest stays as it was; nor is a camera
        that the line has no more, and says nothing of.
        """
        told = {name: _read(kind, status[key]) for name, kind, key in _OF_STATUS if key in status}
        lives = alive and "Ready" in told
        self._beats = (self._beats + lives) & 0xFFFFFFFF
        told["Heartbeat"] = self._beats
        await self._status.show(told if lives else told | {"Ready": False, "Busy": False})

    async def event(self, event: Event, *, is_result: bool, late: bool) -> None:
        """The last result, if this is one."""
        if not is_result:
            return
        await self._last.show(
            {
                "Verdict": event.verdict,
                "ScoreRatio": event.score_ratio or 0.0,
                "Severity": event.severity,
                "Reason": event.reason or "",
                "PartId": _known(event.part_id),
                "CapturedAt": datetime.fromisoformat(event.captured_at),
                "Late": late,
            }
        )
        await self._result.show(result_fields(event))


class ResultEvents:
    """Events of the type LinewatchResultEventType, emitted by the Server object; the source is the camera,
    where it has a node.
    """

    def __init__(self, generators: dict[str, Any], make_another: Callable[[], Awaitable[Any]]) -> None:
        self._generators, self._make_another = generators, make_another

    @classmethod
    async def make(cls, server: Server, index: int, cameras: Mapping[str, Node]) -> "ResultEvents":
        kind = await server.create_custom_event_type(
            index, "LinewatchResultEventType", ua.ObjectIds.BaseEventType, list(_OF_EVENT.items())
        )
        made = {}
        for camera, node in cameras.items():
            # One each: cameras are delivered side by side, and asyncua keeps one event object a generator.
            made[camera] = await server.get_event_generator(kind)
            made[camera].event.SourceNode, made[camera].event.SourceName = node.nodeid, camera
        return cls(made, functools.partial(server.get_event_generator, kind))

    async def send(self, event: Event) -> None:
        """To every subscription that watches the Server object."""
        if event.camera not in self._generators:
            # The line's own, or of a camera that runs no more: the source is the Server.
            self._generators[event.camera] = await self._make_another()
        generator = self._generators[event.camera]
        fields = {
            "Camera": event.camera,
            "Kind": event.kind,
            "Phase": event.phase,
            "Verdict": event.verdict,
            "Seq": event.seq & 0xFFFFFFFF,
            **result_fields(event),
        }
        for name, value in fields.items():
            setattr(generator.event, name, ua.Variant(value, _OF_EVENT[name]))
        generator.event.Severity = _UA_SEVERITY[event.severity] if event.verdict != "ok" else 100
        await generator.trigger(message=f"{event.camera} {event.type} {event.verdict}")


def _known(text: str) -> str:
    return "" if text == NOT_AVAILABLE else text


def _empty(kind: Any) -> Any:
    if kind == _V.String:
        return ""
    return datetime(1970, 1, 1) if kind == _V.DateTime else _read(kind, "0")


def _read(kind: Any, text: str) -> Any:
    """A status field as its variable's type; what can't be read is zero."""
    if kind == _V.String:
        return text
    try:
        number = float(text)
    except ValueError:
        number = 0.0
    if not math.isfinite(number):
        number = 0.0
    if kind == _V.Boolean:
        return number != 0
    if kind == _V.Double:
        return number
    return max(0, min(round(number), 0xFFFF if kind == _V.UInt16 else 0xFFFFFFFF))
