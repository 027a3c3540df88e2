"""Overrides by pydantic-settings: the variable LINEWATCH_CAMERAS__TOP__FPS=5 is `cameras.top.fps: 5`."""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, EnvSettingsSource, SettingsConfigDict

from .document import Mistake, Path
from .settings import Settings

PREFIX = "LINEWATCH_"
BETWEEN_LEVELS = "__"
# Read by the command line, not a key of the file.
_RESERVED = {"LINEWATCH_CONFIG"}


@dataclass(slots=True)
class Overrides:
    """What the environment says: nested values, and which variable said which key."""

    data: dict[str, Any] = field(default_factory=dict)
    variables: dict[Path, str] = field(default_factory=dict)
    mistakes: list[Mistake] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    def variable_of(self, path: Path, depth_in_file: int) -> str | None:
        """The variable that gave the value at `path`, or made a section that the file does not have."""
        for known, name in self.variables.items():
            made = depth_in_file + 1 < len(path) and known[: depth_in_file + 1] == path[: depth_in_file + 1]
            if made or path[: len(known)] == known:
                return name
        return None


class _Settings(Settings, BaseSettings):
    """Only asked for its fields, never made: pydantic-settings wants a class of its own kind."""

    model_config = SettingsConfigDict(extra="forbid")


class _Source(EnvSettingsSource):
    """Lists and mappings may be written as JSON; everything else stays text, a password of digits too."""

    def decode_complex_value(self, field_name: str, field: FieldInfo, value: Any) -> Any:
        text = str(value)
        if not text.lstrip().startswith(("[", "{")):
            return text
        try:
            return json.loads(text)
        except ValueError:
            return text


def read(env: Mapping[str, str]) -> Overrides:
    """The LINEWATCH_ variables of `env`. A variable with levels that is no key is a mistake."""
    found = Overrides()
    ours = {name.lower(): value for name, value in env.items() if _is_override(name, found)}
    source = _Source(
        _Settings, env_prefix=PREFIX, env_nested_delimiter=BETWEEN_LEVELS, env_parse_none_str="null"
    )
    source.env_vars = {name: None if value == "null" else value for name, value in ours.items()}
    found.data = source() if ours else {}
    return found


def _is_override(name: str, found: Overrides) -> bool:
    upper = name.upper()
    if not upper.startswith(PREFIX) or upper in _RESERVED:
        return False
    path: Path = tuple(upper.removeprefix(PREFIX).lower().split(BETWEEN_LEVELS))
    if path[0] in Settings.model_fields:
        found.variables[path] = name
        return True
    _note_stranger(name, str(path[0]), len(path) > 1, found)
    return False


def _note_stranger(name: str, key: str, has_levels: bool, found: Overrides) -> None:
    """Kubernetes sets LINEWATCH_PORT_… for a service of our name: that is no mistake of anybody."""
    close = difflib.get_close_matches(key, Settings.model_fields, 1)
    wish = f", did you mean {close[0]}?" if close else f", expected one of {', '.join(Settings.model_fields)}"
    if has_levels:
        found.mistakes.append(Mistake(f"environment {name}", 0, key, f"unknown key{wish}"))
    elif close:
        found.warnings.append(f"environment {name} is no setting{wish}")


def merged(below: Any, above: Any) -> Any:
    """`above` over `below`, mapping by mapping."""
    if not isinstance(below, dict) or not isinstance(above, dict):
        return above
    return {
        **below,
        **{key: _merged_at(key, below[key], v) if key in below else v for key, v in above.items()},
    }


def _merged_at(key: str, below: Any, above: Any) -> Any:
    """`model: top@7` is short for `model: {ref: top@7}`: a variable for another of its keys leaves that."""
    if key == "model" and isinstance(below, str) and isinstance(above, dict):
        below = {"ref": below}
    elif key == "model" and isinstance(below, dict) and isinstance(above, str):
        above = {"ref": above}
    return merged(below, above)
