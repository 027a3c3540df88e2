"""What an OPC UA client may ask of a camera: methods that become commands, answered with what became of them.

Each returns Answer (done, refused, unanswered) and Reason. Arguments of another type than declared are
BadInvalidArgument; a value that can't be is the line's to refuse.
"""

import functools
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

from asyncua import Node, ua

from .sink import Answer, Line, PeerAway, unfit

log = logging.getLogger(__name__)

_V = ua.VariantType


def _argument(name: str, kind: Any, text: str) -> ua.Argument:
    argument = ua.Argument()
    argument.Name = name
    argument.DataType = ua.NodeId(kind.value)
    argument.ValueRank = -1
    argument.ArrayDimensions = []
    argument.Description = ua.LocalizedText(text)
    return argument


@dataclass(frozen=True, slots=True)
class _Method:
    name: str
    arguments: Sequence[ua.Argument]
    call: Callable[[Line, str, list[Any]], Awaitable[Answer]]


async def _set_threshold(line: Line, camera: str, values: list[Any]) -> Answer:
    return await line.ask("threshold", camera, repr(float(values[0])))


async def _reset_threshold(line: Line, camera: str, values: list[Any]) -> Answer:
    return await line.ask("threshold", camera, "default")


async def _select_recipe(line: Line, camera: str, values: list[Any]) -> Answer:
    return await line.ask("recipe", camera, str(values[0] or ""))


async def _set_enabled(line: Line, camera: str, values: list[Any]) -> Answer:
    return await line.ask("enable" if values[0] else "disable", camera, "")


async def _trigger(line: Line, camera: str, values: list[Any]) -> Answer:
    part, job = (str(value or "") for value in values)
    if why := unfit("PartId", part) or unfit("JobId", job, needed=False):
        return Answer("refused", why)
    if camera not in line.triggered:
        return Answer("refused", f"camera {camera} takes no triggers; it needs frames: every")
    try:
        await line.trigger(camera, part, job)
    except PeerAway as away:
        return Answer("unanswered", str(away))
    return Answer("done", "the verdict comes as an event")


_METHODS = (
    _Method("SetThreshold", [_argument("Level", _V.Double, "raw alarm level")], _set_threshold),
    _Method("ResetThreshold", [], _reset_threshold),
    _Method("SelectRecipe", [_argument("Model", _V.String, "NAME@7 or NAME@latest")], _select_recipe),
    _Method("SetEnabled", [_argument("Enabled", _V.Boolean, "false: not inspected")], _set_enabled),
    _Method(
        "Trigger",
        [_argument("PartId", _V.String, "of the part"), _argument("JobId", _V.String, "or empty")],
        _trigger,
    ),
)
_OUTPUTS = [
    _argument("Answer", _V.String, "done, refused or unanswered"),
    _argument("Reason", _V.String, "for people"),
]


async def add_methods(index: int, node: Node, line: Line, camera: str) -> None:
    """The methods of one camera, with the node ids CAMERA.NAME."""
    for method in _METHODS:
        call = functools.partial(method.call, line, camera)
        await _add(index, node, f"{camera}.{method.name}", method.arguments, call)


async def add_acknowledge(index: int, node: Node, acknowledge: Callable[[str], Answer]) -> None:
    """The line's own method, Linewatch.Acknowledge, for `handshake: client`."""

    async def call(values: list[Any]) -> Answer:
        return acknowledge(str(values[0] or ""))

    arguments = [_argument("ResultId", _V.String, "of the event that was taken")]
    await _add(index, node, "Linewatch.Acknowledge", arguments, call)


async def _add(
    index: int,
    node: Node,
    node_id: str,
    arguments: Sequence[ua.Argument],
    call: Callable[[list[Any]], Awaitable[Answer]],
) -> None:
    await node.add_method(
        ua.NodeId(node_id, index),
        ua.QualifiedName(node_id.rpartition(".")[2], index),
        _callback(node_id, arguments, call),
        list(arguments),
        _OUTPUTS,
    )


def _callback(
    name: str, declared: Sequence[ua.Argument], call: Callable[[list[Any]], Awaitable[Answer]]
) -> Callable[..., Awaitable[Any]]:
    kinds = [ua.VariantType(argument.DataType.Identifier) for argument in declared]

    async def called(parent: ua.NodeId, *arguments: ua.Variant) -> Any:
        if len(arguments) != len(kinds):
            return ua.StatusCode(ua.StatusCodes.BadArgumentsMissing)
        if any(a.VariantType != kind or a.is_array for a, kind in zip(arguments, kinds, strict=True)):
            log.warning("OPC UA method %s is refused: an argument is of another type than declared", name)
            return ua.StatusCode(ua.StatusCodes.BadInvalidArgument)
        answer = await call([argument.Value for argument in arguments])
        if answer.answer == "refused":
            log.warning("OPC UA method %s is refused: %s", name, answer.reason)
        return [ua.Variant(answer.answer, _V.String), ua.Variant(answer.reason, _V.String)]

    return called
