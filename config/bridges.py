"""The section `bridges`: what a sink's package says of its options is checked like every other key."""

import functools
import importlib.util
import shlex
import sys
from collections.abc import Iterator, Mapping
from importlib.metadata import entry_points
from pathlib import Path
from typing import Any, Literal, Protocol, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    GetJsonSchemaHandler,
    PrivateAttr,
    TypeAdapter,
    ValidationInfo,
    create_model,
    field_validator,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, PydanticCustomError

from .fields import LocalPath, Section
from .sources import hide_secrets, installed

GROUP = "linewatch.sinks"


class SinkModule(Protocol):
    """What config reads of the module that an entry point of `linewatch.sinks` names."""

    Options: type[BaseModel]
    """The bridge's own keys. An attribute `named_cameras` (names, or name → its key below the bridge) is
    checked against the file's cameras.
    """
    NEEDS: dict[str, str]
    """Module that must be importable → what brings it, as pip is told."""


class BridgeSettings(Section):
    """A sink that an installed package provides (entry-point group `linewatch.sinks`), with its options."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["mqtt"])
    """The entry point's name."""
    autostart: bool = True
    """`linewatch run` starts it; false: only `linewatch bridge NAME` does, here or on another machine."""
    state_dir: LocalPath = Path("var/bridges")
    """Where it notes how far it came, so that a replay of the broker is not passed on twice."""

    _options: BaseModel | None = PrivateAttr(None)

    @field_validator("type")
    @classmethod
    def _is_installed(cls, kind: str) -> str:
        known = installed(GROUP)
        if kind not in known:
            raise PydanticCustomError(
                "bridge_type_unknown", "no bridge of this type is installed", {"known": list(known)}
            )
        if why := _unusable(kind):
            raise PydanticCustomError("bridge_type", "{why}", {"why": why})
        return kind

    @model_validator(mode="before")
    @classmethod
    def _hide_secrets(cls, raw: Any, info: ValidationInfo) -> Any:
        return hide_secrets(raw, info)

    @model_validator(mode="after")
    def _check_options(self, info: ValidationInfo) -> Self:
        # As a mapping by type: so a mistake's place tells as what these keys were read (see mistakes.py).
        kind: Any = options_of(self.type)
        by_type: TypeAdapter[dict[str, BaseModel]] = TypeAdapter(dict[str, kind])
        checked = by_type.validate_python({self.type: self.model_extra or {}}, context=info.context)
        self._options = checked[self.type]
        return self

    @classmethod
    def __get_pydantic_json_schema__(
        cls, core_schema: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        """For editors: the keys of each type that is installed here."""
        return {"oneOf": [handler(_with_options(kind).__pydantic_core_schema__) for kind in installed(GROUP)]}

    @property
    def options(self) -> BaseModel:
        """The type's own keys, checked: an instance of its module's `Options`."""
        assert self._options is not None
        return self._options


@functools.cache
def load(kind: str) -> Any:
    """The module that a `type` names; raises ImportError or AttributeError where it can't be had."""
    (point, *_) = entry_points(group=GROUP, name=kind)
    return point.load()


def options_of(kind: str) -> type[BaseModel]:
    """The options' class of an installed `type`."""
    options: type[BaseModel] = load(kind).Options
    return options


class _AnyKeys(Section):
    """A sink's options that can't be loaded here."""

    model_config = ConfigDict(extra="allow")


def _with_options(kind: str) -> type[BaseModel]:
    """All keys of a bridge of this type as one section, for its schema alone."""
    try:
        base = options_of(kind)
    except (ImportError, AttributeError):
        base = _AnyKeys
    fields: dict[str, Any] = {name: (f.annotation, f) for name, f in BridgeSettings.model_fields.items()}
    fields["type"] = (Literal[kind], fields["type"][1])
    return create_model(f"Bridge_{kind}", __base__=base, __doc__=f"A bridge of type {kind}.", **fields)


def _unusable(kind: str) -> str | None:
    """Why an installed type can't be used here, as a sentence."""
    try:
        module: SinkModule = load(kind)
        module.NEEDS.items()
        options_of(kind)
    except (ImportError, AttributeError) as error:
        return f"the bridge {kind} can't be loaded: {error}"
    return None


def lacking(raw: Any) -> Iterator[tuple[str, str]]:
    """The bridges of a raw file whose type needs what is not installed: name, sentence. Apart from the other
    checks, so that what else is wrong with such a bridge is said too.
    """
    section = raw.get("bridges") if isinstance(raw, Mapping) else None
    for name, bridge in section.items() if isinstance(section, Mapping) else ():
        kind = bridge.get("type") if isinstance(bridge, Mapping) else None
        if not isinstance(kind, str) or kind not in installed(GROUP) or _unusable(kind):
            continue
        needs: dict[str, str] = load(kind).NEEDS
        missing = [needed for needed in needs if importlib.util.find_spec(needed) is None]
        if missing:
            # The pip of this very environment: another one would install for another Python.
            pip = f"{shlex.quote(sys.executable)} -m pip install '{needs[missing[0]]}'"
            yield name, f"a bridge of type {kind} needs {missing[0]}, which is not installed: {pip}"
