"""Commands that others send: read, carried out, and answered `done` or `refused` with the reason.

    threshold   value: a raw alarm level, or `default`: what the config or the model says
    model       value: NAME@7 or NAME@latest; ends a recipe
    recipe      the same, or NAME alone for its latest; its NAME stands in the camera's events from then on
    enable      inspect the camera again
    disable     stay connected, show pictures, inspect nothing; its triggers are answered unknown

What is changed holds until it is changed again or the program ends: the config file is what stays. An entry
is `{command, camera, value, id}`; without `id` the answer carries the entry's own. The answer is the event
`system.command`, in the event stream and in `…:answers`: its `detail` holds id, command, camera, value and
answer, its `reason` is for people. One that meets a bug is refused, and the log says where. A command that
was carried out just before a crash is carried out, and answered, again. Who may send commands is for the
broker's ACL to say.
"""

import logging
import math
from collections.abc import Awaitable, Callable, Mapping, Set
from dataclasses import dataclass

from engine.core import ModelInfo

from .inbox import Malformed
from .recorder import ANSWERS, Recorder
from .web.errors import Refused

log = logging.getLogger(__name__)

_LONGEST = 128


@dataclass(frozen=True, slots=True)
class Command:
    """What somebody asks for; `id` is theirs."""

    command: str
    camera: str
    value: str
    id: str


@dataclass(frozen=True, slots=True)
class Controls:
    """What the line can do for a command. Both models' calls raise Refused."""

    set_threshold: Callable[[str, float | None], Awaitable[ModelInfo]]
    choose_model: Callable[[str, str], Awaitable[ModelInfo]]
    enable: Callable[[str, bool], None]


class Control:
    """Carries out commands one after the other. Event loop only."""

    def __init__(self, cameras: Set[str], controls: Controls, recorder: Recorder) -> None:
        """`cameras` are those that run; its owner may change it."""
        self._cameras = cameras
        self._controls = controls
        self._recorder = recorder
        self._verbs: Mapping[str, Callable[[Command], Awaitable[str]]] = {
            "threshold": self._threshold,
            "model": self._model,
            "recipe": self._recipe,
            "enable": self._enable,
            "disable": self._disable,
        }

    async def take(self, entry: str, fields: Mapping[str, str]) -> bool:
        """A command from the stream; always settled when this returns. Raises Malformed."""
        command = parse_command(entry, fields)
        try:
            answer, reason = "done", await self._carry_out(command)
        except Refused as refused:
            answer, reason = "refused", str(refused)
        except Exception as bug:
            # It would come again at the next start, and end the line again: a loop that inspects nothing.
            log.exception("command %s for camera %s met a bug", command.command, command.camera)
            # Its own words may hold an address with a password; the log strikes such out.
            answer, reason = "refused", f"a bug of Linewatch ({type(bug).__name__}); its log says where"
        log.info("command %s for camera %s is %s: %s", command.command, command.camera, answer, reason)
        detail = {
            "id": command.id,
            "command": command.command,
            "camera": command.camera,
            "value": command.value,
            "answer": answer,
        }
        self._recorder.system("command", reason, detail, streams=ANSWERS)
        return True

    async def _carry_out(self, command: Command) -> str:
        verb = self._verbs.get(command.command)
        if verb is None:
            raise Refused(f"there is no command {command.command}; there is: {', '.join(self._verbs)}")
        if command.camera not in self._cameras:
            known = ", ".join(sorted(self._cameras))
            raise Refused(f"there is no camera {command.camera} running on this line; there is: {known}")
        return await verb(command)

    async def _threshold(self, command: Command) -> str:
        info = await self._controls.set_threshold(command.camera, _level(command.value))
        return f"the alarm level is {info.threshold:.4g}"

    async def _model(self, command: Command) -> str:
        info = await self._controls.choose_model(command.camera, command.value)
        self._recorder.drafts.recipes.pop(command.camera, None)
        return f"inspected with {info.name}@{info.version}"

    async def _recipe(self, command: Command) -> str:
        name, _, version = command.value.partition("@")
        info = await self._controls.choose_model(command.camera, f"{name}@{version or 'latest'}")
        self._recorder.drafts.recipes[command.camera] = name
        return f"recipe {name}, inspected with {info.name}@{info.version}"

    async def _enable(self, command: Command) -> str:
        self._controls.enable(command.camera, True)
        return "inspected"

    async def _disable(self, command: Command) -> str:
        self._controls.enable(command.camera, False)
        return "not inspected"


def parse_command(entry: str, fields: Mapping[str, str]) -> Command:
    """Raises Malformed for what is no command; one that is unknown is one all the same."""
    texts = {name: fields.get(name, "") for name in ("command", "camera", "value", "id")}
    for name, text in texts.items():
        if len(text) > _LONGEST or not text.isprintable():
            raise Malformed(f"{name} must be printable text of at most {_LONGEST} characters")
    for name in ("command", "camera"):
        if not texts[name]:
            raise Malformed(f"the field {name} is missing")
    return Command(texts["command"], texts["camera"], texts["value"], texts["id"] or entry)


def _level(text: str) -> float | None:
    if text == "default":
        return None
    try:
        level = float(text)
    except ValueError:
        level = math.nan
    if not math.isfinite(level):
        raise Refused(f"the value {text!r} is not an alarm level; send a number, or default")
    return level
